/* SPDX-License-Identifier: Apache-2.0
 *
 * The way from sums to codes (arm_neon.h: codes_of, codes_whole) for the kernels in assembly. Arguments are numbers of vector
 * registers. */
#ifndef E8_ARM_CODES_H
#define E8_ARM_CODES_H

#include "arm_neon.h"

/* What a tile of a matrix kernel works on, and where it leaves its results. A row is `taps` segments of `bytes` bytes, a multiple of 4;
 * segment t of row r is at a[t * stride + r]. Assembly knows the places of the members. */
struct arm_tile {
    const void *const *a;
    size_t stride_bytes; /* between the pointers of two taps: stride * sizeof(void *) */
    size_t taps, bytes;
    const void *w;
    const void *init; /* 16 words: where every row's sums start */
    /* Codes: */
    int8_t *out;
    size_t out_stride;
    const float *multiplier;
    const struct rule *rule;
    const int8_t *residual; /* or NULL */
    size_t residual_stride;
    const float *residual_multiplier;
    int8_t residual_zero;
};
#if UINTPTR_MAX > 0xFFFFFFFFu
_Static_assert(offsetof(struct arm_tile, a) == 0 && offsetof(struct arm_tile, stride_bytes) == 8, "assembly reads these");
_Static_assert(offsetof(struct arm_tile, taps) == 16 && offsetof(struct arm_tile, bytes) == 24, "assembly reads these");
_Static_assert(offsetof(struct arm_tile, w) == 32 && offsetof(struct arm_tile, init) == 40, "assembly reads these");
_Static_assert(offsetof(struct arm_tile, out) == 48 && offsetof(struct arm_tile, out_stride) == 56, "assembly reads these");
_Static_assert(offsetof(struct arm_tile, multiplier) == 64 && offsetof(struct arm_tile, rule) == 72, "assembly reads these");
_Static_assert(offsetof(struct arm_tile, residual) == 80 && offsetof(struct arm_tile, residual_stride) == 88, "assembly reads these");
_Static_assert(offsetof(struct arm_tile, residual_multiplier) == 96 && offsetof(struct arm_tile, residual_zero) == 104,
               "assembly reads these");
#endif

// clang-format off
#define CODES_EACH(op, a, b, c, d) \
    op " v" #a ".4s, v" #a ".4s\n\t" op " v" #b ".4s, v" #b ".4s\n\t" op " v" #c ".4s, v" #c ".4s\n\t" op " v" #d ".4s, v" #d ".4s\n\t"

/* Sums of 16 channels in a, b, c, d with their multipliers in m0..m3, to int16 in a and c. */
#define CODES_ROUND(a, b, c, d, m0, m1, m2, m3) \
    CODES_EACH("scvtf", a, b, c, d) \
    "fmul v" #a ".4s, v" #a ".4s, v" #m0 ".4s\n\t" \
    "fmul v" #b ".4s, v" #b ".4s, v" #m1 ".4s\n\t" \
    "fmul v" #c ".4s, v" #c ".4s, v" #m2 ".4s\n\t" \
    "fmul v" #d ".4s, v" #d ".4s, v" #m3 ".4s\n\t" \
    CODES_EACH("fcvtns", a, b, c, d) \
    "sqxtn v" #a ".4h, v" #a ".4s\n\t" \
    "sqxtn v" #c ".4h, v" #c ".4s\n\t" \
    "sqxtn2 v" #a ".8h, v" #b ".4s\n\t" \
    "sqxtn2 v" #c ".8h, v" #d ".4s\n\t"

/* 16 codes in a, where the rule's range is whole; bytes of 128 in `sign`. */
#define CODES_WHOLE(a, c, sign) \
    "sqxtun v" #a ".8b, v" #a ".8h\n\t" \
    "sqxtun2 v" #a ".16b, v" #c ".8h\n\t" \
    "eor v" #a ".16b, v" #a ".16b, v" #sign ".16b\n\t"

/* 16 codes in a; the rule's zero16, low8 and high8. */
#define CODES_BOUNDED(a, c, zero, low, high) \
    "sqadd v" #a ".8h, v" #a ".8h, v" #zero ".8h\n\t" \
    "sqadd v" #c ".8h, v" #c ".8h, v" #zero ".8h\n\t" \
    "sqxtn v" #a ".8b, v" #a ".8h\n\t" \
    "sqxtn2 v" #a ".16b, v" #c ".8h\n\t" \
    "smax v" #a ".16b, v" #a ".16b, v" #low ".16b\n\t" \
    "smin v" #a ".16b, v" #a ".16b, v" #high ".16b\n\t"

/* Two vectors of residuals, as int16 in x, times m0 and m1 to the sums a and b; t is free. */
#define CODES_ADD(x, t, a, b, m0, m1) \
    "sxtl v" #t ".4s, v" #x ".4h\n\t" \
    "sxtl2 v" #x ".4s, v" #x ".8h\n\t" \
    "scvtf v" #t ".4s, v" #t ".4s\n\t" \
    "scvtf v" #x ".4s, v" #x ".4s\n\t" \
    "fmul v" #t ".4s, v" #t ".4s, v" #m0 ".4s\n\t" \
    "fmul v" #x ".4s, v" #x ".4s, v" #m1 ".4s\n\t" \
    "fcvtns v" #t ".4s, v" #t ".4s\n\t" \
    "fcvtns v" #x ".4s, v" #x ".4s\n\t" \
    "add v" #a ".4s, v" #a ".4s, v" #t ".4s\n\t" \
    "add v" #b ".4s, v" #b ".4s, v" #x ".4s\n\t"

/* The residual of a row at x0, which moves on by x1, to 16 sums in a, b, c, d; multipliers m0..m3, bytes of its zero point in z; t, x
 * and y are free. */
#define CODES_RESIDUAL(a, b, c, d, m0, m1, m2, m3, z, t, x, y) \
    "ld1 {v" #t ".16b}, [x0], x1\n\t" \
    "ssubl v" #x ".8h, v" #t ".8b, v" #z ".8b\n\t" \
    "ssubl2 v" #y ".8h, v" #t ".16b, v" #z ".16b\n\t" \
    CODES_ADD(x, t, a, b, m0, m1) CODES_ADD(y, t, c, d, m2, m3)

/* A row's sums in a, b, c, d to codes at x0, which moves on by x1. */
#define CODES_STORE_WHOLE(a, b, c, d, m0, m1, m2, m3, sign) \
    CODES_ROUND(a, b, c, d, m0, m1, m2, m3) CODES_WHOLE(a, c, sign) "st1 {v" #a ".16b}, [x0], x1\n\t"
#define CODES_STORE_BOUNDED(a, b, c, d, m0, m1, m2, m3, zero, low, high) \
    CODES_ROUND(a, b, c, d, m0, m1, m2, m3) CODES_BOUNDED(a, c, zero, low, high) "st1 {v" #a ".16b}, [x0], x1\n\t"

/* The end of a tile whose arm_tile is at %[args]: RESIDUAL, then BOUNDED or WHOLE for all its rows. Uses x0..x4, labels 6, 7, 8. */
#define CODES_END(RESIDUAL, BOUNDED, WHOLE, m0, m1, m2, m3, zero, low, high) \
    "ldp x0, x1, [%[args], #80]\n\t" \
    "cbz x0, 8f\n\t" \
    "ldr x2, [%[args], #96]\n\t" \
    "add x3, %[args], #104\n\t" \
    "ldp q" #m0 ", q" #m1 ", [x2]\n\t" \
    "ldp q" #m2 ", q" #m3 ", [x2, #32]\n\t" \
    "ld1r {v" #zero ".16b}, [x3]\n\t" \
    RESIDUAL \
    "8:\n\t" \
    "ldp x0, x1, [%[args], #48]\n\t" \
    "ldp x2, x3, [%[args], #64]\n\t" \
    "ldp q" #m0 ", q" #m1 ", [x2]\n\t" \
    "ldp q" #m2 ", q" #m3 ", [x2, #32]\n\t" \
    "ldr x4, [x3, #48]\n\t" \
    "cbnz x4, 6f\n\t" \
    "ldp q" #zero ", q" #low ", [x3]\n\t" \
    "ldr q" #high ", [x3, #32]\n\t" \
    BOUNDED \
    "b 7f\n" \
    "6:\n\t" \
    "movi v" #zero ".16b, #128\n\t" \
    WHOLE \
    "7:\n\t"
// clang-format on

#endif
