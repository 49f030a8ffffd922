/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of the matrix kernels in portable C. A row is multiplied with one packed block of 16 output channels at a
 * time, a form that compilers turn into vector code. */
#include <stdbool.h>

#include "../numeric.h"
#include "codes.h"
#include "kernel.h"
#include "requant.h"

/* sum[c] += a[0..count) times the 4 columns of block `w` ([16][4]). */
static void add_four(uint32_t sum[E8_NR], const int8_t *a, size_t count, const int8_t *w)
{
    int32_t v[4] = {0, 0, 0, 0};
    for (size_t j = 0; j < count; j++) v[j] = a[j];
    for (size_t c = 0; c < E8_NR; c++)
        sum[c] += (uint32_t)(v[0] * w[4 * c] + v[1] * w[4 * c + 1] + v[2] * w[4 * c + 2] + v[3] * w[4 * c + 3]);
}

/* One row times one block of weights. */
static void dot_block(uint32_t sum[E8_NR], const void *const *a, size_t a_stride, size_t taps, size_t segment, const int8_t *w)
{
    for (size_t t = 0; t < taps; t++) {
        const int8_t *row = a[t * a_stride];
        for (size_t s = 0; s < segment; s += 4, w += 4 * E8_NR) add_four(sum, row + s, segment - s < 4 ? segment - s : 4, w);
    }
}

static size_t block_bytes(size_t taps, size_t segment)
{
    return (taps * segment + 3) / 4 * 4 * E8_NR;
}

static size_t block_width(size_t n, size_t first)
{
    return n - first < E8_NR ? n - first : E8_NR;
}

static void gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    size_t bytes = block_bytes(g->taps, g->segment);
    for (size_t n = 0; n < g->n; n += E8_NR) {
        for (size_t i = 0; i < g->m; i++) {
            uint32_t sum[E8_NR];
            for (size_t c = 0; c < E8_NR; c++) sum[c] = (uint32_t)q->init[n + c];
            dot_block(sum, g->a + i, g->a_stride, g->taps, g->segment, g->w + n / E8_NR * bytes);
            for (size_t c = 0; c < block_width(g->n, n); c++) {
                const int8_t *residual = g->residual ? g->residual + i * g->residual_stride + n + c : NULL;
                g->out[i * g->out_stride + n + c] = requant_one(q, (int32_t)sum[c], n + c, residual);
            }
        }
    }
}

static void gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    size_t bytes = block_bytes(g->taps, g->segment);
    for (size_t n = 0; n < g->n; n += E8_NR) {
        for (size_t i = 0; i < g->m; i++) {
            uint32_t sum[E8_NR];
            for (size_t c = 0; c < E8_NR; c++) sum[c] = g->init ? (uint32_t)g->init[n + c] : 0;
            dot_block(sum, g->a + i, g->a_stride, g->taps, g->segment, g->w + n / E8_NR * bytes);
            for (size_t c = 0; c < block_width(g->n, n); c++) g->out[i * g->out_stride + n + c] = (int32_t)sum[c];
        }
    }
}

/* One row times one float block [k][16]: a chain of fused multiply-adds per output, k ascending. */
static void chain_block(float acc[E8_NR], const struct e8_gemm_f32 *g, size_t i, size_t n)
{
    const float *w = g->w + n * (g->taps * g->segment);
    for (size_t t = 0; t < g->taps; t++) {
        const float *row = g->a[t * g->a_stride + i];
        for (size_t s = 0; s < g->segment; s++, w += E8_NR)
            for (size_t c = 0; c < E8_NR; c++) acc[c] = fma_float(row[s], w[c], acc[c]);
    }
}

static void gemm_f32(const struct e8_gemm_f32 *g)
{
    for (size_t n = 0; n < g->n; n += E8_NR) {
        for (size_t i = 0; i < g->m; i++) {
            float acc[E8_NR];
            for (size_t c = 0; c < E8_NR; c++) acc[c] = g->bias && !g->scale ? g->bias[n + c] : 0.0f;
            chain_block(acc, g, i, n);
            for (size_t c = 0; c < block_width(g->n, n); c++) {
                float value = acc[c];
                if (g->scale) value = fma_float(value, g->scale[n + c], g->bias ? g->bias[n + c] : 0.0f);
                if (g->residual) value += g->residual[i * g->residual_stride + n + c];
                g->out[i * g->out_stride + n + c] = clamp_float(value, g->low, g->high);
            }
        }
    }
}

static void decode(const struct e8_decode *d)
{
    for (size_t i = 0; i < d->k; i++) {
        const uint8_t *block = d->codes + i / 4 * (8 * (size_t)d->bits);
        for (size_t c = 0; c < E8_NR; c++) {
            float value = (float)code_at(block, d->bits, 4 * c + i % 4);
            d->panel[i * E8_NR + c] = d->scale ? value * d->scale[i / d->group * E8_NR + c] : value;
        }
    }
}

static void requantise_sums(const int32_t *x, int8_t *y, size_t count, int32_t add, const struct e8_requant_row *p)
{
    for (size_t i = 0; i < count; i++) {
        int32_t acc = (int32_t)((uint32_t)x[i] + (uint32_t)add);
        y[i] = (int8_t)requantise((float)acc * p->multiplier, p->zero_point, p->low, p->high);
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

void e8_init_reference_gemm(struct e8_kernels *k)
{
    bool dynamic = E8_HAS(FullyConnected, E8_FORM_FLOAT);
    bool product = E8_HAS(MatMul, E8_FORM_INT8);
    bool f32 = E8_MATRIX_HAS(E8_FORM_FLOAT);
    k->gemm_s8 = E8_MATRIX_HAS(E8_FORM_INT8) ? gemm_s8 : NULL;
    k->gemm_s8s32 = dynamic || product || E8_HAS(ConvTranspose2D, E8_FORM_INT8) ? gemm_s8s32 : NULL;
    k->gemm_f32 = f32 || E8_HAS(MatMul, E8_FORM_FLOAT | E8_FORM_INT16) ? gemm_f32 : NULL;
    k->decode = f32 ? decode : NULL;
    k->requantise = product || E8_HAS(Pool2D, E8_FORM_INT8) ? requantise_sums : NULL;
    k->dequantise_sums = dynamic ? dequantise_sums : NULL;
}
