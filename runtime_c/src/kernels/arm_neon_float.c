/* SPDX-License-Identifier: Apache-2.0
 *
 * Float kernels for AArch64: every output is a chain of fused multiply-adds over k ascending, 16 channels of a few rows at a
 * time. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON) && defined(__aarch64__)
#include "arm_neon.h"

enum { ROWS = 4 };

/* One input of each row, lane `lane` of x, times 16 weights. */
#define ADD_LANE(lane)                                                                                                                     \
    do {                                                                                                                                   \
        for (int j = 0; j < 4; j++) {                                                                                                      \
            float32x4_t v = vld1q_f32(w + E8_NR * (lane) + 4 * j);                                                                         \
            for (int r = 0; r < rows; r++) acc[r][j] = vfmaq_laneq_f32(acc[r][j], v, x[r], lane);                                          \
        }                                                                                                                                  \
    } while (0)

E8_INLINE void add_four(float32x4_t acc[ROWS][4], int rows, const float *const *row, size_t s, const float *w)
{
    float32x4_t x[ROWS];
    E8_UNROLL
    for (int r = 0; r < rows; r++) x[r] = vld1q_f32(row[r] + s);
    ADD_LANE(0);
    ADD_LANE(1);
    ADD_LANE(2);
    ADD_LANE(3);
}

E8_INLINE void add_one(float32x4_t acc[ROWS][4], int rows, const float *const *row, size_t s, const float *w)
{
    E8_UNROLL
    for (int j = 0; j < 4; j++) {
        float32x4_t v = vld1q_f32(w + 4 * j);
        E8_UNROLL
        for (int r = 0; r < rows; r++) acc[r][j] = vfmaq_n_f32(acc[r][j], v, row[r][s]);
    }
}

E8_INLINE void chains(float32x4_t acc[ROWS][4], int rows, const struct e8_gemm_f32 *g, size_t i, size_t n)
{
    const float *w = g->w + n * (g->taps * g->segment), *row[ROWS];
    for (size_t t = 0; t < g->taps; t++) {
        E8_UNROLL
        for (int r = 0; r < rows; r++) row[r] = g->a[t * g->a_stride + i + (size_t)r];
        size_t s = 0;
        for (; s + 4 <= g->segment; s += 4, w += 4 * E8_NR) add_four(acc, rows, row, s, w);
        for (; s < g->segment; s++, w += E8_NR) add_one(acc, rows, row, s, w);
    }
}

/* Four outputs from a chain's end. */
E8_INLINE float32x4_t finish(float32x4_t acc, const struct e8_gemm_f32 *g, size_t c, const float *residual)
{
    if (g->scale) acc = vfmaq_f32(g->bias ? vld1q_f32(g->bias + c) : vdupq_n_f32(0.0f), acc, vld1q_f32(g->scale + c));
    if (residual) acc = vaddq_f32(acc, vld1q_f32(residual));
    return clamp_floats(acc, vdupq_n_f32(g->low), vdupq_n_f32(g->high));
}

E8_INLINE void gemm_rows(int rows, const struct e8_gemm_f32 *g, size_t i, size_t n)
{
    float32x4_t acc[ROWS][4];
    size_t width = g->n - n < E8_NR ? g->n - n : E8_NR;
    E8_UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) acc[r][j] = g->bias && !g->scale ? vld1q_f32(g->bias + n + 4 * j) : vdupq_n_f32(0.0f);
    chains(acc, rows, g, i, n);
    for (int r = 0; r < rows; r++, i++) {
        const float *residual = g->residual ? g->residual + i * g->residual_stride + n : NULL;
        float *out = g->out + i * g->out_stride + n, values[E8_NR], last[E8_NR] = {0};
        if (width == E8_NR) {
            for (int j = 0; j < 4; j++) vst1q_f32(out + 4 * j, finish(acc[r][j], g, n + 4 * (size_t)j, residual ? residual + 4 * j : NULL));
            continue;
        }
        if (residual) memcpy(last, residual, width * sizeof last[0]);
        for (int j = 0; j < 4; j++) vst1q_f32(values + 4 * j, finish(acc[r][j], g, n + 4 * (size_t)j, residual ? last + 4 * j : NULL));
        memcpy(out, values, width * sizeof values[0]);
    }
}

static void gemm_f32(const struct e8_gemm_f32 *g)
{
    for (size_t n = 0; n < g->n; n += E8_NR) {
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) gemm_rows(ROWS, g, i, n);
        for (; i < g->m; i++) gemm_rows(1, g, i, n);
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
