/* SPDX-License-Identifier: Apache-2.0
 *
 * Float matrix kernels for AVX2 and FMA: tiles of rows by 16 channels, each output one chain of fused multiply-adds. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"

enum { MOST = 8, BLOCKS = 4 };

AVX2_INLINE __m256 load8(const float *p)
{
    return _mm256_loadu_ps(p);
}

/* acc = fma chains of rows at[0], at[1], ... with one block [k][16]. */
AVX2_INLINE void chain(__m256 acc[MOST][2], const struct e8_gemm_f32 *g, int rows, int vectors, const size_t at[MOST], const float *w)
{
    for (size_t t = 0; t < g->taps; t++) {
        const float *row[MOST];
        E8_UNROLL
        for (int i = 0; i < rows; i++) row[i] = g->a[t * g->a_stride + at[i]];
        for (size_t s = 0; s < g->segment; s++, w += E8_NR) {
            __m256 v[2];
            E8_UNROLL
            for (int j = 0; j < vectors; j++) v[j] = load8(w + 8 * j);
            E8_UNROLL
            for (int i = 0; i < rows; i++) {
                __m256 x = _mm256_broadcast_ss(row[i] + s);
                E8_UNROLL
                for (int j = 0; j < vectors; j++) acc[i][j] = _mm256_fmadd_ps(x, v[j], acc[i][j]);
            }
        }
    }
}

AVX2_INLINE __m256 clamp8(const struct e8_gemm_f32 *g, __m256 v)
{
    return _mm256_min_ps(_mm256_set1_ps(g->high), _mm256_max_ps(_mm256_set1_ps(g->low), v));
}

/* Scale, bias, residual and clamp of 8 channels from c. */
AVX2_INLINE __m256 finish8(const struct e8_gemm_f32 *g, __m256 acc, size_t c, const float *residual)
{
    if (g->scale) acc = _mm256_fmadd_ps(acc, load8(g->scale + c), g->bias ? load8(g->bias + c) : _mm256_setzero_ps());
    if (residual) acc = _mm256_add_ps(acc, load8(residual));
    return clamp8(g, acc);
}

/* Sums of `count` rows from `first`, 16 channels from n, to their outputs. A tail goes through a buffer: masked stores take dozens
 * of cycles on some CPUs. */
AVX2 __attribute__((noinline)) static void finish_rows_f32(const struct e8_gemm_f32 *g, const float sums[][E8_NR], size_t first,
                                                           size_t count, size_t n)
{
    for (size_t i = first; i < first + count; i++, sums++) {
        for (size_t c = n; c < n + E8_NR && c < g->n; c += 8) {
            const float *residual = g->residual ? g->residual + i * g->residual_stride + c : NULL;
            float *out = g->out + i * g->out_stride + c, part[8] = {0};
            size_t width = g->n - c;
            if (width < 8 && residual) residual = memcpy(part, residual, width * sizeof *part);
            __m256 v = finish8(g, load8(*sums + (c - n)), c, residual);
            _mm256_storeu_ps(width < 8 ? part : out, v);
            if (width < 8) memcpy(out, part, width * sizeof *out);
        }
    }
}

/* Rows [first, first + count) of one block: `rows` are computed, the last row again where there are fewer. */
AVX2_INLINE void tile(const struct e8_gemm_f32 *g, int rows, int vectors, size_t first, size_t count, size_t n)
{
    __m256 acc[MOST][2];
    size_t at[MOST];
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        at[i] = first + ((size_t)i < count ? (size_t)i : count - 1);
        E8_UNROLL
        for (int j = 0; j < 2; j++) acc[i][j] = g->bias && !g->scale ? load8(g->bias + n + 8 * (size_t)j) : _mm256_setzero_ps();
    }
    chain(acc, g, rows, vectors, at, g->w + n * (g->taps * g->segment));
    if (g->n - n >= 8 * (size_t)vectors && count == (size_t)rows && !g->scale && !g->residual) {
        float *out = g->out + first * g->out_stride + n;
        E8_UNROLL
        for (int i = 0; i < rows; i++, out += g->out_stride) {
            E8_UNROLL
            for (int j = 0; j < vectors; j++) _mm256_storeu_ps(out + 8 * j, clamp8(g, acc[i][j]));
        }
        return;
    }
    float sums[MOST][E8_NR];
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        _mm256_storeu_ps(sums[i], acc[i][0]);
        _mm256_storeu_ps(sums[i] + 8, acc[i][1]);
    }
    finish_rows_f32(g, (const float(*)[E8_NR])sums, first, count, n);
}

/* One row times BLOCKS blocks: as many chains as hide the latency of the additions. */
AVX2_INLINE void wide_row(const struct e8_gemm_f32 *g, size_t n)
{
    __m256 acc[BLOCKS][2];
    float sums[1][E8_NR];
    size_t block = g->taps * g->segment * E8_NR;
    const float *w = g->w + n * (g->taps * g->segment);
    E8_UNROLL
    for (int i = 0; i < 2 * BLOCKS; i++)
        acc[i / 2][i % 2] = g->bias && !g->scale ? load8(g->bias + n + 8 * (size_t)i) : _mm256_setzero_ps();
    for (size_t t = 0; t < g->taps; t++) {
        const float *row = g->a[t * g->a_stride];
        for (size_t s = 0; s < g->segment; s++, w += E8_NR) {
            __m256 x = _mm256_broadcast_ss(row + s);
            E8_UNROLL
            for (int i = 0; i < 2 * BLOCKS; i++)
                acc[i / 2][i % 2] = _mm256_fmadd_ps(x, load8(w + (size_t)(i / 2) * block + 8 * (i % 2)), acc[i / 2][i % 2]);
        }
    }
    E8_UNROLL
    for (int i = 0; i < BLOCKS; i++) {
        _mm256_storeu_ps(sums[0], acc[i][0]);
        _mm256_storeu_ps(sums[0] + 8, acc[i][1]);
        finish_rows_f32(g, (const float(*)[E8_NR])sums, 0, 1, n + E8_NR * (size_t)i);
    }
}

/* Sixes of rows, and fours where those leave fewer to compute twice. */
AVX2 static void gemm_f32(const struct e8_gemm_f32 *g)
{
    size_t n = 0;
    for (; g->m == 1 && n + BLOCKS * E8_NR <= g->n; n += BLOCKS * E8_NR) wide_row(g, n);
    for (; n < g->n; n += E8_NR) {
        for (size_t i = 0, count; i < g->m; i += count) {
            size_t left = g->m - i;
            if (g->n - n <= 8) {
                count = left < 8 ? left : 8;
                tile(g, 8, 1, i, count, n);
            } else if (left > 8 || left == 5 || left == 6) {
                count = left < 6 ? left : 6;
                tile(g, 6, 2, i, count, n);
            } else {
                count = left < 4 ? left : 4;
                tile(g, 4, 2, i, count, n);
            }
        }
    }
}

AVX2 static void dequantise_sums(const int32_t *x, float *y, size_t count, float row_scale, const struct e8_dequant_row *p)
{
    __m256 low = _mm256_set1_ps(p->low), high = _mm256_set1_ps(p->high), s = _mm256_set1_ps(row_scale);
    __m256i zero = _mm256_set1_epi32(p->zero_point);
    size_t c = 0;
    for (; c + 8 <= count; c += 8) {
        __m256i shift = _mm256_mullo_epi32(zero, _mm256_loadu_si256((const __m256i *)(const void *)(p->weight_sum + c)));
        __m256i codes = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(x + c)), shift);
        __m256 value = _mm256_fmadd_ps(_mm256_cvtepi32_ps(codes), _mm256_mul_ps(s, load8(p->scale + c)),
                                       p->bias ? load8(p->bias + c) : _mm256_setzero_ps());
        if (p->residual) value = _mm256_add_ps(value, load8(p->residual + c));
        _mm256_storeu_ps(y + c, _mm256_min_ps(high, _mm256_max_ps(low, value)));
    }
    for (; c < count; c++) {
        float sum = (float)sum_of_codes(p, x[c], c);
        float value = __builtin_fmaf(sum, row_scale * p->scale[c], p->bias ? p->bias[c] : 0.0f);
        if (p->residual) value += p->residual[c];
        y[c] = clamp_float(value, p->low, p->high);
    }
}

void e8_init_avx2_float(struct e8_kernels *k)
{
    k->gemm_f32 = gemm_f32;
    k->dequantise_sums = dequantise_sums;
}
#endif
