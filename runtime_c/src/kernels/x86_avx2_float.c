/* SPDX-License-Identifier: Apache-2.0
 *
 * Float matrix kernels for AVX2 and FMA: tiles of 6 rows by 16 channels, each output one chain of fused multiply-adds. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"

enum { ROWS = 6 };

AVX2_INLINE __m256 load8(const float *p)
{
    return _mm256_loadu_ps(p);
}

/* acc = fma chains of `rows` rows from `first` with one block [k][16]. */
AVX2_INLINE void chain(__m256 acc[ROWS][2], const struct e8_gemm_f32 *g, int rows, int vectors, size_t first, const float *w)
{
    for (size_t t = 0; t < g->taps; t++) {
        const float *row[ROWS];
        E8_UNROLL
        for (int i = 0; i < rows; i++) row[i] = g->a[t * g->a_stride + first + (size_t)i];
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

/* Scale, bias, residual and clamp of 8 channels from c of row `at`. */
AVX2_INLINE __m256 finish8(const struct e8_gemm_f32 *g, __m256 acc, size_t c, const float *residual)
{
    if (g->scale) acc = _mm256_fmadd_ps(acc, load8(g->scale + c), g->bias ? load8(g->bias + c) : _mm256_setzero_ps());
    if (residual) acc = _mm256_add_ps(acc, load8(residual));
    return _mm256_min_ps(_mm256_set1_ps(g->high), _mm256_max_ps(_mm256_set1_ps(g->low), acc));
}

/* A row of `columns` (1 to 16) channels from n. The tail goes through a buffer: masked stores take dozens of cycles on some CPUs. */
AVX2_INLINE void finish_row_f32(const struct e8_gemm_f32 *g, __m256 a, __m256 b, size_t at, size_t n, size_t columns)
{
    const float *residual = g->residual ? g->residual + at * g->residual_stride + n : NULL;
    float *out = g->out + at * g->out_stride + n, part[E8_NR] = {0};
    if (columns < E8_NR && residual) residual = memcpy(part, residual, columns * sizeof *part);
    a = finish8(g, a, n, residual);
    b = finish8(g, b, n + 8, residual ? residual + 8 : NULL);
    float *to = columns < E8_NR ? part : out;
    _mm256_storeu_ps(to, a);
    _mm256_storeu_ps(to + 8, b);
    if (columns < E8_NR) memcpy(out, part, columns * sizeof *out);
}

AVX2_INLINE void tile(const struct e8_gemm_f32 *g, int rows, int vectors, size_t first, size_t n, size_t columns, const float *w)
{
    __m256 acc[ROWS][2];
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        E8_UNROLL
        for (int j = 0; j < 2; j++) acc[i][j] = g->bias && !g->scale ? load8(g->bias + n + 8 * (size_t)j) : _mm256_setzero_ps();
    }
    chain(acc, g, rows, vectors, first, w);
    E8_UNROLL
    for (int i = 0; i < rows; i++) {
        finish_row_f32(g, acc[i][0], acc[i][1], first + (size_t)i, n, columns);
    }
}

AVX2 static void gemm_f32(const struct e8_gemm_f32 *g)
{
    for (size_t n = 0; n < g->n; n += E8_NR) {
        const float *w = g->w + n * (g->taps * g->segment);
        size_t columns = g->n - n < E8_NR ? g->n - n : E8_NR, i = 0;
        if (columns > 8) {
            for (; i + 6 <= g->m; i += 6) tile(g, 6, 2, i, n, columns, w);
            for (; i + 3 <= g->m; i += 3) tile(g, 3, 2, i, n, columns, w);
            for (; i < g->m; i++) tile(g, 1, 2, i, n, columns, w);
        } else {
            for (; i + 6 <= g->m; i += 6) tile(g, 6, 1, i, n, columns, w);
            for (; i < g->m; i++) tile(g, 1, 1, i, n, columns, w);
        }
    }
}

AVX2 static void dequantise_sums(const int32_t *x, float *y, size_t count, float row_scale, const struct e8_dequant_row *p)
{
    __m256 low = _mm256_set1_ps(p->low), high = _mm256_set1_ps(p->high), s = _mm256_set1_ps(row_scale);
    size_t c = 0;
    for (; c + 8 <= count; c += 8) {
        __m256 sum = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(x + c)));
        __m256 value = _mm256_fmadd_ps(sum, _mm256_mul_ps(s, load8(p->scale + c)), p->bias ? load8(p->bias + c) : _mm256_setzero_ps());
        if (p->residual) value = _mm256_add_ps(value, load8(p->residual + c));
        _mm256_storeu_ps(y + c, _mm256_min_ps(high, _mm256_max_ps(low, value)));
    }
    for (; c < count; c++) {
        float value = __builtin_fmaf((float)x[c], row_scale * p->scale[c], p->bias ? p->bias[c] : 0.0f);
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
