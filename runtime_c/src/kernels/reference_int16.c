/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of the int16 kernels in portable C; kernel.h has the contracts. */
#include "int16.h"

#include "../numeric.h"

void e8_dequantise_s16(const int16_t *x, float *y, size_t count, float scale)
{
    for (size_t i = 0; i < count; i++) y[i] = (float)x[i] * scale;
}

static int16_t code_of(float value, float low, float high)
{
    value = value > low ? value : low;
    return (int16_t)rne_small(value < high ? value : high);
}

void e8_quantise_s16(const float *x, int16_t *y, size_t count, float multiplier, float low, float high)
{
    for (size_t i = 0; i < count; i++) y[i] = code_of(x[i] * multiplier, low, high);
}

void e8_finish_s16(const double *sums, const int16_t *residual, int16_t *y, size_t count, const struct e8_requant_s16 *q)
{
    for (size_t c = 0; c < count; c++) {
        double acc = sums[c] + q->init[c];
        if (residual) acc += rne_double((double)((float)residual[c] * q->residual_multiplier[c]));
        y[c] = code_of((float)acc * q->multiplier[c], q->low, q->high);
    }
}

void e8_depthwise_s16(const struct e8_depthwise_s16 *g)
{
    for (size_t c = g->first; c < g->channels; c++) {
        double sum = 0.0;
        for (size_t t = 0; t < g->taps; t++) sum += (double)(((const int16_t *)g->a[t * g->a_stride])[c] * g->w[t * g->w_stride + c]);
        g->out[c] = sum;
    }
}

/* out[c] += row of int16 codes times a block. */
static void dot_block(double out[E8_NR], const struct e8_gemm_s16 *g, size_t i, const int8_t *w)
{
    for (size_t t = 0; t < g->taps; t++) {
        const int16_t *row = g->a[t * g->a_stride + i];
        for (size_t first = 0; first < g->segment; first += EXACT_SUMS) {
            int32_t sum[E8_NR] = {0};
            size_t end = g->segment - first < EXACT_SUMS ? g->segment : first + EXACT_SUMS;
            for (size_t s = first; s < end; s++) {
                const int8_t *column = w + s / 4 * (4 * E8_NR) + s % 4;
                for (size_t c = 0; c < E8_NR; c++) sum[c] += row[s] * column[4 * c];
            }
            for (size_t c = 0; c < E8_NR; c++) out[c] += (double)sum[c];
        }
        w += (g->segment + 3) / 4 * (4 * E8_NR);
    }
}

void e8_gemm_s16(const struct e8_gemm_s16 *g)
{
    size_t bytes = (g->taps * g->segment + 3) / 4 * 4 * E8_NR;
    for (size_t n = 0; n < g->n; n += E8_NR) {
        for (size_t i = 0; i < g->m; i++) {
            double *out = g->out + i * g->out_stride + n;
            for (size_t c = 0; c < E8_NR; c++) out[c] = 0.0;
            dot_block(out, g, i, g->w + n / E8_NR * bytes);
        }
    }
}

void e8_init_reference_int16(struct e8_kernels *k)
{
    k->dequantise_s16 = e8_dequantise_s16;
    k->quantise_s16 = e8_quantise_s16;
    k->finish_s16 = E8_LINEAR_HAS(E8_FORM_INT16) ? e8_finish_s16 : NULL;
    k->depthwise_s16 = E8_HAS(DepthwiseConv2D, E8_FORM_INT16) ? e8_depthwise_s16 : NULL;
    k->gemm_s16 = E8_HAS(Conv2D, E8_FORM_INT16) || E8_HAS(FullyConnected, E8_FORM_INT16) ? e8_gemm_s16 : NULL;
}
