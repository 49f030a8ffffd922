/* SPDX-License-Identifier: Apache-2.0 */
#ifndef E8_X86_AVX2_DEPTHWISE_H
#define E8_X86_AVX2_DEPTHWISE_H

#include <stdbool.h>

struct e8_depthwise_image;
struct e8_requant;

/* Int8 kernels of 3x3 and 5x5 taps, strides 1 and 2; false when the shape is none of these. */
bool e8_avx2_depthwise_s8(const struct e8_depthwise_image *g, const struct e8_requant *q);

#endif
