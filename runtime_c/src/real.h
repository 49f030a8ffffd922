/* SPDX-License-Identifier: Apache-2.0
 *
 * The int16 form of operators that are functions of real numbers: Dequantize, the float32 form and Quantize one after the other, a
 * block at a time. 24 bits of a float hold 16-bit codes with room to spare, and float32 results are the same on every machine. */
#ifndef E8_REAL_H
#define E8_REAL_H

#include "op.h"

enum { REAL_BLOCK = 64 }; /* elements that lie on the stack at a time */

#define E8_INT16_LOW (-32767.0f)
#define E8_INT16_HIGH 32767.0f

/* Elements [at, at + count) of an INT8 or INT16 tensor: y = (x - zero_point) * scale. */
void codes_to_real(const struct e8_kernels *k, const struct tensor *t, size_t at, float *y, size_t count);

/* The other way: clamp(rne(x * (1 / scale)) + zero_point). */
void real_to_codes(const struct e8_kernels *k, const struct tensor *t, size_t at, const float *x, size_t count);

#endif
