/* SPDX-License-Identifier: Apache-2.0
 *
 * The epilogues in scalar C: the reference kernels use them, and the variants for what is left over. */
#ifndef E8_REQUANT_H
#define E8_REQUANT_H

#include "../numeric.h"
#include "kernel.h"

/* An accumulator of channel c to its code, as struct e8_requant says. `residual` is the code to add, or NULL. */
static inline int8_t requant_one(const struct e8_requant *q, int32_t acc, size_t c, const int8_t *residual)
{
    if (residual) {
        float r = (float)(*residual - q->residual_zero) * q->residual_multiplier[c];
        acc = (int32_t)((uint32_t)acc + (uint32_t)rne_int32(r));
    }
    int32_t code = requantise((float)acc * q->multiplier[c], q->zero_point, q->low, q->high);
    return (int8_t)(q->table ? q->table[code + 128] : code);
}

/* low > x ? low : x, then high < t ? high : t: NaN stays NaN, and -0 stays -0 beside a bound of +0. Variants keep that form
 * (x86 max and min have it with x as the second operand; ARM's have it not: compare and select there). */
static inline float clamp_float(float x, float low, float high)
{
    return min_float(high, max_float(low, x));
}

/* The sum over k of code - zero point times weight, from that of code times weight. */
static inline int32_t sum_of_codes(const struct e8_dequant_row *p, int32_t sum, size_t c)
{
    return (int32_t)((uint32_t)sum - (uint32_t)p->zero_point * (uint32_t)p->weight_sum[c]);
}

#endif
