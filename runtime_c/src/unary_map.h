/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of operator Unary on float32, and their int8 form as a table. */
#ifndef E8_UNARY_MAP_H
#define E8_UNARY_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y[i] = f(x[i]) for `kind` of enum UnaryKind (NOT has no float form); y may be x. */
void e8_unary_float(uint32_t kind, float alpha, float beta, const float *x, float *y, size_t count);

/* The quantisation of both sides of an int8 function. */
struct e8_unary_scales {
    float in_scale, out_scale;
    int32_t in_zero, out_zero;
};

/* table[code + 128] = clamp(rne(f((code - in_zero) * in_scale) * (1 / out_scale)) + out_zero), NaN gives -128: what
 * Dequantize, the float function and Quantize give one after the other. */
void e8_unary_table(uint32_t kind, float alpha, float beta, const struct e8_unary_scales *scales, int8_t table[256]);

#endif
