/* SPDX-License-Identifier: Apache-2.0
 *
 * Feature bits of e8_cpu_features. */
#ifndef E8_CPU_H
#define E8_CPU_H

#include "names.h"

#include <stdint.h>

enum {
    CPU_SSE4 = 1,
    CPU_AVX2 = 2,
    CPU_AVX512 = 4,
    CPU_AVX512_VNNI = 8,
    CPU_AVX_VNNI = 16,
    CPU_NEON = 256,
    CPU_DOTPROD = 512,
    CPU_I8MM = 1024,
    CPU_VFPV4 = 2048, /* ARMv7: fused multiply-add */
    CPU_WIDE = 4096   /* AArch64: a core that reorders instructions */
};

/* The features of this CPU that the mask of e8_cpu_restrict leaves. */
uint32_t cpu_features(void);

#endif
