/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of operator Unary, compiled for AVX2. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "kernel.h"

#define E8_MAP_LANES 8
#define E8_MAP_TARGET __attribute__((target("avx2,fma")))
#include "../unary_loops.h"

/* The last elements are computed among zeros. */
static void unary_f32(uint32_t kind, float alpha, float beta, const float *x, float *y, size_t count)
{
    float last[E8_MAP_LANES] = {0};
    size_t rest = count % E8_MAP_LANES, whole = count - rest;
    MAPS[kind](alpha, beta, x, y, whole);
    if (rest == 0) return;
    memcpy(last, x + whole, rest * sizeof *last);
    MAPS[kind](alpha, beta, last, last, E8_MAP_LANES);
    memcpy(y + whole, last, rest * sizeof *last);
}

void e8_init_avx2_unary(struct e8_kernels *k)
{
    k->unary_f32 = unary_f32;
}
#endif
