/* SPDX-License-Identifier: Apache-2.0
 *
 * A line of outputs of the depthwise 3x3 convolution by dot product, 16 channels, in assembly: the columns of the picture stay in
 * registers from one output to the next, and sums become codes without a way through memory. A column is four vectors of 4 channels
 * by [row 0, row 1, row 2, row 2], a kernel column four of [row 0, row 1, row 2, 0].
 *     v0..v3, v4..v7, v8..v11   three columns, which take turns       v12..v23   the kernel's columns
 *     v24..v27                  sums                                  v28..v31   pixels, multipliers, bounds */
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
    const int8_t *w;     /* 12 vectors */
    size_t count, left, right;
};

// clang-format off
/* The pixels in v28, v29, v30 to the column t0..t3. */
#define LINE_TRANSPOSE(t0, t1, t2, t3) \
    "zip1 v" #t0 ".16b, v28.16b, v29.16b\n\t" \
    "zip2 v" #t2 ".16b, v28.16b, v29.16b\n\t" \
    "zip1 v28.16b, v30.16b, v30.16b\n\t" \
    "zip2 v29.16b, v30.16b, v30.16b\n\t" \
    "zip2 v" #t1 ".8h, v" #t0 ".8h, v28.8h\n\t" \
    "zip1 v" #t0 ".8h, v" #t0 ".8h, v28.8h\n\t" \
    "zip2 v" #t3 ".8h, v" #t2 ".8h, v29.8h\n\t" \
    "zip1 v" #t2 ".8h, v" #t2 ".8h, v29.8h\n\t"
#define LINE_COLUMN(t0, t1, t2, t3) \
    "ld1 {v28.16b}, [x0], x3\n\t" \
    "ld1 {v29.16b}, [x1], x4\n\t" \
    "ld1 {v30.16b}, [x2], x5\n\t" \
    LINE_TRANSPOSE(t0, t1, t2, t3)

#define LINE_DOT(sum, w, x) "sdot v" #sum ".4s, v" #w ".16b, v" #x ".16b\n\t"
#define LINE_DOTS(w0, w1, w2, w3, x0, x1, x2, x3) LINE_DOT(24, w0, x0) LINE_DOT(25, w1, x1) LINE_DOT(26, w2, x2) LINE_DOT(27, w3, x3)

/* One output from three columns to its place. */
#define LINE_OUTPUT(CODES, a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3) \
    "ldp q24, q25, [x9]\n\t" \
    "ldp q26, q27, [x9, #32]\n\t" \
    LINE_DOTS(12, 13, 14, 15, a0, a1, a2, a3) \
    LINE_DOTS(16, 17, 18, 19, b0, b1, b2, b3) \
    LINE_DOTS(20, 21, 22, 23, c0, c1, c2, c3) \
    "ldp q28, q29, [x10]\n\t" \
    "ldp q30, q31, [x10, #32]\n\t" \
    CODES_ROUND(24, 25, 26, 27, 28, 29, 30, 31) \
    CODES \
    "st1 {v24.16b}, [x7], x8\n\t"

#define LINE_WHOLE "movi v28.16b, #128\n\t" CODES_WHOLE(24, 26, 28)
#define LINE_BOUNDED "ldr q28, [x11]\n\t" "ldp q29, q30, [x11, #16]\n\t" CODES_BOUNDED(24, 26, 28, 29, 30)

#define LINE_ABC(CODES) LINE_OUTPUT(CODES, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
#define LINE_BCA(CODES) LINE_OUTPUT(CODES, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3)
#define LINE_CAB(CODES) LINE_OUTPUT(CODES, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7)
#define LINE_CBA(CODES) LINE_OUTPUT(CODES, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3)
#define LINE_A LINE_COLUMN(0, 1, 2, 3)
#define LINE_B LINE_COLUMN(4, 5, 6, 7)
#define LINE_C LINE_COLUMN(8, 9, 10, 11)
#define LINE_MOVE(to, from) "mov v" #to ".16b, v" #from ".16b\n\t"

/* x6 outputs left, x12 zeros, x13 1 when the last column lies outside; x14 outputs that need no care. The first column is in v0..v3
 * then. */
#define LINE_START \
    "ldp x0, x1, [%[line]]\n\t" \
    "ldp x2, x3, [%[line], #16]\n\t" \
    "ldp x4, x5, [%[line], #32]\n\t" \
    "ldp x7, x8, [%[line], #48]\n\t" \
    "ldp x9, x10, [%[line], #64]\n\t" \
    "ldp x11, x12, [%[line], #80]\n\t" \
    "ldp x14, x6, [%[line], #96]\n\t" \
    "ldp x15, x13, [%[line], #112]\n\t" \
    "ldp q12, q13, [x14]\n\t" \
    "ldp q14, q15, [x14, #32]\n\t" \
    "ldp q16, q17, [x14, #64]\n\t" \
    "ldp q18, q19, [x14, #96]\n\t" \
    "ldp q20, q21, [x14, #128]\n\t" \
    "ldp q22, q23, [x14, #160]\n\t" \
    "sub x14, x6, x13\n\t" \
    "cbz x15, 1f\n\t" \
    "ldr q0, [x12]\n\t" \
    LINE_MOVE(1, 0) LINE_MOVE(2, 0) LINE_MOVE(3, 0) \
    "b 2f\n" \
    "1:\n\t" \
    LINE_A \
    "2:\n\t"

/* Column c, outside for the last output if it says so. */
#define LINE_LAST_C \
    "cmp x6, x13\n\t" \
    "csel x0, x12, x0, eq\n\t" \
    "csel x1, x12, x1, eq\n\t" \
    "csel x2, x12, x2, eq\n\t" \
    LINE_C

#define LINE_STRIDE1(CODES) \
    LINE_START \
    LINE_B \
    "subs x14, x14, #3\n\t" \
    "b.lt 4f\n" \
    "3:\n\t" \
    LINE_C LINE_ABC(CODES) \
    LINE_A LINE_BCA(CODES) \
    "sub x6, x6, #3\n\t" \
    "subs x14, x14, #3\n\t" \
    LINE_B LINE_CAB(CODES) \
    "b.ge 3b\n\t" \
    "cbz x6, 5f\n" \
    "4:\n\t" \
    LINE_LAST_C LINE_ABC(CODES) \
    "subs x6, x6, #1\n\t" \
    LINE_MOVE(0, 4) LINE_MOVE(1, 5) LINE_MOVE(2, 6) LINE_MOVE(3, 7) \
    LINE_MOVE(4, 8) LINE_MOVE(5, 9) LINE_MOVE(6, 10) LINE_MOVE(7, 11) \
    "b.ne 4b\n" \
    "5:\n\t"

#define LINE_STRIDE2(CODES) \
    LINE_START \
    "subs x14, x14, #2\n\t" \
    "b.lt 4f\n" \
    "3:\n\t" \
    LINE_B LINE_C LINE_ABC(CODES) \
    "sub x6, x6, #2\n\t" \
    "subs x14, x14, #2\n\t" \
    LINE_B LINE_A LINE_CBA(CODES) \
    "b.ge 3b\n\t" \
    "cbz x6, 5f\n" \
    "4:\n\t" \
    LINE_B LINE_LAST_C LINE_ABC(CODES) \
    "subs x6, x6, #1\n\t" \
    LINE_MOVE(0, 8) LINE_MOVE(1, 9) LINE_MOVE(2, 10) LINE_MOVE(3, 11) \
    "b.ne 4b\n" \
    "5:\n\t"

#define LINE(TEXT) \
    __asm__ volatile(TEXT \
        : \
        : [line] "r"(line) \
        : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "v0", "v1", "v2", \
          "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", \
          "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory")
// clang-format on

static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod"))) void line_stride1(const struct line16 *line)
{
    if (line->rule->whole)
        LINE(LINE_STRIDE1(LINE_WHOLE));
    else
        LINE(LINE_STRIDE1(LINE_BOUNDED));
}

static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod"))) void line_stride2(const struct line16 *line)
{
    if (line->rule->whole)
        LINE(LINE_STRIDE2(LINE_WHOLE));
    else
        LINE(LINE_STRIDE2(LINE_BOUNDED));
}

#endif
