/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution of pictures of few channels for AVX2, as in a network's first layer: its weights are so few that most steps of bytes would
 * leave int16. The input rows of one output row are widened to int16 with the padding in place; there every kernel row of every
 * output lies side by side and is read by pairs of int16, wherever it begins: one vpmaddwd multiplies a pair with the weights of 8
 * channels. A kernel row of odd length reads one element too many, times a weight of 0. Weights are widened by blocks of 16 channels,
 * as many as the first-level cache holds, and the input rows once for them: one vector of 16 elements beside at least
 * kw * 16 * 16 / stride products. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"

enum { PIXELS = 4, PAIR = 2 * E8_NR };

/* Sizes of a call: elements of a kernel row, pairs of them, elements of a widened input row. */
struct layout {
    size_t segment, pairs, line;
    int16_t *lines, *w; /* w: of the block at work */
};

/* Four channels' weights of 4 inputs: the first two of each channel to `to`, the others a pair further. */
AVX2_INLINE void split_pairs(int16_t *to, const int8_t *from)
{
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
    wide = _mm256_permutevar8x32_epi32(wide, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    _mm_store_si128((__m128i *)(void *)to, _mm256_castsi256_si128(wide));
    _mm_store_si128((__m128i *)(void *)(to + PAIR), _mm256_extracti128_si256(wide, 1));
}

/* Weights of the block of channels from n to l->w: [ky][pair][16][2]. */
AVX2 static void widen_weights(const struct e8_conv_picture *g, const struct layout *l, size_t n)
{
    size_t kh = (size_t)g->kh, k4 = (kh * l->segment + 3) / 4;
    const int8_t *from = g->w + n / E8_NR * k4 * (4 * E8_NR);
    if (l->segment % 4 == 0) {
        for (size_t i = 0; i < k4; i++)
            for (size_t c = 0; c < E8_NR; c += 4) split_pairs(l->w + 2 * PAIR * i + 2 * c, from + 4 * E8_NR * i + 4 * c);
        return;
    }
    for (size_t ky = 0; ky < kh; ky++) {
        for (size_t i = 0; i < 2 * l->pairs; i++) {
            int16_t *pair = l->w + (ky * l->pairs + i / 2) * PAIR + i % 2;
            size_t k = ky * l->segment + i;
            const int8_t *code = from + k / 4 * (4 * E8_NR) + k % 4;
            for (size_t c = 0; c < E8_NR; c++) pair[2 * c] = i < l->segment ? code[4 * c] : 0;
        }
    }
}

AVX2 static void widen_codes(int16_t *to, const int8_t *from, size_t count)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(from + i))));
    for (; i < count; i++) to[i] = from[i];
}

static void fill_codes(int16_t *to, int32_t code, size_t count)
{
    for (size_t i = 0; i < count; i++) to[i] = (int16_t)code;
}

/* The input rows of output row y. */
static void widen_lines(const struct e8_conv_picture *g, const struct layout *l, int32_t y)
{
    size_t width = (size_t)g->iw * g->channels, whole = l->line;
    size_t left = (size_t)g->pl * g->channels < whole ? (size_t)g->pl * g->channels : whole;
    size_t count = width < whole - left ? width : whole - left;
    for (int32_t ky = 0; ky < g->kh; ky++) {
        int16_t *to = l->lines + (size_t)ky * l->line;
        int32_t iy = y * g->sh - g->pt + ky * g->dh;
        if (iy < 0 || iy >= g->ih) {
            fill_codes(to, g->zero, whole);
            continue;
        }
        fill_codes(to, g->zero, left);
        widen_codes(to + left, g->x + (size_t)iy * width, count);
        fill_codes(to + left + count, g->zero, whole - left - count);
    }
}

/* `pixels` neighbouring outputs of `columns` channels from n, `vectors` of 8 of them; `at` is the first output's place. */
AVX2_INLINE void run_pixels(const struct e8_conv_picture *g, const struct e8_requant *q, const struct requant_avx2 *r,
                            const struct layout *l, int pixels, int vectors, size_t x, size_t at, size_t n, size_t columns)
{
    size_t step = (size_t)g->sw * g->channels;
    const int16_t *w = l->w, *line = l->lines + x * step;
    __m256i acc[PIXELS][2];
    E8_UNROLL
    for (int i = 0; i < pixels; i++) {
        acc[i][0] = _mm256_loadu_si256((const __m256i *)(const void *)(q->init + n));
        acc[i][1] = _mm256_loadu_si256((const __m256i *)(const void *)(q->init + n + 8));
    }
    for (int32_t ky = 0; ky < g->kh; ky++, line += l->line) {
        const int16_t *from = line;
#pragma GCC unroll 2
        for (size_t p = 0; p < l->pairs; p++, from += 2, w += PAIR) {
            __m256i v[2];
            E8_UNROLL
            for (int j = 0; j < vectors; j++) v[j] = _mm256_load_si256((const __m256i *)(const void *)(w + 16 * j));
            E8_UNROLL
            for (int i = 0; i < pixels; i++) {
                int32_t pair;
                memcpy(&pair, from + (size_t)i * step, sizeof pair);
                __m256i a = _mm256_set1_epi32(pair);
                E8_UNROLL
                for (int j = 0; j < vectors; j++) acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(a, v[j]));
            }
        }
    }
    const int8_t *residual = g->residual ? g->residual + at * g->n + n : NULL;
    finish_rows(r, q, acc, pixels, n, columns, residual, g->n, g->out + at * g->n + n, g->n);
}

/* One row of outputs of the block of channels from n. */
AVX2 static void run_line(const struct e8_conv_picture *g, const struct e8_requant *q, const struct layout *l, int32_t y, size_t n)
{
    struct requant_avx2 r = requant_constants(q);
    size_t width = (size_t)g->ow, first = (size_t)y * width, columns = g->n - n < E8_NR ? g->n - n : E8_NR, x = 0;
    if (columns > 8) {
        for (; x + PIXELS <= width; x += PIXELS) run_pixels(g, q, &r, l, PIXELS, 2, x, first + x, n, columns);
        for (; x < width; x++) run_pixels(g, q, &r, l, 1, 2, x, first + x, n, columns);
    } else {
        for (; x + PIXELS <= width; x += PIXELS) run_pixels(g, q, &r, l, PIXELS, 1, x, first + x, n, columns);
        for (; x < width; x++) run_pixels(g, q, &r, l, 1, 1, x, first + x, n, columns);
    }
}

AVX2 void e8_avx2_conv_narrow(const struct e8_conv_picture *g, const struct e8_requant *q)
{
    struct e8_narrow_parts p = e8_conv_narrow_parts(g->ow, g->kh, g->kw, g->sw, (int64_t)g->channels, (int64_t)g->n);
    struct layout l = {.segment = (size_t)g->kw * g->channels, .line = (size_t)p.line};
    l.pairs = (l.segment + 1) / 2;
    size_t block = (size_t)p.block, blocks = (size_t)p.blocks, end;
    int16_t *w = g->scratch;
    l.lines = w + blocks * block;
    for (size_t begin = 0; begin < g->n; begin = end) {
        end = g->n - begin < blocks * E8_NR ? g->n : begin + blocks * E8_NR;
        l.w = w;
        for (size_t n = begin; n < end; n += E8_NR, l.w += block) widen_weights(g, &l, n);
        for (int32_t y = g->first; y < g->last; y++) {
            widen_lines(g, &l, y);
            l.w = w;
            for (size_t n = begin; n < end; n += E8_NR, l.w += block) run_line(g, q, &l, y, n);
        }
    }
}
#endif
