/* SPDX-License-Identifier: Apache-2.0 */
#include "real.h"

void codes_to_real(const struct e8_kernels *k, const struct tensor *t, size_t at, float *y, size_t count)
{
    if (t->type == Type_INT8)
        k->dequantise((const int8_t *)t->address + at, y, count, t->scale, t->zero_point);
    else
        k->dequantise_s16((const int16_t *)t->address + at, y, count, t->scale);
}

void real_to_codes(const struct e8_kernels *k, const struct tensor *t, size_t at, const float *x, size_t count)
{
    if (t->type == Type_INT8)
        k->quantise(x, (int8_t *)t->address + at, count, 1.0f / t->scale, t->zero_point);
    else
        k->quantise_s16(x, (int16_t *)t->address + at, count, 1.0f / t->scale, E8_INT16_LOW, E8_INT16_HIGH);
}
