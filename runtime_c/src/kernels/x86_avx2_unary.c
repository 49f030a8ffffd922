/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of operator Unary, compiled for AVX2. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "kernel.h"

#define E8_MAP_TARGET __attribute__((target("avx2,fma")))
#include "../unary_loops.h"

static void unary_f32(uint32_t kind, float alpha, float beta, const float *x, float *y, size_t count)
{
    MAPS[kind](alpha, beta, x, y, count);
}

void e8_init_avx2_unary(struct e8_kernels *k)
{
    k->unary_f32 = unary_f32;
}
#endif
