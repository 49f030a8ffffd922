/* SPDX-License-Identifier: Apache-2.0
 *
 * The Winograd transforms, compiled for AVX2. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#define E8_ROW_TARGET __attribute__((target("avx2,fma")))
#include "../winograd_loops.h"

void e8_init_avx2_winograd(struct e8_kernels *k)
{
    winograd_kernels(k);
}
#endif
