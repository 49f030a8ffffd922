/* SPDX-License-Identifier: Apache-2.0
 *
 * Inner loops of the AArch64 int8 kernels without dot product, in assembly for the same reason as arm_tile.h: in-order cores
 * need loads placed early, between multiplications. The order of instructions of the depthwise loop was found by
 * runtime_c/bench/arm_order.py: the fewest cycles of a Cortex-A53 in llvm-mca. What is loaded ahead there in the last step is read
 * once more from where it was read already. */
#ifndef E8_ARM_TILE_NEON_H
#define E8_ARM_TILE_NEON_H

#include "arm_codes.h"

/* Two rows by 16 channels. Weights are within [-127, 127]. Sums stay as pairs: lanes [c: k01, c: k23, c+1: k01, c+1: k23] for channels
 * c = 2p.
 *
 *     v16..v23    sums of row 0, p = 0..7
 *     v24..v31    sums of row 1
 *     v0..v7      int16 products: pairs p and p + 1 of channels, for both rows
 *     v8..v11     weights of half of the channels: first four inputs in v8 and v9, next four in v10 and v11
 *     v12, v13    words of row 0
 *     v14, v15    words of row 1 */
// clang-format off
/* Half of the channels by 8 codes of both rows, in three steps of 8 instructions, so that none waits for another: products of the
 * first 4 codes, products of the next 4 on top, both into the sums. The weights of the next half are loaded as soon as their
 * registers are free. */
#define NEON_FIRST \
    "smull v0.8h, v8.8b, v12.8b\n\t" \
    "smull2 v1.8h, v8.16b, v12.16b\n\t" \
    "smull v4.8h, v8.8b, v14.8b\n\t" \
    "smull2 v5.8h, v8.16b, v14.16b\n\t" \
    "smull v2.8h, v9.8b, v12.8b\n\t" \
    "smull2 v3.8h, v9.16b, v12.16b\n\t" \
    "smull v6.8h, v9.8b, v14.8b\n\t" \
    "smull2 v7.8h, v9.16b, v14.16b\n\t"
#define NEON_NEXT \
    "smlal v0.8h, v10.8b, v13.8b\n\t" \
    "smlal2 v1.8h, v10.16b, v13.16b\n\t" \
    "smlal v4.8h, v10.8b, v15.8b\n\t" \
    "smlal2 v5.8h, v10.16b, v15.16b\n\t" \
    "smlal v2.8h, v11.8b, v13.8b\n\t" \
    "smlal2 v3.8h, v11.16b, v13.16b\n\t" \
    "smlal v6.8h, v11.8b, v15.8b\n\t" \
    "smlal2 v7.8h, v11.16b, v15.16b\n\t"
#define NEON_SUM(a0, a1, a2, a3, b0, b1, b2, b3) \
    "sadalp v" #a0 ".4s, v0.8h\n\t" \
    "sadalp v" #a1 ".4s, v1.8h\n\t" \
    "sadalp v" #b0 ".4s, v4.8h\n\t" \
    "sadalp v" #b1 ".4s, v5.8h\n\t" \
    "sadalp v" #a2 ".4s, v2.8h\n\t" \
    "sadalp v" #a3 ".4s, v3.8h\n\t" \
    "sadalp v" #b2 ".4s, v6.8h\n\t" \
    "sadalp v" #b3 ".4s, v7.8h\n\t"
#define NEON_LOW NEON_SUM(16, 17, 18, 19, 24, 25, 26, 27)
#define NEON_HIGH NEON_SUM(20, 21, 22, 23, 28, 29, 30, 31)

/* 8 codes, and the loads of 8 more. Places of weights: second half, then those to come. */
#define NEON_EIGHT(half0, half1, next0, next1) \
    NEON_FIRST "ldp q8, q9, [x4, #" #half0 "]\n\t" \
    NEON_NEXT "ldp q10, q11, [x4, #" #half1 "]\n\t" \
    NEON_LOW \
    NEON_FIRST "ldp q8, q9, [x4, #" #next0 "]\n\t" \
    NEON_NEXT "ldp q10, q11, [x4, #" #next1 "]\n\t" \
    "ld2r {v12.4s, v13.4s}, [x6], #8\n\t" \
    "ld2r {v14.4s, v15.4s}, [x7], #8\n\t" \
    NEON_HIGH

/* Sums start as [init, 0, init, 0]. Label 1 starts a tap, 2 does 8 codes twice, 9 once, 3 the last 8, 4 does 4 codes. Leaves sums in v0..v3 and v4..v7.
 *     x0 pointers of the tap, x2 taps left, x3 codes of a segment, x4 weights, x6 and x7 rows, x8 eights of codes left */
#define NEON_TILE \
    "ldp x0, x1, [%[args]]\n\t" \
    "ldp x2, x3, [%[args], #16]\n\t" \
    "ldr x4, [%[args], #32]\n\t" \
    "ldr x5, [%[args], #40]\n\t" \
    "ldp q0, q1, [x5]\n\t" \
    "ldp q2, q3, [x5, #32]\n\t" \
    "uxtl v16.2d, v0.2s\n\t" \
    "uxtl2 v17.2d, v0.4s\n\t" \
    "uxtl v18.2d, v1.2s\n\t" \
    "uxtl2 v19.2d, v1.4s\n\t" \
    "uxtl v20.2d, v2.2s\n\t" \
    "uxtl2 v21.2d, v2.4s\n\t" \
    "uxtl v22.2d, v3.2s\n\t" \
    "uxtl2 v23.2d, v3.4s\n\t" \
    "uxtl v24.2d, v0.2s\n\t" \
    "uxtl2 v25.2d, v0.4s\n\t" \
    "uxtl v26.2d, v1.2s\n\t" \
    "uxtl2 v27.2d, v1.4s\n\t" \
    "uxtl v28.2d, v2.2s\n\t" \
    "uxtl2 v29.2d, v2.4s\n\t" \
    "uxtl v30.2d, v3.2s\n\t" \
    "uxtl2 v31.2d, v3.4s\n\t" \
    "1:\n\t" \
    "ldp x6, x7, [x0]\n\t" \
    "add x0, x0, x1\n\t" \
    "lsr x8, x3, #3\n\t" \
    "cbz x8, 4f\n\t" \
    "ld2r {v12.4s, v13.4s}, [x6], #8\n\t" \
    "ld2r {v14.4s, v15.4s}, [x7], #8\n\t" \
    "ldp q8, q9, [x4]\n\t" \
    "ldp q10, q11, [x4, #64]\n\t" \
    "subs x8, x8, #1\n\t" \
    "b.eq 3f\n\t" \
    "subs x8, x8, #2\n\t" \
    "b.lo 9f\n" \
    "2:\n\t" \
    NEON_EIGHT(32, 96, 128, 192) \
    "subs x8, x8, #2\n\t" \
    NEON_EIGHT(160, 224, 256, 320) \
    "add x4, x4, #256\n\t" \
    "b.hs 2b\n" \
    "9:\n\t" \
    "tbz x8, #0, 3f\n\t" \
    NEON_EIGHT(32, 96, 128, 192) \
    "add x4, x4, #128\n" \
    "3:\n\t" \
    NEON_FIRST "ldp q8, q9, [x4, #32]\n\t" \
    NEON_NEXT "ldp q10, q11, [x4, #96]\n\t" \
    NEON_LOW \
    "add x4, x4, #128\n\t" \
    NEON_FIRST NEON_NEXT NEON_HIGH \
    "4:\n\t" \
    "tbz x3, #2, 5f\n\t" \
    "ld1r {v12.4s}, [x6]\n\t" \
    "ld1r {v14.4s}, [x7]\n\t" \
    "ldp q8, q9, [x4]\n\t" \
    NEON_FIRST "ldp q8, q9, [x4, #32]\n\t" \
    NEON_LOW \
    "add x4, x4, #64\n\t" \
    NEON_FIRST NEON_HIGH \
    "5:\n\t" \
    "subs x2, x2, #1\n\t" \
    "b.ne 1b\n\t" \
    "addp v0.4s, v16.4s, v17.4s\n\t" \
    "addp v1.4s, v18.4s, v19.4s\n\t" \
    "addp v2.4s, v20.4s, v21.4s\n\t" \
    "addp v3.4s, v22.4s, v23.4s\n\t" \
    "addp v4.4s, v24.4s, v25.4s\n\t" \
    "addp v5.4s, v26.4s, v27.4s\n\t" \
    "addp v6.4s, v28.4s, v29.4s\n\t" \
    "addp v7.4s, v30.4s, v31.4s\n\t"

#define NEON_END \
    "stp q0, q1, [%[sums], #0]\n\t" \
    "stp q2, q3, [%[sums], #32]\n\t" \
    "stp q4, q5, [%[sums], #64]\n\t" \
    "stp q6, q7, [%[sums], #96]\n\t"

/* Codes: multipliers in v16..v19, the rule in v20..v22; a residual's zero point in v20, and v21..v23 for what is added. */
#define NEON_RESIDUAL(a, b, c, d) CODES_RESIDUAL(a, b, c, d, 16, 17, 18, 19, 20, 21, 22, 23)
#define NEON_BOUNDED(a, b, c, d) CODES_STORE_BOUNDED(a, b, c, d, 16, 17, 18, 19, 20, 21, 22)
#define NEON_WHOLE(a, b, c, d) CODES_STORE_WHOLE(a, b, c, d, 16, 17, 18, 19, 20)
#define NEON_ROWS(ROW) ROW(0, 1, 2, 3) ROW(4, 5, 6, 7)
#define NEON_END_CODES \
    CODES_END(NEON_ROWS(NEON_RESIDUAL), NEON_ROWS(NEON_BOUNDED), NEON_ROWS(NEON_WHOLE), 16, 17, 18, 19, 20, 21, 22)

#define NEON(END, tile_, sums_) \
    __asm__ volatile(NEON_TILE END \
        : \
        : [args] "r"(tile_), [sums] "r"(sums_) \
        : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", \
          "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", \
          "v28", "v29", "v30", "v31", "cc", "memory")

/* Leaves the sums of 2 rows, 16 words each, at `sums`. */
E8_INLINE void tile_neon(const struct arm_tile *tile, int32_t *sums)
{
    NEON(NEON_END, tile, sums);
}

/* Leaves the codes of 2 rows at tile->out. */
E8_INLINE void tile_neon_codes(const struct arm_tile *tile)
{
    NEON(NEON_END_CODES, tile, NULL);
}

/* Depthwise: 16 channels of 4 pixels, `pairs` (at least 1) pairs of taps. Rows of tap t are at a[t * stride + pixel].
 *     v16..v31  sums: pixel p, channels 4k.. in v(16 + 4p + k)
 *     v0..v7    int16 products: pixel p in v(2p) and v(2p + 1)
 *     v8, v9    weights of the two taps
 *     v10..v15  codes: first tap of pixels 0..3 in v10..v13, second tap in v14, v15, v10, v11 */
struct tile_depthwise {
    const void *const *a;
    size_t stride_bytes; /* between the pointers of neighbouring taps */
    const int8_t *w;
    size_t w_stride, pairs, channel;
    const int32_t *init;
};

/* Leaves the sums of 4 pixels, 16 words each, at `sums`. Label 1 does two taps.
 *     x0, x1 pointers of the two taps, x2 bytes to the next pair's, x3, x4 weights of the two taps, x5 bytes to the next pair's,
 * x14 channel, x15 pairs left; x6..x9 pixels of the first tap, x10..x13 of the second; x16 and x17 what there is to go on. */
E8_INLINE void tile_depthwise(const struct tile_depthwise *tile, int32_t *sums)
{
    __asm__ volatile(
        "ldp x0, x2, [%[args]]\n\t"
        "ldp x3, x5, [%[args], #16]\n\t"
        "ldp x15, x14, [%[args], #32]\n\t"
        "ldr x6, [%[args], #48]\n\t"
        "ldp q16, q17, [x6]\n\t"
        "ldp q18, q19, [x6, #32]\n\t"
        "ldp q20, q21, [x6]\n\t"
        "ldp q22, q23, [x6, #32]\n\t"
        "ldp q24, q25, [x6]\n\t"
        "ldp q26, q27, [x6, #32]\n\t"
        "ldp q28, q29, [x6]\n\t"
        "ldp q30, q31, [x6, #32]\n\t"
        "add x1, x0, x2\n\t"
        "add x4, x3, x5\n\t"
        "lsl x2, x2, #1\n\t"
        "lsl x5, x5, #1\n\t"
        "ldp x6, x7, [x0]\n\t"
        "ldp x8, x9, [x0, #16]\n\t"
        "ldp x10, x11, [x1]\n\t"
        "ldp x12, x13, [x1, #16]\n\t"
        "ldr q8, [x3]\n\t"
        "ldr q9, [x4]\n\t"
        "ldr q10, [x6, x14]\n\t"
        "ldr q11, [x7, x14]\n"
        "1:\n\t"
        "ldr q12, [x8, x14]\n\t"
        "subs x15, x15, #1\n\t"
        "ldr q13, [x9, x14]\n\t"
        "ldr q15, [x11, x14]\n\t"
        "smull v2.8h, v11.8b, v8.8b\n\t"
        "smull2 v3.8h, v11.16b, v8.16b\n\t"
        "smull v4.8h, v12.8b, v8.8b\n\t"
        "smull2 v1.8h, v10.16b, v8.16b\n\t"
        "smull2 v5.8h, v12.16b, v8.16b\n\t"
        "smull2 v7.8h, v13.16b, v8.16b\n\t"
        "smull v0.8h, v10.8b, v8.8b\n\t"
        "smlal v2.8h, v15.8b, v9.8b\n\t"
        "smlal2 v3.8h, v15.16b, v9.16b\n\t"
        "smull v6.8h, v13.8b, v8.8b\n\t"
        "ldr q10, [x12, x14]\n\t"
        "csel x16, x2, xzr, ne\n\t"
        "ldr q11, [x13, x14]\n\t"
        "add x0, x0, x16\n\t"
        "ldr q14, [x10, x14]\n\t"
        "csel x17, x5, xzr, ne\n\t"
        "saddw v22.4s, v22.4s, v3.4h\n\t"
        "saddw v20.4s, v20.4s, v2.4h\n\t"
        "smlal2 v7.8h, v11.16b, v9.16b\n\t"
        "smlal2 v5.8h, v10.16b, v9.16b\n\t"
        "smlal v0.8h, v14.8b, v9.8b\n\t"
        "ldp x8, x9, [x0, #16]\n\t"
        "add x3, x3, x17\n\t"
        "add x1, x1, x16\n\t"
        "ldp x6, x7, [x0]\n\t"
        "add x4, x4, x17\n\t"
        "smlal v4.8h, v10.8b, v9.8b\n\t"
        "smlal2 v1.8h, v14.16b, v9.16b\n\t"
        "saddw2 v27.4s, v27.4s, v5.8h\n\t"
        "saddw v26.4s, v26.4s, v5.4h\n\t"
        "ldr q10, [x6, x14]\n\t"
        "smlal v6.8h, v11.8b, v9.8b\n\t"
        "ldr q8, [x3]\n\t"
        "saddw2 v31.4s, v31.4s, v7.8h\n\t"
        "ldr q11, [x7, x14]\n\t"
        "saddw2 v17.4s, v17.4s, v0.8h\n\t"
        "saddw2 v21.4s, v21.4s, v2.8h\n\t"
        "ldr q9, [x4]\n\t"
        "saddw2 v25.4s, v25.4s, v4.8h\n\t"
        "saddw v30.4s, v30.4s, v7.4h\n\t"
        "saddw v24.4s, v24.4s, v4.4h\n\t"
        "ldp x12, x13, [x1, #16]\n\t"
        "saddw2 v19.4s, v19.4s, v1.8h\n\t"
        "saddw v18.4s, v18.4s, v1.4h\n\t"
        "saddw v16.4s, v16.4s, v0.4h\n\t"
        "saddw2 v29.4s, v29.4s, v6.8h\n\t"
        "saddw2 v23.4s, v23.4s, v3.8h\n\t"
        "saddw v28.4s, v28.4s, v6.4h\n\t"
        "ldp x10, x11, [x1]\n\t"
        "b.ne 1b\n\t"
        "stp q16, q17, [%[sums], #0]\n\t"
        "stp q18, q19, [%[sums], #32]\n\t"
        "stp q20, q21, [%[sums], #64]\n\t"
        "stp q22, q23, [%[sums], #96]\n\t"
        "stp q24, q25, [%[sums], #128]\n\t"
        "stp q26, q27, [%[sums], #160]\n\t"
        "stp q28, q29, [%[sums], #192]\n\t"
        "stp q30, q31, [%[sums], #224]\n\t"
        :
        : [args] "r"(tile), [sums] "r"(sums)
        : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
          "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17",
          "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");
}
// clang-format on

#endif
