/* SPDX-License-Identifier: Apache-2.0
 *
 * Window kernels by pointer for AVX2: pooling, and depthwise convolution with kernels that x86_avx2_depthwise.c does not take.
 * Two taps at a time: their int16 values side by side in 32 bits make one vpmaddwd of 8 channels do 16 multiply-accumulates. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include <stdbool.h>

#include "x86_avx2.h"

/* acc of 16 channels += two taps. The vectors of unpacked pairs hold channels 0-3, 8-11 and 4-7, 12-15. */
AVX2_INLINE void add_pair(__m256i acc[2], __m128i a0, __m128i a1, __m128i w0, __m128i w1)
{
    __m256i x0 = _mm256_cvtepi8_epi16(a0), x1 = _mm256_cvtepi8_epi16(a1), v0 = _mm256_cvtepi8_epi16(w0), v1 = _mm256_cvtepi8_epi16(w1);
    acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), _mm256_unpacklo_epi16(v0, v1)));
    acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), _mm256_unpackhi_epi16(v0, v1)));
}

/* One pixel, `count` (1 to 16) channels from c. */
AVX2_INLINE void pixel_s8(const struct e8_depthwise_s8 *g, const struct e8_requant *q, const struct requant_avx2 *r, size_t i, size_t c,
                          size_t count)
{
    __m256i acc[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t t = 0;
    for (; t < g->taps; t += 2) {
        bool pair = t + 1 < g->taps;
        const int8_t *a0 = (const int8_t *)g->a[t * g->a_stride + i] + c;
        const int8_t *a1 = pair ? (const int8_t *)g->a[(t + 1) * g->a_stride + i] + c : a0;
        const int8_t *w = g->w + t * g->w_stride + c;
        __m128i w0 = _mm_loadu_si128((const __m128i *)(const void *)w);
        __m128i w1 = pair ? _mm_loadu_si128((const __m128i *)(const void *)(w + g->w_stride)) : _mm_setzero_si128();
        add_pair(acc, load_bytes(a0, count), load_bytes(a1, count), w0, w1);
    }
    __m256i first = _mm256_permute2x128_si256(acc[0], acc[1], 0x20), second = _mm256_permute2x128_si256(acc[0], acc[1], 0x31);
    first = _mm256_add_epi32(first, _mm256_loadu_si256((const __m256i *)(const void *)(q->init + c)));
    second = _mm256_add_epi32(second, _mm256_loadu_si256((const __m256i *)(const void *)(q->init + c + 8)));
    __m256i row[1][2] = {{first, second}};
    finish_rows(r, q, row, 1, c, count, NULL, 0, g->out + i * g->out_stride + c, 0);
}

AVX2 static void depthwise_s8(const struct e8_depthwise_s8 *g, const struct e8_requant *q)
{
    struct requant_avx2 r = requant_constants(q);
    for (size_t i = 0; i < g->m; i++) {
        size_t c = 0;
        for (; c + 16 <= g->channels; c += 16) pixel_s8(g, q, &r, i, c, 16);
        if (c < g->channels) pixel_s8(g, q, &r, i, c, g->channels - c);
    }
}

AVX2_INLINE void pixel_f32(const struct e8_depthwise_f32 *g, size_t i, size_t c)
{
    __m256 acc = g->bias ? _mm256_loadu_ps(g->bias + c) : _mm256_setzero_ps();
    for (size_t t = 0; t < g->taps; t++) {
        const float *a = g->a[t * g->a_stride + i];
        acc = _mm256_fmadd_ps(_mm256_loadu_ps(a + c), _mm256_loadu_ps(g->w + t * g->w_stride + c), acc);
    }
    acc = _mm256_min_ps(_mm256_set1_ps(g->high), _mm256_max_ps(_mm256_set1_ps(g->low), acc));
    _mm256_storeu_ps(g->out + i * g->out_stride + c, acc);
}

AVX2 static void depthwise_f32(const struct e8_depthwise_f32 *g)
{
    for (size_t i = 0; i < g->m; i++) {
        size_t c = 0;
        for (; c + 8 <= g->channels; c += 8) pixel_f32(g, i, c);
        for (; c < g->channels; c++) {
            float acc = g->bias ? g->bias[c] : 0.0f;
            for (size_t t = 0; t < g->taps; t++)
                acc = __builtin_fmaf(((const float *)g->a[t * g->a_stride + i])[c], g->w[t * g->w_stride + c], acc);
            g->out[i * g->out_stride + c] = clamp_float(acc, g->low, g->high);
        }
    }
}

AVX2 static void max_s8(const int8_t *const *a, size_t taps, size_t count, int8_t *y)
{
    size_t c = 0;
    for (; c + 32 <= count; c += 32) {
        __m256i top = _mm256_loadu_si256((const __m256i *)(const void *)(a[0] + c));
        for (size_t t = 1; t < taps; t++) top = _mm256_max_epi8(top, _mm256_loadu_si256((const __m256i *)(const void *)(a[t] + c)));
        _mm256_storeu_si256((__m256i *)(void *)(y + c), top);
    }
    for (; c < count; c += 16) {
        size_t rest = count - c;
        __m128i top = load_bytes(a[0] + c, rest);
        for (size_t t = 1; t < taps; t++) top = _mm_max_epi8(top, load_bytes(a[t] + c, rest));
        store_bytes(y + c, top, rest);
    }
}

AVX2 static void sum_s8(const int8_t *const *a, size_t taps, size_t count, int32_t *y)
{
    size_t c = 0;
    for (; c + 8 <= count; c += 8) {
        __m256i sum = _mm256_loadu_si256((const __m256i *)(const void *)(y + c));
        for (size_t t = 0; t < taps; t++) sum = _mm256_add_epi32(sum, widen8(_mm_loadl_epi64((const __m128i *)(const void *)(a[t] + c))));
        _mm256_storeu_si256((__m256i *)(void *)(y + c), sum);
    }
    for (; c < count; c++)
        for (size_t t = 0; t < taps; t++) y[c] += a[t][c];
}

void e8_init_avx2_window(struct e8_kernels *k)
{
    k->depthwise_s8 = depthwise_s8;
    k->depthwise_f32 = depthwise_f32;
    k->max_s8 = max_s8;
    k->sum_s8 = sum_s8;
}
#endif
