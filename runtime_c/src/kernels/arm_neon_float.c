/* SPDX-License-Identifier: Apache-2.0
 *
 * Float kernels for AArch64: every output is a chain of fused multiply-adds over k ascending, 16 channels of a few rows at a
 * time. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON) && defined(__aarch64__)
#include "arm_tile.h"

enum { ROWS = 6 };

/* Four outputs from a chain's end. */
E8_INLINE float32x4_t finish(float32x4_t sum, const struct e8_gemm_f32 *g, size_t c, const float *residual)
{
    if (g->scale) sum = vfmaq_f32(g->bias ? vld1q_f32(g->bias + c) : vdupq_n_f32(0.0f), sum, vld1q_f32(g->scale + c));
    if (residual) sum = vaddq_f32(sum, vld1q_f32(residual));
    return clamp_floats(sum, vdupq_n_f32(g->low), vdupq_n_f32(g->high));
}

/* Chains of row i, channels [n, n + 16), to their outputs. */
static void store_row(const struct e8_gemm_f32 *g, const float *sums, size_t i, size_t n)
{
    size_t width = g->n - n < E8_NR ? g->n - n : E8_NR;
    const float *residual = g->residual ? g->residual + i * g->residual_stride + n : NULL;
    float *out = g->out + i * g->out_stride + n, values[E8_NR], last[E8_NR] = {0};
    if (width == E8_NR) {
        for (size_t j = 0; j < E8_NR; j += 4) vst1q_f32(out + j, finish(vld1q_f32(sums + j), g, n + j, residual ? residual + j : NULL));
        return;
    }
    if (residual) memcpy(last, residual, width * sizeof last[0]);
    for (size_t j = 0; j < E8_NR; j += 4) vst1q_f32(values + j, finish(vld1q_f32(sums + j), g, n + j, residual ? last + j : NULL));
    memcpy(out, values, width * sizeof values[0]);
}

static const float ZEROS[E8_NR];

E8_INLINE const float *chain_start(const struct e8_gemm_f32 *g, size_t n)
{
    return g->bias && !g->scale ? g->bias + n : ZEROS;
}

/* 6 rows from `first` on; those before `store` are there already. */
static void six_rows(const struct e8_gemm_f32 *g, size_t first, size_t store, size_t n)
{
    float sums[ROWS * E8_NR];
    const float *w = g->w + n * (g->taps * g->segment);
    const struct arm_tile tile = {
        .a = g->a + first,
        .stride_bytes = g->a_stride * sizeof(void *),
        .taps = g->taps,
        .bytes = g->segment * sizeof(float),
        .w = w,
        .init = chain_start(g, n),
    };
    tile6_fmla(&tile, sums);
    for (size_t r = store - first; r < ROWS; r++) store_row(g, sums + r * E8_NR, first + r, n);
}

static void one_row(const struct e8_gemm_f32 *g, size_t i, size_t n)
{
    const float *w = g->w + n * (g->taps * g->segment), *start = chain_start(g, n);
    float32x4_t s0 = vld1q_f32(start), s1 = vld1q_f32(start + 4), s2 = vld1q_f32(start + 8), s3 = vld1q_f32(start + 12);
    for (size_t t = 0; t < g->taps; t++) {
        const float *row = g->a[t * g->a_stride + i];
        for (size_t s = 0; s < g->segment; s++, w += E8_NR) {
            s0 = vfmaq_n_f32(s0, vld1q_f32(w), row[s]);
            s1 = vfmaq_n_f32(s1, vld1q_f32(w + 4), row[s]);
            s2 = vfmaq_n_f32(s2, vld1q_f32(w + 8), row[s]);
            s3 = vfmaq_n_f32(s3, vld1q_f32(w + 12), row[s]);
        }
    }
    float sums[E8_NR];
    vst1q_f32(sums, s0);
    vst1q_f32(sums + 4, s1);
    vst1q_f32(sums + 8, s2);
    vst1q_f32(sums + 12, s3);
    store_row(g, sums, i, n);
}

/* Whole tiles, then one more that ends at the last row and computes some rows again; single rows where there are too few. */
static void gemm_f32(const struct e8_gemm_f32 *g)
{
    for (size_t n = 0; n < g->n; n += E8_NR) {
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) six_rows(g, i, i, n);
        if (i + 1 < g->m && g->m >= ROWS)
            six_rows(g, g->m - ROWS, i, n);
        else
            for (; i < g->m; i++) one_row(g, i, n);
    }
}

/* Channels [c, c + 4 * vectors) of one pixel. */
E8_INLINE void depthwise_pixel(int vectors, const struct e8_depthwise_f32 *g, size_t i, size_t c)
{
    float32x4_t acc[4];
    E8_UNROLL
    for (int j = 0; j < vectors; j++) acc[j] = g->bias ? vld1q_f32(g->bias + c + 4 * (size_t)j) : vdupq_n_f32(0.0f);
    for (size_t t = 0; t < g->taps; t++) {
        const float *a = g->a[t * g->a_stride + i];
        const float *w = g->w + t * g->w_stride + c;
        E8_UNROLL
        for (int j = 0; j < vectors; j++) acc[j] = vfmaq_f32(acc[j], vld1q_f32(a + c + 4 * j), vld1q_f32(w + 4 * j));
    }
    float *out = g->out + i * g->out_stride + c;
    E8_UNROLL
    for (int j = 0; j < vectors; j++) vst1q_f32(out + 4 * j, clamp_floats(acc[j], vdupq_n_f32(g->low), vdupq_n_f32(g->high)));
}

static void depthwise_f32(const struct e8_depthwise_f32 *g)
{
    for (size_t i = 0; i < g->m; i++) {
        size_t c = 0;
        for (; c + 16 <= g->channels; c += 16) depthwise_pixel(4, g, i, c);
        for (; c + 4 <= g->channels; c += 4) depthwise_pixel(1, g, i, c);
        for (; c < g->channels; c++) {
            float acc = g->bias ? g->bias[c] : 0.0f;
            for (size_t t = 0; t < g->taps; t++)
                acc = fma_float(((const float *)g->a[t * g->a_stride + i])[c], g->w[t * g->w_stride + c], acc);
            g->out[i * g->out_stride + c] = clamp_float(acc, g->low, g->high);
        }
    }
}

void e8_init_neon_float(struct e8_kernels *k)
{
    k->gemm_f32 = gemm_f32;
    k->depthwise_f32 = depthwise_f32;
}
#endif
