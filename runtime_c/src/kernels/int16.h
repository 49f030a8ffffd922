/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of the int16 kernels, which variants call for what is left over. */
#ifndef E8_INT16_H
#define E8_INT16_H

#include "../names.h"

#include "kernel.h"

enum { EXACT_SUMS = 256 }; /* so many products of an int16 and an int8 code fit in int32 */

void e8_dequantise_s16(const int16_t *x, float *y, size_t count, float scale);
void e8_quantise_s16(const float *x, int16_t *y, size_t count, float multiplier, float low, float high);
void e8_finish_s16(const double *sums, const int16_t *residual, int16_t *y, size_t count, const struct e8_requant_s16 *q);
void e8_depthwise_s16(const struct e8_depthwise_s16 *g);
void e8_gemm_s16(const struct e8_gemm_s16 *g);

#endif
