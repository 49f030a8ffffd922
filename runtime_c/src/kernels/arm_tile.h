/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner loop of the AArch64 matrix kernels whose instruction multiplies a vector of packed weights with one 32-bit word of
 * a row: SDOT (a word is 4 codes) and FMLA (a word is a float). 6 rows by 16 channels fill the registers:
 *     v8..v31   sums: row r, channels 4j..4j+3 in v(8 + 4r + j)
 *     v0..v5    16 bytes of each row
 *     v6, v7    weights, in turn
 * It is assembly because in-order cores (Cortex-A53, A55) run as fast as loads are placed early: a weight is loaded 6
 * multiplications before its use, and the next 16 bytes of the rows replace the present ones as soon as these are used up. What is
 * loaded ahead in the last step is read once more from valid places instead: nothing outside the rows and the weights is read. */
#ifndef E8_ARM_TILE_H
#define E8_ARM_TILE_H

#include "arm_codes.h"

// clang-format off
#define TILE6_SDOT(sum, w, x, lane) "sdot v" #sum ".4s, v" #w ".16b, v" #x ".4b[" #lane "]\n\t"
#define TILE6_FMLA(sum, w, x, lane) "fmla v" #sum ".4s, v" #w ".4s, v" #x ".s[" #lane "]\n\t"

/* Channels 4j.. of all rows, times word `lane` of each. */
#define TILE6_J0(OP, w, lane) OP(8, w, 0, lane) OP(12, w, 1, lane) OP(16, w, 2, lane) OP(20, w, 3, lane) OP(24, w, 4, lane) OP(28, w, 5, lane)
#define TILE6_J1(OP, w, lane) OP(9, w, 0, lane) OP(13, w, 1, lane) OP(17, w, 2, lane) OP(21, w, 3, lane) OP(25, w, 4, lane) OP(29, w, 5, lane)
#define TILE6_J2(OP, w, lane) OP(10, w, 0, lane) OP(14, w, 1, lane) OP(18, w, 2, lane) OP(22, w, 3, lane) OP(26, w, 4, lane) OP(30, w, 5, lane)

/* One word of each row with 64 bytes of weights, whose first 32 bytes are in v6 and v7; loads the next 32 on the way. */
#define TILE6_WORD(OP, lane, third, fourth, next, second) \
    TILE6_J0(OP, 6, lane) \
    "ldr q6, [x4, #" #third "]\n\t" TILE6_J1(OP, 7, lane) "ldr q7, [x4, #" #fourth "]\n\t" TILE6_J2(OP, 6, lane) \
    "ldr q6, [x4, #" #next "]\n\t" OP(11, 7, 0, lane) OP(15, 7, 1, lane) OP(19, 7, 2, lane) OP(23, 7, 3, lane) \
    OP(27, 7, 4, lane) OP(31, 7, 5, lane) "ldr q7, [x4, #" #second "]\n\t"

/* The last word: the rows' next bytes come in where the present ones go out of use. */
#define TILE6_LAST_WORD(OP) \
    TILE6_J0(OP, 6, 3) \
    "ldr q6, [x4, #224]\n\t" TILE6_J1(OP, 7, 3) "ldr q7, [x4, #240]\n\t" TILE6_J2(OP, 6, 3) "ldr q6, [x15]\n\t" \
    OP(11, 7, 0, 3) "ldr q0, [x6, x14]\n\t" OP(15, 7, 1, 3) "ldr q1, [x7, x14]\n\t" OP(19, 7, 2, 3) "ldr q2, [x8, x14]\n\t" \
    OP(23, 7, 3, 3) "ldr q3, [x9, x14]\n\t" OP(27, 7, 4, 3) "ldr q4, [x10, x14]\n\t" OP(31, 7, 5, 3) "ldr q5, [x11, x14]\n\t" \
    "ldr q7, [x15, #16]\n\t"

#define TILE6_START \
    "ldp x0, x1, [%[args]]\n\t" \
    "ldp x2, x3, [%[args], #16]\n\t" \
    "ldp x4, x5, [%[args], #32]\n\t" \
    "ldp q8, q9, [x5]\n\t" \
    "ldp q10, q11, [x5, #32]\n\t" \
    "ldp q12, q13, [x5]\n\t" \
    "ldp q14, q15, [x5, #32]\n\t" \
    "ldp q16, q17, [x5]\n\t" \
    "ldp q18, q19, [x5, #32]\n\t" \
    "ldp q20, q21, [x5]\n\t" \
    "ldp q22, q23, [x5, #32]\n\t" \
    "ldp q24, q25, [x5]\n\t" \
    "ldp q26, q27, [x5, #32]\n\t" \
    "ldp q28, q29, [x5]\n\t" \
    "ldp q30, q31, [x5, #32]\n"

/* x0 pointers of the tap, x2 taps left, x3 bytes of a segment, x4 weights, x6..x11 rows, x12 place in the segment, x13 the last
 * place for 16 bytes. */
#define TILE6_TAP \
    "1:\n\t" \
    "ldp x6, x7, [x0]\n\t" \
    "ldp x8, x9, [x0, #16]\n\t" \
    "ldp x10, x11, [x0, #32]\n\t" \
    "add x0, x0, x1\n\t" \
    "mov x12, #0\n\t"

/* x14 and x15 what is loaded ahead: place in the rows, address of weights. */
#define TILE6_AHEAD(OP) \
    "subs x13, x3, #16\n\t" \
    "b.lo 3f\n\t" \
    "ldr q0, [x6]\n\t" \
    "ldr q1, [x7]\n\t" \
    "ldr q2, [x8]\n\t" \
    "ldr q3, [x9]\n\t" \
    "ldr q4, [x10]\n\t" \
    "ldr q5, [x11]\n\t" \
    "ldp q6, q7, [x4]\n" \
    "2:\n\t" \
    "add x12, x12, #16\n\t" \
    "add x15, x4, #256\n\t" \
    TILE6_WORD(OP, 0, 32, 48, 64, 80) \
    "cmp x12, x13\n\t" \
    TILE6_WORD(OP, 1, 96, 112, 128, 144) \
    "csel x14, x12, x13, ls\n\t" \
    "csel x15, x15, x4, ls\n\t" \
    TILE6_WORD(OP, 2, 160, 176, 192, 208) \
    TILE6_LAST_WORD(OP) \
    "add x4, x4, #256\n\t" \
    "b.ls 2b\n" \
    "3:\n\t"

/* 16 bytes of each row for cores that reorder instructions: fewest instructions, weights by pairs. */
#define TILE6_J3(OP, w, lane) OP(11, w, 0, lane) OP(15, w, 1, lane) OP(19, w, 2, lane) OP(23, w, 3, lane) OP(27, w, 4, lane) OP(31, w, 5, lane)
#define TILE6_WIDE_WORD(OP, lane, third, next) \
    TILE6_J0(OP, 6, lane) TILE6_J1(OP, 7, lane) "ldp q6, q7, [x4, #" #third "]\n\t" TILE6_J2(OP, 6, lane) TILE6_J3(OP, 7, lane) next
#define TILE6_WIDE(OP) \
    "subs x13, x3, #16\n\t" \
    "b.lo 3f\n" \
    "2:\n\t" \
    "ldp q6, q7, [x4], #256\n\t" \
    "ldr q0, [x6, x12]\n\t" \
    "ldr q1, [x7, x12]\n\t" \
    "ldr q2, [x8, x12]\n\t" \
    "ldr q3, [x9, x12]\n\t" \
    "ldr q4, [x10, x12]\n\t" \
    "ldr q5, [x11, x12]\n\t" \
    "add x12, x12, #16\n\t" \
    "cmp x12, x13\n\t" \
    TILE6_WIDE_WORD(OP, 0, -224, "ldp q6, q7, [x4, #-192]\n\t") \
    TILE6_WIDE_WORD(OP, 1, -160, "ldp q6, q7, [x4, #-128]\n\t") \
    TILE6_WIDE_WORD(OP, 2, -96, "ldp q6, q7, [x4, #-64]\n\t") \
    TILE6_WIDE_WORD(OP, 3, -32, "b.ls 2b\n") \
    "3:\n\t"

/* What is left of the segment, by words; the next tap. */
#define TILE6_WORDS(OP) \
    "cmp x12, x3\n\t" \
    "b.hs 5f\n" \
    "4:\n\t" \
    "ldr s0, [x6, x12]\n\t" \
    "ldr s1, [x7, x12]\n\t" \
    "ldr s2, [x8, x12]\n\t" \
    "ldr s3, [x9, x12]\n\t" \
    "ldr s4, [x10, x12]\n\t" \
    "ldr s5, [x11, x12]\n\t" \
    "ldp q6, q7, [x4]\n\t" \
    "add x12, x12, #4\n\t" \
    "add x4, x4, #64\n\t" \
    "cmp x12, x3\n\t" \
    TILE6_J0(OP, 6, 0) \
    "ldr q6, [x4, #-32]\n\t" TILE6_J1(OP, 7, 0) "ldr q7, [x4, #-16]\n\t" TILE6_J2(OP, 6, 0) \
    OP(11, 7, 0, 0) OP(15, 7, 1, 0) OP(19, 7, 2, 0) OP(23, 7, 3, 0) OP(27, 7, 4, 0) OP(31, 7, 5, 0) \
    "b.lo 4b\n" \
    "5:\n\t" \
    "subs x2, x2, #1\n\t" \
    "b.ne 1b\n\t"

#define TILE6_END \
    "stp q8, q9, [%[sums], #0]\n\t" \
    "stp q10, q11, [%[sums], #32]\n\t" \
    "stp q12, q13, [%[sums], #64]\n\t" \
    "stp q14, q15, [%[sums], #96]\n\t" \
    "stp q16, q17, [%[sums], #128]\n\t" \
    "stp q18, q19, [%[sums], #160]\n\t" \
    "stp q20, q21, [%[sums], #192]\n\t" \
    "stp q22, q23, [%[sums], #224]\n\t" \
    "stp q24, q25, [%[sums], #256]\n\t" \
    "stp q26, q27, [%[sums], #288]\n\t" \
    "stp q28, q29, [%[sums], #320]\n\t" \
    "stp q30, q31, [%[sums], #352]\n\t"

/* Codes: multipliers in v0..v3, the rule in v4..v6; a residual's zero point in v4, and v5..v7 for what is added. */
#define TILE6_RESIDUAL(a, b, c, d) CODES_RESIDUAL(a, b, c, d, 0, 1, 2, 3, 4, 5, 6, 7)
#define TILE6_BOUNDED(a, b, c, d) CODES_STORE_BOUNDED(a, b, c, d, 0, 1, 2, 3, 4, 5, 6)
#define TILE6_WHOLE(a, b, c, d) CODES_STORE_WHOLE(a, b, c, d, 0, 1, 2, 3, 4)
#define TILE6_ROWS(ROW) \
    ROW(8, 9, 10, 11) ROW(12, 13, 14, 15) ROW(16, 17, 18, 19) ROW(20, 21, 22, 23) ROW(24, 25, 26, 27) ROW(28, 29, 30, 31)
#define TILE6_END_CODES \
    CODES_END(TILE6_ROWS(TILE6_RESIDUAL), TILE6_ROWS(TILE6_BOUNDED), TILE6_ROWS(TILE6_WHOLE), 0, 1, 2, 3, 4, 5, 6)

#define TILE6(OP, LOOP, END, tile_, sums_) \
    __asm__ volatile(TILE6_START TILE6_TAP LOOP(OP) TILE6_WORDS(OP) END \
        : \
        : [args] "r"(tile_), [sums] "r"(sums_) \
        : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "v0", "v1", \
          "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", \
          "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory")

/* Leaves the sums of 6 rows, 16 words each, at `sums`. */
E8_INLINE void tile6_sdot(const struct arm_tile *tile, int32_t *sums)
{
    TILE6(TILE6_SDOT, TILE6_AHEAD, TILE6_END, tile, sums);
}

E8_INLINE void tile6_fmla(const struct arm_tile *tile, float *sums)
{
    TILE6(TILE6_FMLA, TILE6_AHEAD, TILE6_END, tile, sums);
}

/* Leaves the codes of 6 rows at tile->out. */
E8_INLINE void tile6_codes(const struct arm_tile *tile)
{
    TILE6(TILE6_SDOT, TILE6_AHEAD, TILE6_END_CODES, tile, NULL);
}

E8_INLINE void tile6_wide_codes(const struct arm_tile *tile)
{
    TILE6(TILE6_SDOT, TILE6_WIDE, TILE6_END_CODES, tile, NULL);
}
// clang-format on

#endif
