/* SPDX-License-Identifier: Apache-2.0
 *
 * The row loops, compiled for AVX2. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#define E8_ROW_TARGET __attribute__((target("avx2,fma")))
#include "../row_loops.h"

void e8_init_avx2_rows(struct e8_kernels *k)
{
    row_kernels(k);
}
#endif
