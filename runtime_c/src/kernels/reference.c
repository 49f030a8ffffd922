/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of the depthwise and window kernels in portable C, and the table that every level starts from. */
#include "../numeric.h"
#include "kernel.h"
#include "requant.h"

/* acc = init + sum over taps of a * w; then e8_requant. */
static void depthwise_s8(const struct e8_depthwise_s8 *g, const struct e8_requant *q)
{
    for (size_t i = 0; i < g->m; i++) {
        int8_t *out = g->out + i * g->out_stride;
        for (size_t c = 0; c < g->channels; c++) {
            uint32_t acc = (uint32_t)q->init[c];
            for (size_t t = 0; t < g->taps; t++) {
                const int8_t *a = g->a[t * g->a_stride + i];
                acc += (uint32_t)(a[c] * g->w[t * g->w_stride + c]);
            }
            out[c] = requant_one(q, (int32_t)acc, c, NULL);
        }
    }
}

/* acc = bias; acc = fma(a, w, acc) over taps; clamp. */
static void depthwise_f32(const struct e8_depthwise_f32 *g)
{
    for (size_t i = 0; i < g->m; i++) {
        float *out = g->out + i * g->out_stride;
        for (size_t c = 0; c < g->channels; c++) {
            float acc = g->bias ? g->bias[c] : 0.0f;
            for (size_t t = 0; t < g->taps; t++) {
                const float *a = g->a[t * g->a_stride + i];
                acc = fma_float(a[c], g->w[t * g->w_stride + c], acc);
            }
            out[c] = clamp_float(acc, g->low, g->high);
        }
    }
}

static void max_s8(const int8_t *const *a, size_t taps, size_t count, int8_t *y)
{
    memmove(y, a[0], count);
    for (size_t t = 1; t < taps; t++)
        for (size_t c = 0; c < count; c++) y[c] = a[t][c] > y[c] ? a[t][c] : y[c];
}

static void sum_s8(const int8_t *const *a, size_t taps, size_t count, int32_t *y)
{
    for (size_t t = 0; t < taps; t++)
        for (size_t c = 0; c < count; c++) y[c] += a[t][c];
}

void e8_init_reference(struct e8_kernels *k)
{
    k->level = "reference";
    k->depthwise_s8 = E8_HAS(DepthwiseConv2D, E8_FORM_INT8) ? depthwise_s8 : NULL;
    k->depthwise_f32 = E8_HAS(DepthwiseConv2D, E8_FORM_FLOAT) ? depthwise_f32 : NULL;
    k->max_s8 = E8_HAS(Pool2D, E8_FORM_INT8) ? max_s8 : NULL;
    k->sum_s8 = E8_HAS(Pool2D, E8_FORM_INT8) || E8_HAS(Reduce, E8_FORM_INT8) ? sum_s8 : NULL;
    e8_init_reference_gemm(k);
    e8_init_reference_rows(k);
    if (E8_HAS(Conv2D, E8_FORM_FLOAT)) e8_init_reference_winograd(k);
    e8_init_reference_int16(k);
    e8_init_reference_elementwise(k);
}
