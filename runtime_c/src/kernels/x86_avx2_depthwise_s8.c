/* SPDX-License-Identifier: Apache-2.0
 *
 * Int8 depthwise convolution of the usual shapes for AVX2, in tiles of up to 640 input pixels by 16 channels that are copied to
 * scratch as int16 with the padding in place. VPMADDWD multiplies 16 pairs of int16 and adds each pair to an int32, so taps are taken in
 * pairs of equal columns of two kernel rows; the row that is left over pairs its neighbouring columns. All sums are exact. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include <stdbool.h>

#include "x86_avx2.h"
#include "x86_avx2_depthwise.h"

enum {
    CHANNELS = 16,
    OUTPUTS = 4,    /* at a time: 8 accumulators and what they are fed with fit the registers */
    MAX_PAIRS = 13, /* of 5x5 taps */
    PIXELS = 640    /* of a tile: most of a first-level cache */
};

_Static_assert(PIXELS *CHANNELS <= E8_DEPTHWISE_SCRATCH, "a tile fits the scratch");

/* Interleaved, 16 channels lie as 0-3 and 8-11 in `low`, 4-7 and 12-15 in `high`; VPACKSSDW brings them back in order. */
struct halves {
    __m256i low, high;
};

AVX2_INLINE struct halves interleave(__m256i a, __m256i b)
{
    struct halves h = {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)};
    return h;
}

AVX2_INLINE __m256i load_pixel(const int16_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

AVX2_INLINE void store_pixel(int16_t *p, __m256i v)
{
    _mm256_store_si256((__m256i *)(void *)p, v);
}

/* Output pixels [y, y + rows) x [x, x + columns) of channels [c, c + count), and the input under them. */
struct tile {
    const struct e8_depthwise_image *g;
    int16_t *pixels; /* [span_rows][span_columns][16] */
    int32_t y, x, rows, columns, span_rows, span_columns;
    size_t c, count;
};

/* One row of input pixels, with padding where the picture has none. 16 channels are read of each pixel that has them before the
 * picture's end; those beyond `count` are never stored. */
AVX2 __attribute__((noinline)) static void copy_row(const struct tile *t, int16_t *to, int32_t iy)
{
    const struct e8_depthwise_image *g = t->g;
    int32_t ix = t->x * g->sw - g->pl, left = ix < 0 ? -ix : 0, right = g->iw - ix;
    const __m256i pad = _mm256_set1_epi16((int16_t)g->zero);
    if (right > t->span_columns) right = t->span_columns;
    if (iy < 0 || iy >= g->ih || left >= right) left = right = t->span_columns;
    for (int32_t i = 0; i < left; i++) store_pixel(to + (size_t)i * CHANNELS, pad);
    for (int32_t i = right; i < t->span_columns; i++) store_pixel(to + (size_t)i * CHANNELS, pad);
    if (left == right) return;
    const int8_t *x = g->x;
    size_t at = ((size_t)iy * (size_t)g->iw + (size_t)(ix + left)) * g->channels + t->c;
    size_t elements = (size_t)g->ih * (size_t)g->iw * g->channels;
    for (int32_t i = left; i < right; i++, at += g->channels) {
        __m128i v = at + CHANNELS <= elements ? _mm_loadu_si128((const __m128i *)(const void *)(x + at)) : load_bytes(x + at, t->count);
        store_pixel(to + (size_t)i * CHANNELS, _mm256_cvtepi8_epi16(v));
    }
}

AVX2_INLINE __m256i load_tap(const struct tile *t, int32_t tap)
{
    const int8_t *w = t->g->w;
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + (size_t)tap * t->g->w_stride + t->c)));
}

/* The taps in the order in which add_taps() reads them. */
AVX2 __attribute__((noinline)) static void pair_weights(const struct tile *t, struct halves *w, int kh, int kw)
{
    for (int ky = 0; ky + 1 < kh; ky += 2)
        for (int kx = 0; kx < kw; kx++) *w++ = interleave(load_tap(t, ky * kw + kx), load_tap(t, (ky + 1) * kw + kx));
    for (int kx = 0; kx < kw; kx += 2) {
        int tap = (kh - 1) * kw + kx;
        *w++ = interleave(load_tap(t, tap), kx + 1 < kw ? load_tap(t, tap + 1) : _mm256_setzero_si256());
    }
}

/* The empty assembly keeps the additions in this order: GCC would sum all products in a tree, and spill them. */
AVX2_INLINE void add_pair(struct halves *acc, struct halves x, const struct halves *w)
{
    acc->low = _mm256_add_epi32(acc->low, _mm256_madd_epi16(x.low, w->low));
    acc->high = _mm256_add_epi32(acc->high, _mm256_madd_epi16(x.high, w->high));
    __asm__("" : "+x"(acc->low), "+x"(acc->high));
}

/* acc[i] += the taps of OUTPUTS neighbouring outputs; kh is odd. Every pair of input pixels is made once and multiplied for all
 * outputs that it belongs to. */
AVX2_INLINE void add_taps(struct halves acc[OUTPUTS], const int16_t *p, size_t line, const struct halves *w, int kh, int kw, int sw)
{
    const int last = (OUTPUTS - 1) * sw + kw - 1;
    E8_UNROLL
    for (int column = 0; column <= last; column++) {
        const int16_t *from = p + column * CHANNELS;
        E8_UNROLL
        for (int ky = 0; ky + 1 < kh; ky += 2) {
            struct halves x = interleave(load_pixel(from + (size_t)ky * line), load_pixel(from + (size_t)(ky + 1) * line));
            E8_UNROLL
            for (int i = 0; i < OUTPUTS; i++)
                if (column >= i * sw && column < i * sw + kw) add_pair(&acc[i], x, w + ky / 2 * kw + column - i * sw);
        }
        bool used = false; /* as the first pixel of a pair in the last row */
        E8_UNROLL
        for (int i = 0; i < OUTPUTS; i++) used = used || (column >= i * sw && column < i * sw + kw && (column - i * sw) % 2 == 0);
        if (!used) continue;
        const int16_t *bottom = from + (size_t)(kh - 1) * line;
        struct halves x = interleave(load_pixel(bottom), load_pixel(column < last ? bottom + CHANNELS : bottom));
        E8_UNROLL
        for (int i = 0; i < OUTPUTS; i++)
            if (column >= i * sw && column < i * sw + kw && (column - i * sw) % 2 == 0)
                add_pair(&acc[i], x, w + kh / 2 * kw + (column - i * sw) / 2);
    }
}

/* The epilogue of 16 channels, in the order of struct halves. */
struct finish {
    struct halves start;
    __m256 multiplier_low, multiplier_high, highest;
    __m256i zero, low;
};

AVX2_INLINE struct halves in_halves(const void *p)
{
    __m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)p + 1);
    struct halves h = {_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
    return h;
}

AVX2_INLINE struct finish finish_constants(const struct e8_requant *q, size_t c)
{
    struct halves multiplier = in_halves(q->multiplier + c);
    struct finish f = {
        .start = in_halves(q->init + c),
        .multiplier_low = _mm256_castsi256_ps(multiplier.low),
        .multiplier_high = _mm256_castsi256_ps(multiplier.high),
        .highest = _mm256_set1_ps((float)(q->high - q->zero_point)),
        .zero = _mm256_set1_epi16((int16_t)q->zero_point),
        .low = _mm256_set1_epi8((char)q->low),
    };
    return f;
}

/* Sums to codes as int16. What lies far below `low` becomes INT32_MIN and saturates. */
AVX2_INLINE __m256i finish_pixel(const struct finish *f, const struct halves *acc)
{
    __m256 a = _mm256_mul_ps(_mm256_cvtepi32_ps(acc->low), f->multiplier_low);
    __m256 b = _mm256_mul_ps(_mm256_cvtepi32_ps(acc->high), f->multiplier_high);
    __m256i low = _mm256_cvtps_epi32(_mm256_min_ps(a, f->highest)), high = _mm256_cvtps_epi32(_mm256_min_ps(b, f->highest));
    return _mm256_adds_epi16(_mm256_packs_epi32(low, high), f->zero);
}

/* Two pixels of 16 codes. */
AVX2_INLINE __m256i join_pixels(const struct finish *f, __m256i first, __m256i second)
{
    return _mm256_max_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(first, second), 0xD8), f->low);
}

/* Fewer outputs or channels than the vectors have. */
AVX2 __attribute__((noinline)) static void store_part(int8_t *out, size_t stride, const int8_t *codes, int32_t columns, size_t count)
{
    for (int32_t i = 0; i < columns && i < OUTPUTS; i++) memcpy(out + (size_t)i * stride, codes + i * CHANNELS, count);
}

__attribute__((noinline)) static void look_up_row(int8_t *out, size_t stride, int32_t columns, size_t count, const int8_t *table)
{
    for (int32_t x = 0; x < columns; x++) look_up(out + (size_t)x * stride, count, table);
}

AVX2_INLINE void store_pixels(const struct finish *f, const struct halves acc[OUTPUTS], int8_t *out, size_t stride, int32_t columns,
                              size_t count)
{
    __m256i two[OUTPUTS / 2];
    E8_UNROLL
    for (int i = 0; i < OUTPUTS; i += 2) two[i / 2] = join_pixels(f, finish_pixel(f, &acc[i]), finish_pixel(f, &acc[i + 1]));
    if (columns >= OUTPUTS && count == CHANNELS) {
        E8_UNROLL
        for (int i = 0; i < OUTPUTS; i += 2) {
            _mm_storeu_si128((__m128i *)(void *)(out + (size_t)i * stride), _mm256_castsi256_si128(two[i / 2]));
            _mm_storeu_si128((__m128i *)(void *)(out + (size_t)(i + 1) * stride), _mm256_extracti128_si256(two[i / 2], 1));
        }
        return;
    }
    int8_t codes[OUTPUTS * CHANNELS];
    E8_UNROLL
    for (int i = 0; i < OUTPUTS; i += 2) _mm256_storeu_si256((__m256i *)(void *)(codes + i * CHANNELS), two[i / 2]);
    store_part(out, stride, codes, columns, count);
}

/* All outputs of a tile. The last group of a row ends with the row and may repeat outputs. */
AVX2_INLINE void run_tile(const struct tile *t, const struct e8_requant *q, const struct halves *w, int kh, int kw, int sw)
{
    const struct e8_depthwise_image *g = t->g;
    const struct finish f = finish_constants(q, t->c);
    size_t line = (size_t)t->span_columns * CHANNELS;
    for (int32_t y = 0; y < t->rows; y++) {
        const int16_t *p = t->pixels + (size_t)(y * g->sh) * line;
        int8_t *out = (int8_t *)g->out + ((size_t)(t->y + y) * (size_t)g->ow + (size_t)t->x) * g->channels + t->c;
        for (int32_t x = 0; x < t->columns; x += OUTPUTS) {
            if (x + OUTPUTS > t->columns && t->columns >= OUTPUTS) x = t->columns - OUTPUTS;
            struct halves acc[OUTPUTS];
            E8_UNROLL
            for (int i = 0; i < OUTPUTS; i++) acc[i] = f.start;
            add_taps(acc, p + (size_t)(x * sw) * CHANNELS, line, w, kh, kw, sw);
            store_pixels(&f, acc, out + (size_t)x * g->channels, g->channels, t->columns, t->count);
        }
        if (q->table) look_up_row(out, g->channels, t->columns, t->count, q->table);
    }
}

/* Output rows and columns of a tile so that its input fits: as wide as may be, then as high, because rows share input. */
static void tile_size(const struct e8_depthwise_image *g, int32_t *rows, int32_t *columns)
{
    int32_t most = g->last - g->first, wide = (g->ow + OUTPUTS - 1) / OUTPUTS * OUTPUTS, high = 1;
    while (wide > OUTPUTS && g->kh * ((wide - 1) * g->sw + g->kw) > PIXELS) wide -= OUTPUTS;
    while (high < most && (high * g->sh + g->kh) * ((wide - 1) * g->sw + g->kw) <= PIXELS) high++;
    *rows = high;
    *columns = wide;
}

AVX2_INLINE void run_image(const struct e8_depthwise_image *g, const struct e8_requant *q, int kh, int kw, int sw)
{
    struct tile t = {.g = g, .pixels = g->scratch};
    struct halves w[MAX_PAIRS];
    int32_t rows, columns;
    tile_size(g, &rows, &columns);
    for (t.y = g->first; t.y < g->last; t.y += rows) {
        t.rows = g->last - t.y < rows ? g->last - t.y : rows;
        t.span_rows = (t.rows - 1) * g->sh + kh;
        for (t.c = 0; t.c < g->channels; t.c += CHANNELS) {
            t.count = g->channels - t.c < CHANNELS ? g->channels - t.c : CHANNELS;
            pair_weights(&t, w, kh, kw);
            for (t.x = 0; t.x < g->ow; t.x += columns) {
                t.columns = g->ow - t.x < columns ? g->ow - t.x : columns;
                t.span_columns = ((t.columns > OUTPUTS ? t.columns : OUTPUTS) - 1) * sw + kw;
                for (int32_t r = 0; r < t.span_rows; r++)
                    copy_row(&t, t.pixels + (size_t)r * (size_t)t.span_columns * CHANNELS, t.y * g->sh - g->pt + r);
                run_tile(&t, q, w, kh, kw, sw);
            }
        }
    }
}

/* X(name, kh, kw, stride) */
#define SHAPES(X) X(3x3, 3, 3, 1) X(3x3_stride2, 3, 3, 2) X(5x5, 5, 5, 1) X(5x5_stride2, 5, 5, 2)
#define IMAGE_FUNCTIONS(name, kh, kw, sw)                                                                                                  \
    AVX2 static void image_##name(const struct e8_depthwise_image *g, const struct e8_requant *q)                                          \
    {                                                                                                                                      \
        run_image(g, q, kh, kw, sw);                                                                                                       \
    }
SHAPES(IMAGE_FUNCTIONS)

bool e8_avx2_depthwise_s8(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
#define RUN_SHAPE(name, height, width, stride)                                                                                             \
    if (g->kh == (height) && g->kw == (width) && g->sw == (stride) && g->dh == 1 && g->dw == 1) {                                          \
        image_##name(g, q);                                                                                                                \
        return true;                                                                                                                       \
    }
    SHAPES(RUN_SHAPE)
    return false;
}
#endif
