/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution for AVX2, picture by picture, in tiles of up to 448 input pixels by 16 channels: float32 of every shape,
 * and int8 of the shapes that x86_avx2_depthwise_s8.c has no code for. The tile's pixels are copied to scratch as float32, with
 * the padding in place, and multiplied there by fused multiply-adds, 8 products an instruction without any shuffle. For int8 this
 * is exact: every sum is an integer, at most 256 * 128 * 127 < 2^23 in size; a bias beyond that is added as int32 afterwards. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include <stdbool.h>

#include "x86_avx2.h"
#include "x86_avx2_depthwise.h"

/* A tile's 16 channels lie in scratch as two halves of 8, so that neighbouring pixels are 32 bytes apart: at 64 bytes they would
 * meet in the same banks of the cache, one load a cycle instead of two. */
enum {
    CHANNELS = 16,
    HALF = 8,
    PIXELS = 8, /* outputs at a time, enough chains to hide the latency */
    MAX_KW = 5,
    EXACT = 1 << 23,
    OTHER_PIXELS = E8_DEPTHWISE_PIXELS * HALF, /* from the first half to the second */
    OTHER_WEIGHTS = E8_DEPTHWISE_TAPS * HALF,
    MAX_COLUMNS = 32, /* outputs of a tile's row */
    OTHER_SUMS = MAX_COLUMNS * HALF
};

/* A tile: output pixels [y, y + rows) x [x, x + columns) of channels [c, c + count). */
struct tile {
    const struct e8_depthwise_image *g;
    float *pixels; /* input pixels [half][span_rows][span_columns][8] */
    float *w;      /* [half][taps][8] */
    float *sums;   /* one output row of an int8 tile, [half][columns][8] */
    int32_t y, x, rows, columns, span_rows, span_columns;
    bool joined; /* the rows are computed as one */
    size_t c, count;
};

AVX2_INLINE void put(float *to, const __m256 v[2])
{
    _mm256_store_ps(to, v[0]);
    _mm256_store_ps(to + OTHER_PIXELS, v[1]);
}

/* `count` pixels of 16 channels, `stride` elements apart. vpmovsxbd is fast from memory only. */
AVX2_INLINE void load_pixels_s8(float *to, const int8_t *from, size_t stride, int32_t count)
{
    for (int32_t i = 0; i < count; i++, to += HALF, from += stride) {
        __m256 v[2] = {_mm256_cvtepi32_ps(widen8(_mm_loadl_epi64((const __m128i *)(const void *)from))),
                       _mm256_cvtepi32_ps(widen8(_mm_loadl_epi64((const __m128i *)(const void *)(from + 8))))};
        put(to, v);
    }
}

AVX2_INLINE void load_pixels_f32(float *to, const float *from, size_t stride, int32_t count)
{
    for (int32_t i = 0; i < count; i++, to += HALF, from += stride) {
        __m256 v[2] = {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
        put(to, v);
    }
}

/* One pixel at the end of the picture, where only `count` channels may be read. */
AVX2_INLINE void load_last_pixel(float *to, const void *from, size_t count, bool int8)
{
    int8_t bytes[CHANNELS] = {0};
    float floats[CHANNELS] = {0};
    memcpy(int8 ? (void *)bytes : (void *)floats, from, count * (int8 ? 1 : sizeof(float)));
    if (int8)
        load_pixels_s8(to, bytes, 0, 1);
    else
        load_pixels_f32(to, floats, 0, 1);
}

/* `count` pixels of the picture from element `at`: 16 elements are read of each one that has them before the picture's end. */
AVX2_INLINE void load_pixels(const struct tile *t, float *to, size_t at, int32_t count, bool int8)
{
    const struct e8_depthwise_image *g = t->g;
    size_t elements = (size_t)g->ih * (size_t)g->iw * g->channels, stride = g->channels;
    int32_t whole = count;
    while (whole > 0 && at + (size_t)(whole - 1) * stride + CHANNELS > elements) whole--;
    if (int8)
        load_pixels_s8(to, (const int8_t *)g->x + at, stride, whole);
    else
        load_pixels_f32(to, (const float *)g->x + at, stride, whole);
    for (int32_t i = whole; i < count; i++)
        load_last_pixel(to + i * HALF, (const char *)g->x + (at + (size_t)i * stride) * (int8 ? 1 : sizeof(float)), t->count, int8);
}

/* One row of input pixels, with padding where the picture has none. */
AVX2_INLINE void load_row(const struct tile *t, float *to, int32_t iy, bool int8)
{
    const struct e8_depthwise_image *g = t->g;
    int32_t ix = t->x * g->sw - g->pl, left = ix < 0 ? -ix : 0, right = g->iw - ix;
    const __m256 one = int8 ? _mm256_set1_ps((float)g->zero) : _mm256_setzero_ps(), pad[2] = {one, one};
    if (right > t->span_columns) right = t->span_columns;
    if (iy < 0 || iy >= g->ih || left >= right) left = right = t->span_columns;
    for (int32_t i = 0; i < left; i++) put(to + i * HALF, pad);
    if (left < right)
        load_pixels(t, to + left * HALF, ((size_t)iy * (size_t)g->iw + (size_t)(ix + left)) * g->channels + t->c, right - left, int8);
    for (int32_t i = right; i < t->span_columns; i++) put(to + i * HALF, pad);
}

AVX2_INLINE void load_tile(const struct tile *t, bool int8)
{
    const struct e8_depthwise_image *g = t->g;
    for (int32_t r = 0; r < t->span_rows; r++)
        load_row(t, t->pixels + (size_t)r * (size_t)t->span_columns * HALF, t->y * g->sh - g->pt + r, int8);
}

AVX2_INLINE void load_weights(const struct tile *t, bool int8)
{
    const struct e8_depthwise_image *g = t->g;
    size_t taps = (size_t)g->kh * (size_t)g->kw;
    for (size_t k = 0; k < taps; k++) {
        __m256 v[2];
        size_t at = k * g->w_stride + t->c;
        if (int8) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)((const int8_t *)g->w + at));
            v[0] = _mm256_cvtepi32_ps(widen8(bytes));
            v[1] = _mm256_cvtepi32_ps(widen8(_mm_srli_si128(bytes, 8)));
        } else {
            v[0] = _mm256_loadu_ps((const float *)g->w + at);
            v[1] = _mm256_loadu_ps((const float *)g->w + at + 8);
        }
        _mm256_store_ps(t->w + k * HALF, v[0]);
        _mm256_store_ps(t->w + k * HALF + OTHER_WEIGHTS, v[1]);
    }
}

/* One row of a tile's outputs for 8 channels; or all its rows as one, where they are short: then outputs between them count, whose
 * values are not stored. */
struct line {
    const float *p, *w; /* first input pixel and first tap of the 8 channels */
    size_t lines;       /* floats from one kernel row to the next */
    int32_t columns;    /* outputs */
    int32_t kh, kw, sw, dw;
    float *to;                 /* first output; */
    size_t stride, count;      /* floats from one output pixel to the next, and channels to store, at most 8 */
    size_t next_row;           /* floats from one output row to the next */
    int32_t span, row_columns; /* outputs of a row that count, and those of them that are stored */
    __m256 start, low, high, multiplier;
};

/* acc[i] += the taps of 8 neighbouring outputs. With constant kw and sw every input pixel is loaded once and multiplied for all
 * outputs that it belongs to; in the order of columns each output meets its taps in ascending order. */
AVX2_INLINE void add_taps(__m256 acc[PIXELS], const struct line *l, const float *p, int kh, int kw, int sw)
{
    const float *w = l->w;
    E8_UNROLL
    for (int ky = 0; ky < kh; ky++, p += l->lines) {
        __m256 v[MAX_KW];
        E8_UNROLL
        for (int kx = 0; kx < kw; kx++, w += HALF) v[kx] = _mm256_load_ps(w);
        E8_UNROLL
        for (int column = 0; column < (PIXELS - 1) * sw + kw; column++) {
            __m256 x = _mm256_load_ps(p + column * HALF);
            E8_UNROLL
            for (int i = 0; i < PIXELS; i++)
                if (column >= i * sw && column < i * sw + kw) acc[i] = _mm256_fmadd_ps(x, v[column - i * sw], acc[i]);
        }
    }
}

/* The same for any shape. */
AVX2_INLINE void add_any_taps(__m256 acc[PIXELS], const struct line *l, const float *p)
{
    const float *w = l->w;
    size_t right = (size_t)l->dw * HALF, next = (size_t)l->sw * HALF;
    for (int32_t ky = 0; ky < l->kh; ky++, p += l->lines) {
        const float *from = p;
        for (int32_t kx = 0; kx < l->kw; kx++, w += HALF, from += right) {
            __m256 v = _mm256_load_ps(w);
            E8_UNROLL
            for (int i = 0; i < PIXELS; i++) acc[i] = _mm256_fmadd_ps(_mm256_load_ps(from + (size_t)i * next), v, acc[i]);
        }
    }
}

/* First column of the group of 8 after the one at x: the last group ends with the row and may repeat outputs. */
AVX2_INLINE int32_t next_group(int32_t x, int32_t columns)
{
    x += PIXELS;
    return x < columns && x + PIXELS > columns && columns >= PIXELS ? columns - PIXELS : x;
}

/* Fewer outputs or channels than the vectors have, or outputs that belong to several rows. (Masked stores take dozens of cycles on
 * some CPUs.) */
AVX2 __attribute__((noinline)) static void store_part(const struct line *l, int32_t x, const float values[PIXELS][HALF])
{
    int32_t row = x / l->span, column = x % l->span;
    float *to = l->to + (size_t)row * l->next_row;
    for (int32_t i = 0; i < PIXELS && x + i < l->columns; i++, column++) {
        if (column == l->span) {
            column = 0;
            to += l->next_row;
        }
        if (column >= l->row_columns) continue;
        if (l->count == HALF) /* a copy of known length is one store */
            memcpy(to + (size_t)column * l->stride, values[i], sizeof values[i]);
        else
            memcpy(to + (size_t)column * l->stride, values[i], l->count * sizeof *to);
    }
}

AVX2_INLINE void store_pixels(const struct line *l, int32_t x, const __m256 v[PIXELS], bool int8)
{
    if (int8 || (l->count == HALF && l->row_columns >= PIXELS)) { /* the sums of an int8 row have room for 8 */
        float *to = l->to + (size_t)x * l->stride;
        E8_UNROLL
        for (int i = 0; i < PIXELS; i++) _mm256_storeu_ps(to + (size_t)i * l->stride, v[i]);
        return;
    }
    float values[PIXELS][HALF];
    E8_UNROLL
    for (int i = 0; i < PIXELS; i++) _mm256_storeu_ps(values[i], v[i]);
    store_part(l, x, values);
}

/* Sums, times the multiplier when they become int8, and bounded; kw is 0 for any shape. */
AVX2_INLINE void run_line(const struct line *l, int kh, int kw, int sw, bool int8)
{
    for (int32_t x = 0; x < l->columns; x = next_group(x, l->columns)) {
        const float *p = l->p + (size_t)x * (size_t)l->sw * HALF;
        __m256 acc[PIXELS];
        E8_UNROLL
        for (int i = 0; i < PIXELS; i++) acc[i] = l->start;
        if (kw)
            add_taps(acc, l, p, kh, kw, sw);
        else
            add_any_taps(acc, l, p);
        E8_UNROLL
        for (int i = 0; i < PIXELS; i++)
            acc[i] = int8 ? _mm256_mul_ps(acc[i], l->multiplier) : _mm256_min_ps(l->high, _mm256_max_ps(l->low, acc[i]));
        store_pixels(l, x, acc, int8);
    }
}

/* The usual shapes get code of their own: X(name, kh, kw, stride). */
#define SHAPES(X) X(3x3, 3, 3, 1) X(3x3_stride2, 3, 3, 2) X(5x5, 5, 5, 1) X(5x5_stride2, 5, 5, 2)
#define LINE_FUNCTIONS(name, kh, kw, sw)                                                                                                   \
    AVX2 static void line_f32_##name(const struct line *l)                                                                                 \
    {                                                                                                                                      \
        run_line(l, kh, kw, sw, false);                                                                                                    \
    }
SHAPES(LINE_FUNCTIONS)

AVX2 static void line_s8_any(const struct line *l)
{
    run_line(l, 0, 0, 0, true);
}

AVX2 static void line_f32_any(const struct line *l)
{
    run_line(l, 0, 0, 0, false);
}

typedef void (*line_function)(const struct line *l);

static line_function line_function_of(const struct e8_depthwise_image *g, bool int8)
{
#define IS_SHAPE(name, height, width, stride)                                                                                              \
    if (g->kh == (height) && g->kw == (width) && g->sw == (stride) && g->dw == 1) return line_f32_##name;
    if (int8) return line_s8_any;
    SHAPES(IS_SHAPE)
    return line_f32_any;
}

/* The int8 epilogue of 16 channels. A bias that float cannot hold exactly is added to the sums afterwards. */
struct finish {
    __m256 start[2], multiplier[2], highest;
    __m256i apart[2], zero, low;
    bool exact;
};

AVX2_INLINE struct finish finish_constants(const struct e8_requant *q, size_t c)
{
    struct finish f = {.exact = true};
    for (size_t h = 0; h < 2; h++) {
        f.apart[h] = _mm256_loadu_si256((const __m256i *)(const void *)(q->init + c + HALF * h));
        __m256i size = _mm256_abs_epi32(f.apart[h]);
        __m256i large = _mm256_or_si256(_mm256_cmpgt_epi32(size, _mm256_set1_epi32(EXACT)), size); /* |INT32_MIN| is negative */
        f.exact = f.exact && _mm256_movemask_ps(_mm256_castsi256_ps(large)) == 0;
    }
    for (size_t h = 0; h < 2; h++) {
        f.start[h] = f.exact ? _mm256_cvtepi32_ps(f.apart[h]) : _mm256_setzero_ps();
        f.multiplier[h] = _mm256_loadu_ps(q->multiplier + c + HALF * h);
    }
    f.highest = _mm256_set1_ps((float)(q->high - q->zero_point));
    f.zero = _mm256_set1_epi16((int16_t)q->zero_point);
    f.low = _mm256_set1_epi8((char)q->low);
    return f;
}

/* Values to codes less the zero point, 16 channels as int16 in the order 0-3, 8-11, 4-7, 12-15. What lies far below `low`
 * becomes INT32_MIN and saturates. */
AVX2_INLINE __m256i finish_pixel(const struct finish *f, const float *p)
{
    __m256 v[2] = {_mm256_load_ps(p), _mm256_load_ps(p + OTHER_SUMS)};
    if (!f->exact) {
        for (int h = 0; h < 2; h++) {
            __m256i sum = _mm256_add_epi32(_mm256_cvtps_epi32(v[h]), f->apart[h]);
            v[h] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), f->multiplier[h]);
        }
    }
    __m256i a = _mm256_cvtps_epi32(_mm256_min_ps(v[0], f->highest)), b = _mm256_cvtps_epi32(_mm256_min_ps(v[1], f->highest));
    return _mm256_adds_epi16(_mm256_packs_epi32(a, b), f->zero);
}

/* Two pixels of 16 bytes from int16. */
AVX2_INLINE __m256i join_pixels(const struct finish *f, __m256i first, __m256i second)
{
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return _mm256_max_epi8(bytes, f->low);
}

/* A row of values to codes. */
AVX2 static void finish_line(const struct finish *f, const float *values, int32_t columns, int8_t *out, size_t stride, size_t count)
{
    for (int32_t x = 0; x < columns; x += 2, values += 2 * HALF, out += 2 * stride) {
        __m256i two = join_pixels(f, finish_pixel(f, values), finish_pixel(f, values + (x + 1 < columns ? HALF : 0)));
        if (count == CHANNELS) {
            _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(two));
            if (x + 1 < columns) _mm_storeu_si128((__m128i *)(void *)(out + stride), _mm256_extracti128_si256(two, 1));
        } else {
            store_bytes(out, _mm256_castsi256_si128(two), count);
            if (x + 1 < columns) store_bytes(out + stride, _mm256_extracti128_si256(two, 1), count);
        }
    }
}

/* All outputs of a tile. */
AVX2 static void run_tile(const struct tile *t, const struct e8_requant *q, line_function run)
{
    const struct e8_depthwise_image *g = t->g;
    size_t line_floats = (size_t)t->span_columns * HALF;
    struct finish f = {0};
    struct line l = {
        .lines = (size_t)g->dh * line_floats,
        .columns = t->columns,
        .kh = g->kh,
        .kw = g->kw,
        .sw = g->sw,
        .dw = g->dw,
        .stride = q ? HALF : g->channels,
        .count = HALF,
        .next_row = (size_t)g->ow * g->channels,
        .span = t->span_columns,
        .row_columns = t->columns,
        .low = _mm256_set1_ps(g->low),
        .high = _mm256_set1_ps(g->high),
    };
    if (q) f = finish_constants(q, t->c);
    if (t->joined) l.columns += (t->rows - 1) * t->span_columns;
    for (int32_t y = 0; y < (t->joined ? 1 : t->rows); y++) {
        size_t at = ((size_t)(t->y + y) * (size_t)g->ow + (size_t)t->x) * g->channels + t->c;
        for (size_t h = 0; h < 2 && HALF * h < t->count; h++) {
            l.p = t->pixels + h * OTHER_PIXELS + (size_t)(y * g->sh) * line_floats;
            l.w = t->w + h * OTHER_WEIGHTS;
            if (q) {
                l.to = t->sums + h * OTHER_SUMS;
                l.start = f.start[h];
                l.multiplier = f.exact ? f.multiplier[h] : _mm256_set1_ps(1.0f);
            } else {
                l.to = (float *)g->out + at + HALF * h;
                l.count = t->count - HALF * h < HALF ? t->count - HALF * h : HALF;
                l.start = g->bias ? _mm256_loadu_ps(g->bias + t->c + HALF * h) : _mm256_setzero_ps();
            }
            run(&l);
        }
        if (!q) continue;
        int8_t *out = (int8_t *)g->out + at;
        finish_line(&f, t->sums, t->columns, out, g->channels, t->count);
        for (int32_t x = 0; q->table && x < t->columns; x++) look_up(out + (size_t)x * g->channels, t->count, q->table);
    }
}

/* Output rows and columns of a tile so that its input fits: at most 32 columns, then as many rows as fit, because rows above each
 * other share input. */
static void tile_size(const struct e8_depthwise_image *g, int32_t *rows, int32_t *columns)
{
    int64_t reach_x = (g->kw - 1) * g->dw + 1, reach_y = (g->kh - 1) * g->dh + 1, most = g->last - g->first;
    int64_t parts = (g->ow + MAX_COLUMNS - 1) / MAX_COLUMNS, wide = ((g->ow + parts - 1) / parts + PIXELS - 1) / PIXELS * PIXELS, high = 1;
    while (wide > PIXELS && reach_y * ((wide - 1) * g->sw + reach_x) > E8_DEPTHWISE_PIXELS) wide -= PIXELS;
    while (high < most && (high * g->sh + reach_y) * ((wide - 1) * g->sw + reach_x) <= E8_DEPTHWISE_PIXELS) high++;
    *rows = (int32_t)high;
    *columns = (int32_t)wide;
}

AVX2_INLINE void run_image(const struct e8_depthwise_image *g, const struct e8_requant *q, bool int8)
{
    float *scratch = g->scratch;
    struct tile t = {.g = g, .pixels = scratch, .w = scratch + 2 * OTHER_PIXELS, .sums = scratch + 2 * OTHER_PIXELS + 2 * OTHER_WEIGHTS};
    int32_t rows, columns;
    line_function run = line_function_of(g, int8);
    tile_size(g, &rows, &columns);
    for (t.y = g->first; t.y < g->last; t.y += rows) {
        t.rows = g->last - t.y < rows ? g->last - t.y : rows;
        t.span_rows = (t.rows - 1) * g->sh + (g->kh - 1) * g->dh + 1;
        for (t.c = 0; t.c < g->channels; t.c += CHANNELS) {
            t.count = g->channels - t.c < CHANNELS ? g->channels - t.c : CHANNELS;
            load_weights(&t, int8);
            for (t.x = 0; t.x < g->ow; t.x += columns) {
                t.columns = g->ow - t.x < columns ? g->ow - t.x : columns;
                /* Groups of 8 are computed even where fewer outputs are left, unless the rows are joined. */
                t.joined = !int8 && g->ow < PIXELS && g->sw == 1 && g->sh == 1 && g->dw == 1 && t.rows > 1;
                t.span_columns = ((t.columns > PIXELS || t.joined ? t.columns : PIXELS) - 1) * g->sw + (g->kw - 1) * g->dw + 1;
                load_tile(&t, int8);
                run_tile(&t, q, run);
            }
        }
    }
}

AVX2 static void depthwise_image_s8(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    if (!e8_avx2_depthwise_s8(g, q)) run_image(g, q, true);
}

AVX2 static void depthwise_image_f32(const struct e8_depthwise_image *g)
{
    run_image(g, NULL, false);
}

void e8_init_avx2_depthwise(struct e8_kernels *k)
{
    k->depthwise_image_s8 = depthwise_image_s8;
    k->depthwise_image_f32 = depthwise_image_f32;
}
#endif
