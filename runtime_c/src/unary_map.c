/* SPDX-License-Identifier: Apache-2.0 */
#include "unary_map.h"

#define E8_MAP_TARGET
#include "unary_loops.h"

void e8_unary_float(uint32_t kind, float alpha, float beta, const float *x, float *y, size_t count)
{
    MAPS[kind](alpha, beta, x, y, count);
}

void e8_unary_table(uint32_t kind, float alpha, float beta, const struct e8_unary_scales *scales, int8_t table[256])
{
    float inverse = 1.0f / scales->out_scale;
    for (int32_t code = -128; code < 128; code++) {
        float x = (float)(code - scales->in_zero) * scales->in_scale, y;
        e8_unary_float(kind, alpha, beta, &x, &y, 1);
        table[code + 128] = (int8_t)requantise(y * inverse, scales->out_zero, -128, 127);
    }
}
