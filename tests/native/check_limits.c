/* SPDX-License-Identifier: Apache-2.0
 *
 * What one core can do at most, measured beside the kernels: multiply-accumulates whose operands stay in registers, with the
 * instructions of the level, and a copy within the L1 cache. */
#include "check.h"

enum { ROUNDS = 2000, COPIED = 8192 };

#if defined(__x86_64__)
#define TWELVE(instruction)                                                                                                                \
    instruction "0\n" instruction "1\n" instruction "2\n" instruction "3\n" instruction "4\n" instruction "5\n" instruction                \
                "6\n" instruction "7\n" instruction "8\n" instruction "9\n" instruction "10\n" instruction "11\n"
#define CLOBBERED                                                                                                                          \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14"

/* A loop over twelve independent accumulators. */
#define LOOP(name, text)                                                                                                                   \
    static void name(void *argument)                                                                                                       \
    {                                                                                                                                      \
        for (int i = 0; i < ROUNDS; i++) __asm__ volatile(text ::: CLOBBERED);                                                             \
        *(int *)argument = 0;                                                                                                              \
    }
/* No instruction multiplies bytes into int32 here: pairs to int16, pairs of those to int32, a sum. */
#define FIRST(v) "vpmaddubsw %%" v "15, %%" v "14, %%" v "12\n"
#define SECOND(v) "vpmaddwd %%" v "15, %%" v "12, %%" v "13\n"
#define THIRD(v, k) "vpaddd %%" v "13, %%" v k ", %%" v k "\n"
#define PAIRS(v, k) FIRST(v) SECOND(v) THIRD(v, k)
#define FOUR(v) PAIRS(v, "0") PAIRS(v, "1") PAIRS(v, "2") PAIRS(v, "3")
LOOP(loop_sse41, "pmaddubsw %%xmm14, %%xmm12\n pmaddwd %%xmm14, %%xmm12\n paddd %%xmm12, %%xmm0\n"
                 "pmaddubsw %%xmm14, %%xmm13\n pmaddwd %%xmm14, %%xmm13\n paddd %%xmm13, %%xmm1\n")
LOOP(loop_avx2, FOUR("ymm"))
LOOP(loop_avx512, FOUR("zmm"))
LOOP(loop_avxvnni, TWELVE("%{vex%} vpdpbusd %%ymm14, %%ymm13, %%ymm"))
LOOP(loop_vnni, TWELVE("vpdpbusd %%zmm14, %%zmm13, %%zmm"))
LOOP(loop_fma256, TWELVE("vfmadd231ps %%ymm14, %%ymm13, %%ymm"))
LOOP(loop_fma512, TWELVE("vfmadd231ps %%zmm14, %%zmm13, %%zmm"))

static const struct {
    const char *level;
    void (*s8)(void *), (*f32)(void *);
    double s8_macs, f32_macs; /* of one round */
} LOOPS[] = {
    {"sse41", loop_sse41, NULL, 2 * 16, 0},
    {"avx2", loop_avx2, loop_fma256, 4 * 32, 12 * 8},
    {"avxvnni", loop_avxvnni, loop_fma256, 12 * 32, 12 * 8},
    {"avx512bw", loop_avx512, loop_fma512, 4 * 64, 12 * 16},
    {"avx512vnni", loop_vnni, loop_fma512, 12 * 64, 12 * 16},
};

static double loop_rate(const struct context *c, void (*loop)(void *), double macs)
{
    int sink;
    return loop ? macs * ROUNDS / (time_call(loop, &sink) * c->hertz) : 0;
}

static void measure_macs(struct context *c)
{
    for (size_t i = 0; i < sizeof LOOPS / sizeof LOOPS[0]; i++) {
        if (strcmp(LOOPS[i].level, c->kernels->level) != 0) continue;
        c->limit_s8 = loop_rate(c, LOOPS[i].s8, LOOPS[i].s8_macs);
        c->limit_f32 = loop_rate(c, LOOPS[i].f32, LOOPS[i].f32_macs);
    }
}
#else
/* Elsewhere only the rates are printed; runtime_c/bench/arm_throughput.py compares the ARM kernels with models of the cores. */
static void measure_macs(struct context *c)
{
    (void)c;
}
#endif

static void copy(void *argument)
{
    uint8_t *p = argument;
    memcpy(p, p + COPIED, COPIED);
    __asm__ volatile("" ::: "memory");
}

void measure_limits(struct context *c)
{
    static uint8_t buffer[2 * COPIED];
    c->limit_bytes = 2 * COPIED / (time_call(copy, buffer) * c->hertz);
    measure_macs(c);
}
