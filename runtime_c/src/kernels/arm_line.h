/* SPDX-License-Identifier: Apache-2.0
 *
 * A line of outputs of the depthwise 3x3 convolution, 16 channels, in assembly: the columns of the picture stay in registers from one
 * output to the next, and sums become codes without a way through memory. Three columns A, B and C take turns.
 *
 * With dot product (DOT) a column is four vectors of 4 channels by [row 0, row 1, row 2, row 2], a kernel column four of
 * [row 0, row 1, row 2, 0]:
 *     v0..v3 A    v4..v7 B    v8..v11 C    v12..v23 kernel    v24..v27 sums    v28..v31 pixels, multipliers, bounds
 * Without (NEON) a column is its three pixels, and two taps are added in int16 before they go to the sums:
 *     v0..v2 A    v3..v5 B    v6..v8 C    v9..v17 kernel, column by column    v18..v21 sums
 *     v22..v25 products    v26..v29 multipliers, bounds */
#ifndef E8_ARM_LINE_H
#define E8_ARM_LINE_H

#include "arm_codes.h"

/* Row `ky` of the kernel reads its next pixel at row[ky], and step[ky] on the one after. The first column lies outside the picture
 * when `left` is 1, the last when `right` is; every other is read. */
struct line16 {
    const int8_t *row[3];
    size_t step[3];
    int8_t *out;
    size_t out_step;
    const int32_t *init;
    const float *multiplier;
    const struct rule *rule;
    const int8_t *zeros; /* 16 codes of what lies outside */
    const void *w;       /* the kernel's columns as the level holds them */
    size_t count, left, right;
};
#if UINTPTR_MAX > 0xFFFFFFFFu
_Static_assert(offsetof(struct line16, row) == 0 && offsetof(struct line16, step) == 24, "assembly reads these");
_Static_assert(offsetof(struct line16, out) == 48 && offsetof(struct line16, out_step) == 56, "assembly reads these");
_Static_assert(offsetof(struct line16, init) == 64 && offsetof(struct line16, multiplier) == 72, "assembly reads these");
_Static_assert(offsetof(struct line16, rule) == 80 && offsetof(struct line16, zeros) == 88, "assembly reads these");
_Static_assert(offsetof(struct line16, w) == 96 && offsetof(struct line16, count) == 104, "assembly reads these");
_Static_assert(offsetof(struct line16, left) == 112 && offsetof(struct line16, right) == 120, "assembly reads these");
#endif

// clang-format off
#define LINE_LOAD(a, b, c) "ld1 {v" #a ".16b}, [x0], x3\n\t" "ld1 {v" #b ".16b}, [x1], x4\n\t" "ld1 {v" #c ".16b}, [x2], x5\n\t"
#define LINE_MOVE(to, from) "mov v" #to ".16b, v" #from ".16b\n\t"

/* Dot product. The pixels in v28, v29, v30 become the column t0..t3. */
#define DOT_COLUMN(t0, t1, t2, t3) \
    LINE_LOAD(28, 29, 30) \
    "zip1 v" #t0 ".16b, v28.16b, v29.16b\n\t" \
    "zip2 v" #t2 ".16b, v28.16b, v29.16b\n\t" \
    "zip1 v28.16b, v30.16b, v30.16b\n\t" \
    "zip2 v29.16b, v30.16b, v30.16b\n\t" \
    "zip2 v" #t1 ".8h, v" #t0 ".8h, v28.8h\n\t" \
    "zip1 v" #t0 ".8h, v" #t0 ".8h, v28.8h\n\t" \
    "zip2 v" #t3 ".8h, v" #t2 ".8h, v29.8h\n\t" \
    "zip1 v" #t2 ".8h, v" #t2 ".8h, v29.8h\n\t"
#define DOT_ONE(sum, w, x) "sdot v" #sum ".4s, v" #w ".16b, v" #x ".16b\n\t"
#define DOT_FOUR(w0, w1, w2, w3, x0, x1, x2, x3) DOT_ONE(24, w0, x0) DOT_ONE(25, w1, x1) DOT_ONE(26, w2, x2) DOT_ONE(27, w3, x3)
#define DOT_OUTPUT(CODES, a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3) \
    "ldp q24, q25, [x9]\n\t" \
    "ldp q26, q27, [x9, #32]\n\t" \
    DOT_FOUR(12, 13, 14, 15, a0, a1, a2, a3) \
    DOT_FOUR(16, 17, 18, 19, b0, b1, b2, b3) \
    DOT_FOUR(20, 21, 22, 23, c0, c1, c2, c3) \
    "ldp q28, q29, [x10]\n\t" \
    "ldp q30, q31, [x10, #32]\n\t" \
    CODES_ROUND(24, 25, 26, 27, 28, 29, 30, 31) \
    CODES \
    "st1 {v24.16b}, [x7], x8\n\t"
#define DOT_WHOLE "movi v28.16b, #128\n\t" CODES_WHOLE(24, 26, 28)
#define DOT_BOUNDED "ldr q28, [x11]\n\t" "ldp q29, q30, [x11, #16]\n\t" CODES_BOUNDED(24, 26, 28, 29, 30)
#define DOT_ABC(CODES) DOT_OUTPUT(CODES, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
#define DOT_BCA(CODES) DOT_OUTPUT(CODES, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3)
#define DOT_CAB(CODES) DOT_OUTPUT(CODES, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7)
#define DOT_CBA(CODES) DOT_OUTPUT(CODES, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3)
#define DOT_A DOT_COLUMN(0, 1, 2, 3)
#define DOT_B DOT_COLUMN(4, 5, 6, 7)
#define DOT_C DOT_COLUMN(8, 9, 10, 11)
#define DOT_FILL "ldr q0, [x12]\n\t" LINE_MOVE(1, 0) LINE_MOVE(2, 0) LINE_MOVE(3, 0)
#define DOT_A_IS_B LINE_MOVE(0, 4) LINE_MOVE(1, 5) LINE_MOVE(2, 6) LINE_MOVE(3, 7)
#define DOT_B_IS_C LINE_MOVE(4, 8) LINE_MOVE(5, 9) LINE_MOVE(6, 10) LINE_MOVE(7, 11)
#define DOT_A_IS_C LINE_MOVE(0, 8) LINE_MOVE(1, 9) LINE_MOVE(2, 10) LINE_MOVE(3, 11)
#define DOT_KERNEL \
    "ldp q12, q13, [x14]\n\t" \
    "ldp q14, q15, [x14, #32]\n\t" \
    "ldp q16, q17, [x14, #64]\n\t" \
    "ldp q18, q19, [x14, #96]\n\t" \
    "ldp q20, q21, [x14, #128]\n\t" \
    "ldp q22, q23, [x14, #160]\n\t"

/* Without dot product. Two taps into the products l and h; a tap alone; the products to the sums. */
#define NEON_PAIR(l, h, x, w, y, v) \
    "smull v" #l ".8h, v" #x ".8b, v" #w ".8b\n\t" \
    "smull2 v" #h ".8h, v" #x ".16b, v" #w ".16b\n\t" \
    "smlal v" #l ".8h, v" #y ".8b, v" #v ".8b\n\t" \
    "smlal2 v" #h ".8h, v" #y ".16b, v" #v ".16b\n\t"
#define NEON_TAP(l, h, x, w) "smull v" #l ".8h, v" #x ".8b, v" #w ".8b\n\t" "smull2 v" #h ".8h, v" #x ".16b, v" #w ".16b\n\t"
#define NEON_WIDEN(l, h) \
    "saddw v18.4s, v18.4s, v" #l ".4h\n\t" \
    "saddw2 v19.4s, v19.4s, v" #l ".8h\n\t" \
    "saddw v20.4s, v20.4s, v" #h ".4h\n\t" \
    "saddw2 v21.4s, v21.4s, v" #h ".8h\n\t"
#define NEON_OUTPUT(CODES, a0, a1, a2, b0, b1, b2, c0, c1, c2) \
    "ldp q18, q19, [x9]\n\t" \
    NEON_PAIR(22, 23, a0, 9, a1, 10) \
    "ldp q20, q21, [x9, #32]\n\t" \
    NEON_PAIR(24, 25, b0, 12, b1, 13) \
    NEON_WIDEN(22, 23) \
    NEON_PAIR(22, 23, a2, 11, b2, 14) \
    NEON_WIDEN(24, 25) \
    NEON_PAIR(24, 25, c0, 15, c1, 16) \
    NEON_WIDEN(22, 23) \
    NEON_TAP(22, 23, c2, 17) \
    "ldp q26, q27, [x10]\n\t" \
    NEON_WIDEN(24, 25) \
    "ldp q28, q29, [x10, #32]\n\t" \
    NEON_WIDEN(22, 23) \
    CODES_ROUND(18, 19, 20, 21, 26, 27, 28, 29) \
    CODES \
    "st1 {v18.16b}, [x7], x8\n\t"
#define NEON_WHOLE "movi v26.16b, #128\n\t" CODES_WHOLE(18, 20, 26)
#define NEON_BOUNDED "ldr q26, [x11]\n\t" "ldp q27, q28, [x11, #16]\n\t" CODES_BOUNDED(18, 20, 26, 27, 28)
#define NEON_ABC(CODES) NEON_OUTPUT(CODES, 0, 1, 2, 3, 4, 5, 6, 7, 8)
#define NEON_BCA(CODES) NEON_OUTPUT(CODES, 3, 4, 5, 6, 7, 8, 0, 1, 2)
#define NEON_CAB(CODES) NEON_OUTPUT(CODES, 6, 7, 8, 0, 1, 2, 3, 4, 5)
#define NEON_CBA(CODES) NEON_OUTPUT(CODES, 6, 7, 8, 3, 4, 5, 0, 1, 2)
#define NEON_A LINE_LOAD(0, 1, 2)
#define NEON_B LINE_LOAD(3, 4, 5)
#define NEON_C LINE_LOAD(6, 7, 8)
#define NEON_FILL "ldr q0, [x12]\n\t" LINE_MOVE(1, 0) LINE_MOVE(2, 0)
#define NEON_A_IS_B LINE_MOVE(0, 3) LINE_MOVE(1, 4) LINE_MOVE(2, 5)
#define NEON_B_IS_C LINE_MOVE(3, 6) LINE_MOVE(4, 7) LINE_MOVE(5, 8)
#define NEON_A_IS_C LINE_MOVE(0, 6) LINE_MOVE(1, 7) LINE_MOVE(2, 8)
#define NEON_KERNEL \
    "ldp q9, q10, [x14]\n\t" \
    "ldp q11, q12, [x14, #32]\n\t" \
    "ldp q13, q14, [x14, #64]\n\t" \
    "ldp q15, q16, [x14, #96]\n\t" \
    "ldr q17, [x14, #128]\n\t"

/* Lines of either way P, DOT or NEON. x0..x2 rows, x3..x5 their steps, x6 outputs left, x7 and x8 place of the output, x9 where sums
 * start, x10 multipliers, x11 rule, x12 zeros, x13 1 when the last column lies outside, x14 outputs that need no care. Label 3 does two or
 * three outputs, 4 one. */
#define LINE_START(P) \
    "ldp x0, x1, [%[line]]\n\t" \
    "ldp x2, x3, [%[line], #16]\n\t" \
    "ldp x4, x5, [%[line], #32]\n\t" \
    "ldp x7, x8, [%[line], #48]\n\t" \
    "ldp x9, x10, [%[line], #64]\n\t" \
    "ldp x11, x12, [%[line], #80]\n\t" \
    "ldp x14, x6, [%[line], #96]\n\t" \
    "ldp x15, x13, [%[line], #112]\n\t" \
    P##_KERNEL \
    "sub x14, x6, x13\n\t" \
    "cbz x15, 1f\n\t" \
    P##_FILL \
    "b 2f\n" \
    "1:\n\t" \
    P##_A \
    "2:\n\t"

/* Column c, outside for the last output if it says so. */
#define LINE_LAST_C(P) \
    "cmp x6, x13\n\t" \
    "csel x0, x12, x0, eq\n\t" \
    "csel x1, x12, x1, eq\n\t" \
    "csel x2, x12, x2, eq\n\t" \
    P##_C

#define LINE_STRIDE1(P, CODES) \
    LINE_START(P) \
    P##_B \
    "subs x14, x14, #3\n\t" \
    "b.lt 4f\n" \
    "3:\n\t" \
    P##_C P##_ABC(CODES) \
    P##_A P##_BCA(CODES) \
    "sub x6, x6, #3\n\t" \
    "subs x14, x14, #3\n\t" \
    P##_B P##_CAB(CODES) \
    "b.ge 3b\n\t" \
    "cbz x6, 5f\n" \
    "4:\n\t" \
    LINE_LAST_C(P) P##_ABC(CODES) \
    "subs x6, x6, #1\n\t" \
    P##_A_IS_B P##_B_IS_C \
    "b.ne 4b\n" \
    "5:\n\t"

#define LINE_STRIDE2(P, CODES) \
    LINE_START(P) \
    "subs x14, x14, #2\n\t" \
    "b.lt 4f\n" \
    "3:\n\t" \
    P##_B P##_C P##_ABC(CODES) \
    "sub x6, x6, #2\n\t" \
    "subs x14, x14, #2\n\t" \
    P##_B P##_A P##_CBA(CODES) \
    "b.ge 3b\n\t" \
    "cbz x6, 5f\n" \
    "4:\n\t" \
    P##_B LINE_LAST_C(P) P##_ABC(CODES) \
    "subs x6, x6, #1\n\t" \
    P##_A_IS_C \
    "b.ne 4b\n" \
    "5:\n\t"

#define LINE(TEXT) \
    __asm__ volatile(TEXT \
        : \
        : [line] "r"(line) \
        : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "v0", "v1", "v2", \
          "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", \
          "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory")

/* The outputs of a line with a stride of 1 or 2. */
#define LINE_OF(P) \
    do { \
        if (stride == 1 && line->rule->whole) \
            LINE(LINE_STRIDE1(P, P##_WHOLE)); \
        else if (stride == 1) \
            LINE(LINE_STRIDE1(P, P##_BOUNDED)); \
        else if (line->rule->whole) \
            LINE(LINE_STRIDE2(P, P##_WHOLE)); \
        else \
            LINE(LINE_STRIDE2(P, P##_BOUNDED)); \
    } while (0)
// clang-format on

#endif
