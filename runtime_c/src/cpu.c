/* SPDX-License-Identifier: Apache-2.0
 *
 * Which instruction sets the CPU has, and the kernel table of each level. A level is the sum of its own kernels and those of
 * the levels below it; the best level whose features are all present is used. */
#include "cpu.h"

#include <stdbool.h>

#include "edge8.h"
#include "kernels/arm_levels.h"
#include "kernels/kernel.h"
#include "kernels/x86_levels.h"

static uint32_t cpu_mask = UINT32_MAX;

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Register state that the operating system saves: 6 = SSE and AVX, 0xE0 = the three parts of AVX-512. */
static uint32_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static uint32_t detect(void)
{
    uint32_t a, b, c, d, c1, found = 0;
    const uint32_t bw_dq_vl_f = 1u << 30 | 1u << 17 | 1u << 31 | 1u << 16;
    if (!__get_cpuid(1, &a, &b, &c1, &d)) return 0;
    /* SSSE3, SSE4.1, SSE4.2, POPCNT */
    const uint32_t sse4 = 1u << 9 | 1u << 19 | 1u << 20 | 1u << 23;
    if ((c1 & sse4) == sse4) found |= CPU_SSE4;
    bool xsave = c1 >> 27 & 1u;
    uint32_t state = xsave ? saved_state() : 0;
    if (!(found & CPU_SSE4) || (state & 6u) != 6u || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    bool avx = c1 >> 28 & 1u, fma = c1 >> 12 & 1u, avx2 = b >> 5 & 1u;
    if (!avx || !fma || !avx2) return found;
    found |= CPU_AVX2;
    bool vnni512 = c >> 11 & 1u;
    if ((b & bw_dq_vl_f) == bw_dq_vl_f && (state & 0xE0u) == 0xE0u) found |= vnni512 ? CPU_AVX512 | CPU_AVX512_VNNI : CPU_AVX512;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1u)) found |= CPU_AVX_VNNI;
#if defined(E8_EMULATE_AVX512)
    found |= CPU_AVX512 | CPU_AVX512_VNNI; /* the checks run these kernels through SIMDe: kernels/x86_avx512.h */
#endif
    return found;
}
#elif defined(E8_KERNELS_NEON) && defined(__linux__)
#include <sys/auxv.h>

#if defined(__aarch64__)
/* True when this core does not say that it is one of those with dot product that run instructions in order: Arm's Cortex-A55, A510 and
 * A520, Qualcomm's Kryo Silver. The core that asks decides for all; that is a matter of speed only. */
static bool is_wide(unsigned long hwcap)
{
    uint64_t id;
    if (!(hwcap >> 11 & 1u)) return true; /* the kernel does not let programs read it */
    __asm__("mrs %0, midr_el1" : "=r"(id));
    uint32_t maker = (uint32_t)(id >> 24) & 0xFFu, part = (uint32_t)(id >> 4) & 0xFFFu;
    if (maker == 0x41) return part != 0xD05 && part != 0xD46 && part != 0xD80;
    return maker != 0x51 || (part != 0x803 && part != 0x805);
}
#endif

/* Bits of AT_HWCAP and AT_HWCAP2 in the Linux ABI (asm/hwcap.h). */
static uint32_t detect(void)
{
    unsigned long hwcap = getauxval(AT_HWCAP);
    uint32_t found = 0;
#if defined(__aarch64__)
    if (hwcap >> 1 & 1u) found |= CPU_NEON;
    if (hwcap >> 20 & 1u) found |= CPU_DOTPROD;
    if (getauxval(AT_HWCAP2) >> 13 & 1u) found |= CPU_I8MM;
    if (is_wide(hwcap)) found |= CPU_WIDE;
#else
    if (hwcap >> 12 & 1u) found |= CPU_NEON;
    if (hwcap >> 16 & 1u) found |= CPU_VFPV4;
#endif
    return found;
}
#elif defined(E8_KERNELS_NEON) && defined(__ARM_NEON)
/* Without an operating system that tells: what the compiler was told. */
static uint32_t detect(void)
{
    uint32_t found = CPU_NEON;
#if defined(__ARM_FEATURE_DOTPROD)
    found |= CPU_DOTPROD;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    found |= CPU_I8MM;
#endif
#if defined(__arm__) && defined(__ARM_FEATURE_FMA)
    found |= CPU_VFPV4;
#endif
    return found;
}
#else
static uint32_t detect(void)
{
    return 0;
}
#endif

struct level {
    uint32_t needs;
    void (*init)(struct e8_kernels *k);
};

static const struct level LEVELS[] = {
    {0, e8_init_reference},
#if defined(E8_KERNELS_AVX2)
    {CPU_AVX2, e8_init_avx2},
#endif
#if defined(E8_KERNELS_AVX512VNNI)
    {CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI, e8_init_avx512vnni},
#endif
#if defined(E8_KERNELS_VFPV4)
    {CPU_VFPV4, e8_init_vfpv4},
#endif
#if defined(E8_KERNELS_NEON)
    {CPU_NEON, e8_init_neon},
#endif
#if defined(E8_KERNELS_VFPV4)
    {CPU_NEON | CPU_VFPV4, e8_init_neon_vfpv4},
#endif
#if defined(E8_KERNELS_DOTPROD)
    {CPU_NEON | CPU_DOTPROD, e8_init_dotprod},
    {CPU_NEON | CPU_DOTPROD | CPU_WIDE, e8_init_dotprod_wide},
#endif
#if defined(E8_KERNELS_I8MM)
    {CPU_NEON | CPU_DOTPROD | CPU_I8MM, e8_init_i8mm},
#endif
};
enum { LEVEL_COUNT = sizeof LEVELS / sizeof LEVELS[0] };

uint32_t e8_cpu_features(void)
{
    return detect();
}

void e8_cpu_restrict(uint32_t mask)
{
    cpu_mask = mask;
}

uint32_t cpu_features(void)
{
    return detect() & cpu_mask;
}

/* Tables are filled once, by the first thread that asks; the content depends on the level only. */
static struct e8_kernels tables[LEVEL_COUNT];
static int states[LEVEL_COUNT]; /* 0 empty, 1 being filled, 2 ready */

static bool claim(int *state)
{
#if defined(__GCC_ATOMIC_INT_LOCK_FREE) && __GCC_ATOMIC_INT_LOCK_FREE == 2
    int empty = 0;
    return __atomic_compare_exchange_n(state, &empty, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE);
#else
    bool empty = *state == 0; /* a single-core machine without atomics: no second thread */
    *state = 1;
    return empty;
#endif
}

static const struct e8_kernels *table(unsigned level)
{
    uint32_t needs = LEVELS[level].needs;
    if (claim(&states[level])) {
        struct e8_kernels k = {0};
        for (unsigned i = 0; i <= level; i++)
            if ((LEVELS[i].needs & ~needs) == 0) LEVELS[i].init(&k);
        tables[level] = k;
        __atomic_store_n(&states[level], 2, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&states[level], __ATOMIC_ACQUIRE) != 2) {
    }
    return &tables[level];
}

const struct e8_kernels *e8_kernels_for_cpu(void)
{
    uint32_t features = cpu_features();
    unsigned best = 0;
    for (unsigned i = 1; i < LEVEL_COUNT; i++)
        if ((LEVELS[i].needs & ~features) == 0) best = i;
    return table(best);
}

const char *e8_cpu_level(void)
{
    return e8_kernels_for_cpu()->level;
}
