/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of the elementwise int8 kernels; kernel.h has the contracts. */
#include <stdbool.h>

#include "../numeric.h"
#include "../unary_map.h"
#include "kernel.h"

void e8_init_reference_elementwise(struct e8_kernels *k);

/* y = clamp(rne(x * inverse_scale) + zero_point); NaN gives the lowest code. */
static void quantise(const float *x, int8_t *y, size_t count, float inverse_scale, int32_t zero_point)
{
    for (size_t i = 0; i < count; i++) y[i] = (int8_t)requantise(x[i] * inverse_scale, zero_point, -128, 127);
}

/* y = (x - zero_point) * scale. */
static void dequantise(const int8_t *x, float *y, size_t count, float scale, int32_t zero_point)
{
    for (size_t i = 0; i < count; i++) y[i] = (float)(x[i] - zero_point) * scale;
}

/* y = table[x + 128]. */
static void lookup(const int8_t *x, int8_t *y, size_t count, const int8_t *table)
{
    for (size_t i = 0; i < count; i++) y[i] = table[x[i] + 128];
}

/* Division by 2^shift rounding down, also for negative numbers. */
static int32_t shift_right(int32_t value, int32_t shift)
{
    return value >= 0 ? value >> shift : ~(~value >> shift);
}

/* y = clamp((((x0 - zero0) * m0 + (x1 - zero1) * m1 + 2^(shift-1)) >> shift) + zero, low, high). With |x - zero| <= 255,
 * |m| < 2^15 and shift <= 30 the sum stays below 2^30. */
static void add_s8(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_add_s8 *p)
{
    int32_t half = (int32_t)1 << (p->shift - 1);
    for (size_t i = 0; i < count; i++) {
        int32_t sum = (x0[i] - p->zero0) * p->multiplier0 + (x1[i] - p->zero1) * p->multiplier1;
        y[i] = (int8_t)min_int(max_int(shift_right(sum + half, p->shift) + p->zero, p->low), p->high);
    }
}

/* y = clamp(rne(float32((x0 - zero0) * (x1 - zero1)) * multiplier) + zero, low, high). */
static void mul_s8(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_mul_s8 *p)
{
    for (size_t i = 0; i < count; i++) {
        int32_t product = (x0[i] - p->zero0) * (x1[i] - p->zero1);
        y[i] = (int8_t)requantise((float)product * p->multiplier, p->zero, p->low, p->high);
    }
}

void e8_init_reference_elementwise(struct e8_kernels *k)
{
    bool quantises = E8_HAS(Quantize, E8_FORM_FLOAT | E8_FORM_INT16) || E8_HAS(FullyConnected, E8_FORM_FLOAT);
    bool dequantises = E8_HAS(Dequantize, E8_FORM_FLOAT) || E8_HAS(Gather, E8_FORM_FLOAT) || E8_HAS(Quantize, E8_FORM_INT16);
    k->quantise = quantises ? quantise : NULL;
    k->dequantise = dequantises ? dequantise : NULL;
    k->lookup = E8_HAS(Unary, E8_FORM_INT8) ? lookup : NULL;
    k->add_s8 = E8_HAS(Binary, E8_FORM_INT8) ? add_s8 : NULL;
    k->mul_s8 = E8_HAS(Binary, E8_FORM_INT8) ? mul_s8 : NULL;
    k->unary_f32 = E8_HAS(Unary, E8_FORM_FLOAT | E8_FORM_INT16) ? e8_unary_float : NULL;
}
