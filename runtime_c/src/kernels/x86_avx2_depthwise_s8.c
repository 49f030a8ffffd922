/* SPDX-License-Identifier: Apache-2.0
 *
 * Int8 depthwise convolution of the usual shapes for AVX2. VPMADDWD multiplies 16 pairs of int16 and adds each pair to an int32, so rows
 * are taken in pairs: a tile of input is copied to scratch with padding in place, row 2j between row 2j + 1, 8 channels to a vector. With
 * stride 1 two output rows share the pairs that they read,
 *     row 0: (x0, x1) . (w0, w1) + (x2, x3) . (w2, 0)
 *     row 1: (x0, x1) . (0, w0) + (x2, x3) . (w1, w2)
 * (3 kernel rows; 5 alike); with stride 2 an output row begins with a pair of its own. So each vector is loaded, multiplied and added,
 * nothing is rearranged. All sums are exact. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include <stdbool.h>

#include "x86_avx2.h"
#include "x86_avx2_depthwise.h"

enum {
    CHANNELS = 16,     /* copied together, */
    HALF = 8,          /* and multiplied in halves */
    VECTOR = 2 * HALF, /* int16 of a pair of pixels */
    PIXELS = 4,        /* outputs at a time: two rows, two columns */
    PAIRS = 320,       /* pairs of pixels in a tile, both halves most of a first-level cache */
    MAX_COLUMNS = 16,  /* outputs of a tile's row: narrow tiles are high, and rows above each other share input */
    MAX_KERNEL = 5,
    MAX_WEIGHTS = 2 * 3 * 5,       /* vectors of a half: two output rows, 3 pairs of rows, 5 columns */
    OTHER_PIXELS = PAIRS * VECTOR, /* int16 from the first half to the second */
    OTHER_WEIGHTS = MAX_WEIGHTS * VECTOR
};

_Static_assert(4 * (OTHER_PIXELS + OTHER_WEIGHTS) <= E8_DEPTHWISE_SCRATCH, "a tile fits the scratch");
_Static_assert(4 * ((MAX_COLUMNS - 1) * 2 + MAX_KERNEL) <= PAIRS, "two rows of outputs fit a tile");

/* Output pixels [y, y + rows) x [x, x + columns) of channels [c, c + count), and the input under them. */
struct tile {
    const struct e8_depthwise_image *g;
    int16_t *pixels; /* [half][span_pairs][span_columns][16] */
    int16_t *w;      /* [half][output row][pair][kernel column][16] */
    int32_t y, x, rows, columns, span_pairs, span_columns;
    size_t c, count;
};

AVX2_INLINE __m256i load_vector(const int16_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

/* 16 int16 of two rows as pairs: channels 0-3 and 8-11 at `to`, 4-7 and 12-15 `other` behind, so that VPACKSSDW brings their sums into
 * order. */
AVX2_INLINE void put_pair(int16_t *to, size_t other, __m256i a, __m256i b)
{
    _mm256_store_si256((__m256i *)(void *)to, _mm256_unpacklo_epi16(a, b));
    _mm256_store_si256((__m256i *)(void *)(to + other), _mm256_unpackhi_epi16(a, b));
}

/* VPMOVSXBW is fast from memory only. */
AVX2_INLINE __m256i widen16(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* At most 8 channels take the places of the first half. */
AVX2_INLINE __m256i widen_narrow(__m128i v)
{
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi32(v, v));
}

AVX2_INLINE __m256i widen8_narrow(const int8_t *p)
{
    return widen_narrow(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

AVX2 __attribute__((noinline)) static __m256i widen_part(const int8_t *p, size_t count)
{
    __m128i v = load_bytes(p, count);
    return count <= HALF ? widen_narrow(v) : _mm256_cvtepi8_epi16(v);
}

/* The pixels of two rows that the picture has, `step` bytes from one to the next: `whole` of which 16 channels may be read (8 where
 * `count` is not more), and those at the picture's end. */
AVX2_INLINE int16_t *copy_pixels(const struct tile *t, int16_t *to, const int8_t *a, const int8_t *b, const size_t step[2], int32_t whole,
                                 int32_t pixels)
{
    int32_t i = 0;
    for (; t->count <= HALF && i < whole; i++, to += VECTOR, a += step[0], b += step[1])
        put_pair(to, OTHER_PIXELS, widen8_narrow(a), widen8_narrow(b));
    for (; i < whole; i++, to += VECTOR, a += step[0], b += step[1]) put_pair(to, OTHER_PIXELS, widen16(a), widen16(b));
    for (; i < pixels; i++, to += VECTOR, a += step[0], b += step[1])
        put_pair(to, OTHER_PIXELS, widen_part(a, t->count), widen_part(b, t->count));
    return to;
}

/* The input of a tile, with padding where the picture has none. Channels beyond `count` are never stored. */
AVX2 __attribute__((noinline)) static void copy_tile(const struct tile *t)
{
    const struct e8_depthwise_image *g = t->g;
    const __m256i pad = _mm256_set1_epi16((int16_t)g->zero);
    int32_t ix = t->x * g->sw - g->pl, left = ix < 0 ? -ix : 0, right = g->iw - ix, iy = t->y * g->sh - g->pt;
    if (right > t->span_columns) right = t->span_columns;
    if (left >= right) left = right = t->span_columns;
    size_t line = (size_t)g->iw * g->channels, elements = (size_t)g->ih * line, width = t->count <= HALF ? HALF : CHANNELS;
    /* Outside the picture a row of padding is one pixel, again and again. */
    int8_t pads[CHANNELS];
    memset(pads, g->zero, sizeof pads);
    int16_t *to = t->pixels;
    for (int32_t r = 0; r < t->span_pairs; r++, iy += 2) {
        const int8_t *from[2] = {pads, pads};
        size_t step[2] = {0, 0};
        int32_t whole = right - left;
        for (int32_t k = 0; k < 2; k++) {
            if (iy + k < 0 || iy + k >= g->ih || left == right) continue;
            size_t at = (size_t)(iy + k) * line + (size_t)(ix + left) * g->channels + t->c;
            from[k] = (const int8_t *)g->x + at;
            step[k] = g->channels;
            while (whole > 0 && at + (size_t)(whole - 1) * g->channels + width > elements) whole--;
        }
        for (int32_t i = 0; i < left; i++, to += VECTOR) put_pair(to, OTHER_PIXELS, pad, pad);
        to = copy_pixels(t, to, from[0], from[1], step, whole, right - left);
        for (int32_t i = right; i < t->span_columns; i++, to += VECTOR) put_pair(to, OTHER_PIXELS, pad, pad);
    }
}

/* Every output row's pairs of kernel rows, 0 where there is none. */
AVX2_INLINE void pair_weights(const struct tile *t, int kh, int kw, int stride)
{
    const int rows = stride == 1 ? 2 : 1, pairs = (kh + 1) / 2;
    const struct e8_depthwise_image *g = t->g;
    for (int kx = 0; kx < kw; kx++) {
        const int8_t *from = (const int8_t *)g->w + (size_t)kx * g->w_stride + t->c;
        __m256i v[MAX_KERNEL + 2];
        v[0] = v[kh + 1] = _mm256_setzero_si256();
        E8_UNROLL
        for (int ky = 0; ky < kh; ky++) {
            const int8_t *tap = from + (size_t)(ky * kw) * g->w_stride;
            v[ky + 1] = t->count <= HALF ? widen8_narrow(tap) : widen16(tap);
        }
        E8_UNROLL
        for (int i = 0; i < rows * pairs; i++) {
            int ky = i % pairs * 2 - i / pairs; /* of the pair's first row */
            put_pair(t->w + (i * kw + kx) * VECTOR, OTHER_WEIGHTS, v[ky + 1], v[ky + 2]);
        }
    }
}

/* acc[row][column] += the taps of outputs side by side, and above each other with stride 1. Every vector of pixels is loaded once and
 * multiplied for all outputs that it belongs to. The empty assembly keeps the additions in this order: GCC would sum all products in a
 * tree, and spill them. */
AVX2_INLINE void add_taps(__m256i acc[PIXELS], const int16_t *p, size_t line, const int16_t *w, int kh, int kw, int stride)
{
    const int pairs = (kh + 1) / 2, span_pairs = pairs + stride - 1, span_columns = stride + kw;
    E8_UNROLL
    for (int column = 0; column < span_columns; column++) {
        E8_UNROLL
        for (int pair = 0; pair < span_pairs; pair++) {
            __m256i x = load_vector(p + (size_t)pair * line + column * VECTOR);
            E8_UNROLL
            for (int i = 0; i < PIXELS; i++) {
                int row = i / 2, kx = column - i % 2 * stride, ky = stride == 1 ? pair : pair - row;
                if (kx < 0 || kx >= kw || ky < 0 || ky >= pairs) continue;
                __m256i v = load_vector(w + (((stride == 1 ? row * pairs : 0) + ky) * kw + kx) * VECTOR);
                acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(x, v));
                __asm__("" : "+x"(acc[i]));
            }
        }
    }
}

/* The epilogue of 16 channels, in the halves of put_pair(). */
struct finish {
    __m256i start[2], zero, low, high;
    __m256 multiplier[2];
};

AVX2_INLINE void in_halves(__m256i halves[2], const void *p, bool narrow)
{
    __m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)p + 1);
    halves[0] = narrow ? a : _mm256_permute2x128_si256(a, b, 0x20);
    halves[1] = _mm256_permute2x128_si256(a, b, 0x31);
}

AVX2_INLINE struct finish finish_constants(const struct e8_requant *q, size_t c, bool narrow)
{
    __m256i multiplier[2];
    struct finish f = {
        .zero = _mm256_set1_epi16((int16_t)q->zero_point),
        .low = _mm256_set1_epi8((char)q->low),
        .high = _mm256_set1_epi8((char)q->high),
    };
    in_halves(f.start, q->init + c, narrow);
    in_halves(multiplier, q->multiplier + c, narrow);
    for (int h = 0; h < 2; h++) f.multiplier[h] = _mm256_castsi256_ps(multiplier[h]);
    return f;
}

AVX2_INLINE __m256i scale(const struct finish *f, __m256i sums, int half)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), f->multiplier[half]));
}

/* Sums of two pixels to 16 codes each. Multipliers below 1 keep the products inside int32; packing saturates. */
AVX2_INLINE __m256i finish_pixels(const struct finish *f, __m256i low0, __m256i high0, __m256i low1, __m256i high1)
{
    __m256i first = _mm256_adds_epi16(_mm256_packs_epi32(scale(f, low0, 0), scale(f, high0, 1)), f->zero);
    __m256i second = _mm256_adds_epi16(_mm256_packs_epi32(scale(f, low1, 0), scale(f, high1, 1)), f->zero);
    __m256i codes = _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(first, second), f->low), f->high);
    return _mm256_permute4x64_epi64(codes, 0xD8);
}

/* The same for at most 8 channels: 8 bytes of each pixel, in the low and the high half. */
AVX2_INLINE __m256i compress_narrow(__m256i codes)
{
    return _mm256_shuffle_epi32(codes, 0x88);
}

AVX2_INLINE void store8(int8_t *out, __m128i v)
{
    _mm_storel_epi64((__m128i *)(void *)out, v);
}

AVX2_INLINE void store16(int8_t *out, __m128i v)
{
    _mm_storeu_si128((__m128i *)(void *)out, v);
}

/* Fewer outputs or channels than the vectors have. */
__attribute__((noinline)) static void store_part(int8_t *out, size_t step, const int8_t *codes, int32_t columns, size_t count)
{
    for (int32_t i = 0; i < columns; i++, out += step, codes += CHANNELS) {
        if (count == CHANNELS)
            memcpy(out, codes, CHANNELS);
        else if (count == HALF)
            memcpy(out, codes, HALF);
        else
            memcpy(out, codes, count);
    }
}

__attribute__((noinline)) static void look_up_row(int8_t *out, size_t stride, int32_t columns, size_t count, const int8_t *table)
{
    for (int32_t x = 0; x < columns; x++) look_up(out + (size_t)x * stride, count, table);
}

/* All outputs of a tile. */
AVX2_INLINE void run_tile(const struct tile *t, const struct e8_requant *q, int kh, int kw, int stride)
{
    const struct e8_depthwise_image *g = t->g;
    const bool narrow = t->count <= HALF;
    const struct finish f = finish_constants(q, t->c, narrow);
    const int16_t *start = t->pixels;
    size_t line = (size_t)t->span_columns * VECTOR, step = g->channels, down = (size_t)g->ow * step;
    int8_t *row = (int8_t *)g->out + ((size_t)t->y * (size_t)g->ow + (size_t)t->x) * step + t->c;
    for (int32_t y = 0; y < t->rows; y += 2, start += (size_t)stride * line, row += 2 * down) {
        const int16_t *p = start;
        int8_t *out = row;
        bool both = t->rows - y >= 2;
        for (int32_t x = 0; x < t->columns; x += 2, p += 2 * stride * VECTOR, out += 2 * step) {
            __m256i low[PIXELS], high[PIXELS];
            E8_UNROLL
            for (int i = 0; i < PIXELS; i++) {
                low[i] = f.start[0];
                high[i] = f.start[1];
            }
            add_taps(low, p, line, t->w, kh, kw, stride);
            if (!narrow) add_taps(high, p + OTHER_PIXELS, line, t->w + OTHER_WEIGHTS, kh, kw, stride);
            __m256i first = finish_pixels(&f, low[0], high[0], low[1], high[1]);
            __m256i second = finish_pixels(&f, low[2], high[2], low[3], high[3]);
            int32_t left = t->columns - x;
            if (narrow) {
                first = compress_narrow(first);
                second = compress_narrow(second);
            }
            __m128i v[PIXELS] = {_mm256_castsi256_si128(first), _mm256_extracti128_si256(first, 1), _mm256_castsi256_si128(second),
                                 _mm256_extracti128_si256(second, 1)};
            if (both && left >= 2 && t->count == CHANNELS) {
                store16(out, v[0]);
                store16(out + step, v[1]);
                store16(out + down, v[2]);
                store16(out + down + step, v[3]);
                continue;
            }
            if (both && left >= 2 && t->count == HALF) {
                store8(out, v[0]);
                store8(out + step, v[1]);
                store8(out + down, v[2]);
                store8(out + down + step, v[3]);
                continue;
            }
            int8_t codes[PIXELS * CHANNELS];
            _mm256_storeu_si256((__m256i *)(void *)codes, first);
            _mm256_storeu_si256((__m256i *)(void *)(codes + 2 * CHANNELS), second);
            if (left > 2) left = 2;
            store_part(out, step, codes, left, t->count);
            if (both) store_part(out + down, step, codes + 2 * CHANNELS, left, t->count);
        }
        for (int32_t r = 0; q->table && r < 2 && y + r < t->rows; r++)
            look_up_row(row + (size_t)r * down, step, t->columns, t->count, q->table);
    }
}

/* Pairs of input rows under so many output rows, which are computed by twos. */
static int32_t pairs_under(int32_t rows, int32_t kh, int32_t stride)
{
    return (rows + 1) / 2 * stride + (kh - 1) / 2;
}

/* Output rows and columns of a tile so that its input fits; two rows of the most columns do. */
static void tile_size(const struct e8_depthwise_image *g, int32_t *rows, int32_t *columns)
{
    int32_t most = g->last - g->first, parts = (g->ow + MAX_COLUMNS - 1) / MAX_COLUMNS;
    int32_t wide = ((g->ow + parts - 1) / parts + 1) / 2 * 2, span = (wide - 1) * g->sw + g->kw, high = 2;
    while (high < most && pairs_under(high + 2, g->kh, g->sh) * span <= PAIRS) high += 2;
    *rows = high < most ? high : most;
    *columns = wide;
}

AVX2_INLINE void run_image(const struct e8_depthwise_image *g, const struct e8_requant *q, int kh, int kw, int stride)
{
    struct tile t = {.g = g, .pixels = g->scratch, .w = (int16_t *)g->scratch + 2 * OTHER_PIXELS};
    int32_t rows, columns;
    tile_size(g, &rows, &columns);
    for (t.y = g->first; t.y < g->last; t.y += rows) {
        t.rows = g->last - t.y < rows ? g->last - t.y : rows;
        t.span_pairs = pairs_under(t.rows, kh, stride);
        for (t.c = 0; t.c < g->channels; t.c += CHANNELS) {
            t.count = g->channels - t.c < CHANNELS ? g->channels - t.c : CHANNELS;
            pair_weights(&t, kh, kw, stride);
            for (t.x = 0; t.x < g->ow; t.x += columns) {
                t.columns = g->ow - t.x < columns ? g->ow - t.x : columns;
                t.span_columns = ((t.columns + 1) / 2 * 2 - 1) * stride + kw;
                copy_tile(&t);
                run_tile(&t, q, kh, kw, stride);
            }
        }
    }
}

/* X(name, kh, kw, stride) */
#define SHAPES(X) X(3x3, 3, 3, 1) X(3x3_stride2, 3, 3, 2) X(5x5, 5, 5, 1) X(5x5_stride2, 5, 5, 2)
#define IMAGE_FUNCTIONS(name, kh, kw, stride)                                                                                              \
    AVX2 static void image_##name(const struct e8_depthwise_image *g, const struct e8_requant *q)                                          \
    {                                                                                                                                      \
        run_image(g, q, kh, kw, stride);                                                                                                   \
    }
SHAPES(IMAGE_FUNCTIONS)

/* The padding's channels have multipliers of 0. */
AVX2 static bool multipliers_below_1(const float *multiplier, size_t channels)
{
    __m256 most = _mm256_setzero_ps();
    for (size_t c = 0; c < channels; c += HALF) most = _mm256_max_ps(most, _mm256_loadu_ps(multiplier + c));
    return _mm256_movemask_ps(_mm256_cmp_ps(most, _mm256_set1_ps(1.0f), _CMP_LT_OQ)) == 0xFF;
}

bool e8_avx2_depthwise_s8(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    if (!multipliers_below_1(q->multiplier, g->channels)) return false;
#define RUN_SHAPE(name, height, width, stride)                                                                                             \
    if (g->kh == (height) && g->kw == (width) && g->sh == (stride) && g->sw == (stride) && g->dh == 1 && g->dw == 1) {                     \
        image_##name(g, q);                                                                                                                \
        return true;                                                                                                                       \
    }
    SHAPES(RUN_SHAPE)
    return false;
}
#endif
