/* SPDX-License-Identifier: Apache-2.0
 *
 * Float kernels for ARMv7 with VFPv4 (Cortex-A7, A15): fused multiply-add of the scalar unit, which follows IEEE 754. NEON
 * would flush denormal numbers to zero and give other results. 4 rows times 4 channels at a time keep 16 chains in registers. */
#include "arm_levels.h"

#if defined(E8_KERNELS_VFPV4)
#if !defined(__ARM_FEATURE_FMA)
#error "edge8: compile arm_v7_vfp.c with -mfpu=vfpv4 (the rest of the library may stay without)"
#endif
#include "kernel.h"
#include "requant.h"

enum { ROWS = 4, COLUMNS = 4 };

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Channels [c, c + 4) of `rows` rows from i on; `w` is their block, `lane` their place in it. */
INLINE void chains(float acc[ROWS][COLUMNS], int rows, const struct e8_gemm_f32 *g, size_t i, const float *w)
{
    const float *row[ROWS];
    for (size_t t = 0; t < g->taps; t++) {
        UNROLL
        for (int r = 0; r < rows; r++) row[r] = g->a[t * g->a_stride + i + (size_t)r];
        for (size_t s = 0; s < g->segment; s++, w += E8_NR) {
            UNROLL
            for (int r = 0; r < rows; r++) {
                float x = row[r][s];
                UNROLL
                for (int j = 0; j < COLUMNS; j++) acc[r][j] = fma_float(x, w[j], acc[r][j]);
            }
        }
    }
}

INLINE void gemm_tile(int rows, const struct e8_gemm_f32 *g, size_t i, size_t c)
{
    float acc[ROWS][COLUMNS];
    UNROLL
    for (int r = 0; r < rows; r++)
        for (size_t j = 0; j < COLUMNS; j++) acc[r][j] = g->bias && !g->scale ? g->bias[c + j] : 0.0f;
    chains(acc, rows, g, i, g->w + c / E8_NR * E8_NR * (g->taps * g->segment) + c % E8_NR);
    for (int r = 0; r < rows; r++, i++) {
        for (size_t j = 0; j < COLUMNS && c + j < g->n; j++) {
            float value = acc[r][j];
            if (g->scale) value = fma_float(value, g->scale[c + j], g->bias ? g->bias[c + j] : 0.0f);
            if (g->residual) value += g->residual[i * g->residual_stride + c + j];
            g->out[i * g->out_stride + c + j] = clamp_float(value, g->low, g->high);
        }
    }
}

static void gemm_f32(const struct e8_gemm_f32 *g)
{
    for (size_t c = 0; c < g->n; c += COLUMNS) {
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) gemm_tile(ROWS, g, i, c);
        for (; i < g->m; i++) gemm_tile(1, g, i, c);
    }
}

/* acc = bias; acc = fma(a, w, acc) over taps; clamp. */
static void depthwise_f32(const struct e8_depthwise_f32 *g)
{
    for (size_t i = 0; i < g->m; i++) {
        float *out = g->out + i * g->out_stride;
        for (size_t c = 0; c < g->channels; c++) {
            float acc = g->bias ? g->bias[c] : 0.0f;
            for (size_t t = 0; t < g->taps; t++)
                acc = fma_float(((const float *)g->a[t * g->a_stride + i])[c], g->w[t * g->w_stride + c], acc);
            out[c] = clamp_float(acc, g->low, g->high);
        }
    }
}

static void dequantise_sums(const int32_t *x, float *y, size_t count, float row_scale, const struct e8_dequant_row *p)
{
    for (size_t c = 0; c < count; c++) {
        float sum = (float)sum_of_codes(p, x[c], c), value = fma_float(sum, row_scale * p->scale[c], p->bias ? p->bias[c] : 0.0f);
        if (p->residual) value += p->residual[c];
        y[c] = clamp_float(value, p->low, p->high);
    }
}

void e8_init_vfpv4(struct e8_kernels *k)
{
    k->level = "vfpv4";
    k->gemm_f32 = gemm_f32;
    k->depthwise_f32 = depthwise_f32;
    k->dequantise_sums = dequantise_sums;
}

void e8_init_neon_vfpv4(struct e8_kernels *k)
{
    k->level = "neon-vfpv4";
}
#endif
