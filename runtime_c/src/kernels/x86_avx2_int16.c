/* SPDX-License-Identifier: Apache-2.0
 *
 * int16 kernels for AVX2. Matrix products widen the weights to int16 and multiply with vpmaddwd: a lane holds a sum of two products,
 * which stays exact in int32 for EXACT_SUMS products; then the lanes go to double precision. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "int16.h"
#include "x86_avx2.h"

/* max and min keep the order of operands of the reference, so NaN goes the same way. Codes come out as int32. */
AVX2_INLINE __m256i codes8(__m256 value, __m256 low, __m256 high)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(value, low), high));
}

AVX2_INLINE __m256i widen_codes(const int16_t *x)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)x));
}

AVX2_INLINE void store_codes(int16_t *y, __m256i codes)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storeu_si128((__m128i *)(void *)y, words);
}

AVX2 static void dequantise_s16(const int16_t *x, float *y, size_t count, float scale)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(widen_codes(x + i)), _mm256_set1_ps(scale)));
    e8_dequantise_s16(x + i, y + i, count - i, scale);
}

AVX2 static void quantise_s16(const float *x, int16_t *y, size_t count, float multiplier, float low, float high)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256 value = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(multiplier));
        store_codes(y + i, codes8(value, _mm256_set1_ps(low), _mm256_set1_ps(high)));
    }
    e8_quantise_s16(x + i, y + i, count - i, multiplier, low, high);
}

/* Four sums to float32 accumulators. */
AVX2_INLINE __m128 accumulate4(const double *sums, const double *init, __m128 residual)
{
    const __m256d magic = _mm256_set1_pd(6755399441055744.0); /* rne_double */
    __m256d acc = _mm256_add_pd(_mm256_loadu_pd(sums), _mm256_loadu_pd(init));
    __m256d more = _mm256_sub_pd(_mm256_add_pd(_mm256_cvtps_pd(residual), magic), magic);
    return _mm256_cvtpd_ps(_mm256_add_pd(acc, more));
}

AVX2 static void finish_s16(const double *sums, const int16_t *residual, int16_t *y, size_t count, const struct e8_requant_s16 *q)
{
    size_t c = 0;
    for (; c + 8 <= count; c += 8) {
        __m256 more = _mm256_setzero_ps();
        if (residual) more = _mm256_mul_ps(_mm256_cvtepi32_ps(widen_codes(residual + c)), _mm256_loadu_ps(q->residual_multiplier + c));
        __m128 first = accumulate4(sums + c, q->init + c, _mm256_castps256_ps128(more));
        __m128 last = accumulate4(sums + c + 4, q->init + c + 4, _mm256_extractf128_ps(more, 1));
        __m256 value = _mm256_mul_ps(_mm256_set_m128(last, first), _mm256_loadu_ps(q->multiplier + c));
        store_codes(y + c, codes8(value, _mm256_set1_ps(q->low), _mm256_set1_ps(q->high)));
    }
    struct e8_requant_s16 rest = *q;
    rest.init += c;
    rest.multiplier += c;
    rest.residual_multiplier += c;
    e8_finish_s16(sums + c, residual ? residual + c : NULL, y + c, count - c, &rest);
}

/* out[0..8) = sums, or += sums. */
AVX2_INLINE void add_sums(double *out, __m256i sums, int add)
{
    __m256d a = _mm256_cvtepi32_pd(_mm256_castsi256_si128(sums)), b = _mm256_cvtepi32_pd(_mm256_extracti128_si256(sums, 1));
    if (add) {
        a = _mm256_add_pd(a, _mm256_loadu_pd(out));
        b = _mm256_add_pd(b, _mm256_loadu_pd(out + 4));
    }
    _mm256_storeu_pd(out, a);
    _mm256_storeu_pd(out + 4, b);
}

AVX2 static void depthwise_s16(const struct e8_depthwise_s16 *g)
{
    struct e8_depthwise_s16 rest = *g;
    size_t c = g->first;
    for (; c + 8 <= g->channels; c += 8) {
        for (size_t first = 0; first < g->taps; first += EXACT_SUMS) {
            size_t end = g->taps - first < EXACT_SUMS ? g->taps : first + EXACT_SUMS;
            __m256i sums = _mm256_setzero_si256();
            for (size_t t = first; t < end; t++) {
                __m256i a = widen_codes((const int16_t *)g->a[t * g->a_stride] + c);
                __m256i w = widen8(_mm_loadl_epi64((const __m128i *)(const void *)(g->w + t * g->w_stride + c)));
                sums = _mm256_add_epi32(sums, _mm256_mullo_epi32(a, w));
            }
            add_sums(g->out + c, sums, first > 0);
        }
    }
    rest.first = c;
    e8_depthwise_s16(&rest);
}

/* Fewer than 4 codes, the rest 0. */
__attribute__((noinline)) static int64_t last_codes(const int16_t *p, size_t count)
{
    uint64_t codes = 0;
    while (count-- > 0) codes = codes << 16 | (uint16_t)p[count];
    return (int64_t)codes;
}

AVX2_INLINE int64_t load_codes(const int16_t *p, size_t count)
{
    int64_t codes;
    if (count < 4) return last_codes(p, count);
    memcpy(&codes, p, sizeof codes);
    return codes;
}

enum { ROWS = 2, STEPS = EXACT_SUMS / 4 };

/* The lanes of a row to its sums in `out`. */
AVX2_INLINE void flush(const __m256i acc[4], double *out, int add)
{
    __m256i first = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[0], acc[1]), 0xD8);
    __m256i last = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[2], acc[3]), 0xD8);
    add_sums(out, first, add);
    add_sums(out + 8, last, add);
}

AVX2_INLINE void tile(const struct e8_gemm_s16 *g, int rows, size_t first, size_t n, const int8_t *w)
{
    __m256i acc[ROWS][4];
    int added = 0;
    double *out = g->out + first * g->out_stride + n;
    size_t t = 0, s = 0;
    while (t < g->taps) {
        E8_UNROLL
        for (int i = 0; i < rows; i++) {
            E8_UNROLL
            for (int j = 0; j < 4; j++) acc[i][j] = _mm256_setzero_si256();
        }
        for (int step = 0; step < STEPS && t < g->taps; step++, w += 4 * E8_NR) {
            const void *const *a = g->a + t * g->a_stride + first;
            __m256i x[ROWS];
            E8_UNROLL
            for (int i = 0; i < rows; i++) x[i] = _mm256_set1_epi64x(load_codes((const int16_t *)a[i] + s, g->segment - s));
            E8_UNROLL
            for (int j = 0; j < 4; j++) {
                __m256i v = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(const void *)(w + 16 * j)));
                E8_UNROLL
                for (int i = 0; i < rows; i++) acc[i][j] = _mm256_add_epi32(acc[i][j], _mm256_madd_epi16(x[i], v));
            }
            s += 4;
            if (s >= g->segment) s = 0, t++;
        }
        E8_UNROLL
        for (int i = 0; i < rows; i++) flush(acc[i], out + (size_t)i * g->out_stride, added);
        added = 1;
    }
}

AVX2 static void gemm_s16(const struct e8_gemm_s16 *g)
{
    size_t bytes = (g->taps * g->segment + 3) / 4 * 4 * E8_NR;
    for (size_t n = 0; n < g->n; n += E8_NR) {
        const int8_t *w = g->w + n / E8_NR * bytes;
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) tile(g, ROWS, i, n, w);
        if (i < g->m) tile(g, 1, i, n, w);
    }
}

void e8_init_avx2_int16(struct e8_kernels *k)
{
    k->dequantise_s16 = dequantise_s16;
    k->quantise_s16 = quantise_s16;
    k->finish_s16 = finish_s16;
    k->depthwise_s16 = depthwise_s16;
    k->gemm_s16 = gemm_s16;
}
#endif
