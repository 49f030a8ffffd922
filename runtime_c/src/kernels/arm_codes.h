/* SPDX-License-Identifier: Apache-2.0
 *
 * The way from sums to codes (arm_neon.h: codes_of, codes_whole) for the kernels in assembly. Arguments are numbers of vector
 * registers. */
#ifndef E8_ARM_CODES_H
#define E8_ARM_CODES_H

#include "arm_neon.h"

// clang-format off
#define CODES_EACH(op, a, b, c, d) \
    op " v" #a ".4s, v" #a ".4s\n\t" op " v" #b ".4s, v" #b ".4s\n\t" op " v" #c ".4s, v" #c ".4s\n\t" op " v" #d ".4s, v" #d ".4s\n\t"

/* Sums of 16 channels in a, b, c, d with their multipliers in m0..m3, to int16 in a and c. */
#define CODES_ROUND(a, b, c, d, m0, m1, m2, m3) \
    CODES_EACH("scvtf", a, b, c, d) \
    "fmul v" #a ".4s, v" #a ".4s, v" #m0 ".4s\n\t" \
    "fmul v" #b ".4s, v" #b ".4s, v" #m1 ".4s\n\t" \
    "fmul v" #c ".4s, v" #c ".4s, v" #m2 ".4s\n\t" \
    "fmul v" #d ".4s, v" #d ".4s, v" #m3 ".4s\n\t" \
    CODES_EACH("fcvtns", a, b, c, d) \
    "sqxtn v" #a ".4h, v" #a ".4s\n\t" \
    "sqxtn v" #c ".4h, v" #c ".4s\n\t" \
    "sqxtn2 v" #a ".8h, v" #b ".4s\n\t" \
    "sqxtn2 v" #c ".8h, v" #d ".4s\n\t"

/* 16 codes in a, where the rule's range is whole; bytes of 128 in `sign`. */
#define CODES_WHOLE(a, c, sign) \
    "sqxtun v" #a ".8b, v" #a ".8h\n\t" \
    "sqxtun2 v" #a ".16b, v" #c ".8h\n\t" \
    "eor v" #a ".16b, v" #a ".16b, v" #sign ".16b\n\t"

/* 16 codes in a; the rule's zero16, low8 and high8. */
#define CODES_BOUNDED(a, c, zero, low, high) \
    "sqadd v" #a ".8h, v" #a ".8h, v" #zero ".8h\n\t" \
    "sqadd v" #c ".8h, v" #c ".8h, v" #zero ".8h\n\t" \
    "sqxtn v" #a ".8b, v" #a ".8h\n\t" \
    "sqxtn2 v" #a ".16b, v" #c ".8h\n\t" \
    "smax v" #a ".16b, v" #a ".16b, v" #low ".16b\n\t" \
    "smin v" #a ".16b, v" #a ".16b, v" #high ".16b\n\t"
// clang-format on

#endif
