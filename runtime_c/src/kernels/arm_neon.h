/* SPDX-License-Identifier: Apache-2.0
 *
 * What the ARM kernels share: loads and stores of part of a vector, and the way from sums to codes in four lanes. AArch64 has
 * instructions that ARMv7 lacks; the few places where that matters are here.
 *
 * ARMv7 NEON flushes denormal floats to zero. Requantisation does not notice: a product that small rounds to 0 either way.
 * Float kernels would, so ARMv7 has them in arm_v7_vfp.c, on the scalar unit, which follows IEEE 754. */
#ifndef E8_ARM_NEON_H
#define E8_ARM_NEON_H

#include <arm_neon.h>
#include <stdbool.h>

#include "../numeric.h"
#include "arm_levels.h"
#include "kernel.h"
#include "requant.h"

#define E8_INLINE static inline __attribute__((always_inline))

#if defined(__clang__)
#define E8_UNROLL _Pragma("unroll")
#else
#define E8_UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__aarch64__)
/* a > b ? a : b with NaN giving b, for b that is no NaN. */
#define floats_max(a, b) vmaxnmq_f32(a, b)
#define floats_min(a, b) vminnmq_f32(a, b)
#define floats_rne(a) vcvtnq_s32_f32(a)
#define high_product(a, b) vmull_high_s8(a, b)
#define high_product_add(acc, a, b) vmlal_high_s8(acc, a, b)
#define high_add(acc, a) vaddw_high_s16(acc, a)
#define pairs_sum(a, b) vpaddq_s32(a, b)
#else
#define floats_max(a, b) vbslq_f32(vcgtq_f32(a, b), a, b)
#define floats_min(a, b) vbslq_f32(vcltq_f32(a, b), a, b)
#define high_product(a, b) vmull_s8(vget_high_s8(a), vget_high_s8(b))
#define high_product_add(acc, a, b) vmlal_s8(acc, vget_high_s8(a), vget_high_s8(b))
#define high_add(acc, a) vaddw_s16(acc, vget_high_s16(a))
#define pairs_sum(a, b) vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)))

/* As rne_small: right for |a| <= 2^22. */
E8_INLINE int32x4_t floats_rne(float32x4_t a)
{
    const float32x4_t magic = vdupq_n_f32(12582912.0f);
    return vcvtq_s32_f32(vsubq_f32(vaddq_f32(a, magic), magic));
}
#endif

/* The first `width` (1 to 16) of 16 bytes; the others are unspecified. Reads no more than `width`. */
E8_INLINE int8x16_t load_part(const int8_t *p, size_t width)
{
    int8_t bytes[16] = {0};
    if (width == 16) return vld1q_s8(p);
    if (width >= 8) {
        memcpy(bytes + width - 8, p + width - 8, 8);
        memcpy(bytes, p, 8);
    } else if (width >= 4) {
        memcpy(bytes + width - 4, p + width - 4, 4);
        memcpy(bytes, p, 4);
    } else {
        for (size_t i = 0; i < width; i++) bytes[i] = p[i];
    }
    return vld1q_s8(bytes);
}

/* The first `width` (1 to 16) of 16 bytes. */
E8_INLINE void store_part(int8_t *p, int8x16_t value, size_t width)
{
    int8x8_t rest = vget_low_s8(value);
    if (width == 16) {
        vst1q_s8(p, value);
        return;
    }
    if (width & 8) {
        vst1_s8(p, rest);
        rest = vget_high_s8(value);
        p += 8;
    }
    for (size_t i = 0; i < (width & 7); i++) {
        vst1_lane_s8(p + i, rest, 0);
        rest = vext_s8(rest, rest, 1);
    }
}

/* 1 to 4 bytes, repeated four times; missing bytes are 0, so that their products vanish. */
E8_INLINE int8x16_t repeat_word(const int8_t *p, size_t count)
{
    int32_t word = 0;
    memcpy(&word, p, 4 < count ? 4 : count);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

E8_INLINE int8x16_t repeat_four(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

/* 16 codes to 4 vectors of int32. */
E8_INLINE void widen(int8x16_t x, int32x4_t y[4])
{
    int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
    y[0] = vmovl_s16(vget_low_s16(low));
    y[1] = vmovl_s16(vget_high_s16(low));
    y[2] = vmovl_s16(vget_low_s16(high));
    y[3] = vmovl_s16(vget_high_s16(high));
}

/* 4 vectors of int32 that fit in int8. */
E8_INLINE int8x16_t narrow(const int32x4_t y[4])
{
    int16x8_t low = vcombine_s16(vmovn_s32(y[0]), vmovn_s32(y[1])), high = vcombine_s16(vmovn_s32(y[2]), vmovn_s32(y[3]));
    return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}

/* The constants of the requantisation rule. `whole` is true where the codes' range is the one that instructions saturate to: zero point
 * and low -128, high 127. Assembly reads the first four. */
struct rule {
    int16x8_t zero16;
    int8x16_t low8, high8;
    uint64_t whole;
    float32x4_t lowest, highest;
    int32x4_t zero;
};
#if defined(__aarch64__)
_Static_assert(offsetof(struct rule, zero16) == 0 && offsetof(struct rule, low8) == 16, "assembly reads these");
_Static_assert(offsetof(struct rule, high8) == 32 && offsetof(struct rule, whole) == 48, "assembly reads these");
#endif

E8_INLINE struct rule rule_of(int32_t zero_point, int32_t low, int32_t high)
{
    struct rule r = {
        .zero16 = vdupq_n_s16((int16_t)zero_point),
        .low8 = vdupq_n_s8((int8_t)low),
        .high8 = vdupq_n_s8((int8_t)high),
        .whole = zero_point == -128 && low == -128 && high == 127,
        .lowest = vdupq_n_f32((float)(low - zero_point)),
        .highest = vdupq_n_f32((float)(high - zero_point)),
        .zero = vdupq_n_s32(zero_point),
    };
    return r;
}

E8_INLINE int32x4_t requant_value(float32x4_t value, const struct rule *r)
{
    value = floats_min(floats_max(value, r->lowest), r->highest);
    return vaddq_s32(floats_rne(value), r->zero);
}

/* rne_int32 of values that a residual can have. */
E8_INLINE int32x4_t residual_rne(float32x4_t value)
{
#if defined(__aarch64__)
    const float32x4_t most = vdupq_n_f32(2147483520.0f);
    return vcvtnq_s32_f32(vminq_f32(vmaxq_f32(value, vnegq_f32(most)), most));
#else
    float lanes[4];
    int32_t whole[4];
    vst1q_f32(lanes, value);
    for (int i = 0; i < 4; i++) whole[i] = rne_int32(lanes[i]);
    return vld1q_s32(whole);
#endif
}

/* Adds a residual's codes to 16 sums. */
E8_INLINE void add_residual(const struct e8_requant *q, int32x4_t acc[4], const int8_t *residual, size_t c, size_t width)
{
    int32x4_t code[4];
    widen(load_part(residual, width), code);
    E8_UNROLL
    for (int i = 0; i < 4; i++) {
        float32x4_t real = vcvtq_f32_s32(vsubq_s32(code[i], vdupq_n_s32(q->residual_zero)));
        acc[i] = vaddq_s32(acc[i], residual_rne(vmulq_f32(real, vld1q_f32(q->residual_multiplier + c + 4 * i))));
    }
}

/* 16 sums to codes. On AArch64: round, then saturate to int16, add the zero point, saturate to int8, clamp. That is the rule:
 * rounding keeps order, so clamping may come after it, and nothing that saturates lies within the bounds. A sum times a
 * multiplier is never NaN, because the operators' checks keep multipliers finite. codes_whole is for r->whole: what saturation to
 * uint8 leaves is the code and 128. */
#if defined(__aarch64__)
E8_INLINE void round_sums(const int32x4_t acc[4], const float32x4_t m[4], int16x8_t *low, int16x8_t *high)
{
    int32x4_t y[4];
    E8_UNROLL
    for (int i = 0; i < 4; i++) y[i] = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(acc[i]), m[i]));
    *low = vqmovn_high_s32(vqmovn_s32(y[0]), y[1]);
    *high = vqmovn_high_s32(vqmovn_s32(y[2]), y[3]);
}

E8_INLINE int8x16_t codes_of(const int32x4_t acc[4], const float32x4_t m[4], const struct rule *r)
{
    int16x8_t low, high;
    round_sums(acc, m, &low, &high);
    low = vqaddq_s16(low, r->zero16);
    high = vqaddq_s16(high, r->zero16);
    return vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), r->low8), r->high8);
}

E8_INLINE int8x16_t codes_whole(const int32x4_t acc[4], const float32x4_t m[4])
{
    int16x8_t low, high;
    round_sums(acc, m, &low, &high);
    return vreinterpretq_s8_u8(veorq_u8(vqmovun_high_s16(vqmovun_s16(low), high), vdupq_n_u8(128)));
}
#else
E8_INLINE int8x16_t codes_of(const int32x4_t acc[4], const float32x4_t m[4], const struct rule *r)
{
    int32x4_t y[4];
    E8_UNROLL
    for (int i = 0; i < 4; i++) y[i] = requant_value(vmulq_f32(vcvtq_f32_s32(acc[i]), m[i]), r);
    return narrow(y);
}
#endif

/* The multipliers of 16 channels. */
E8_INLINE void load_multipliers(const struct e8_requant *q, size_t c, float32x4_t m[4])
{
    E8_UNROLL
    for (int i = 0; i < 4; i++) m[i] = vld1q_f32(q->multiplier + c + 4 * i);
}

/* Sums of rows by 16 channels from c on, as the tiles leave them in memory, and where their codes go: the first `width` of a row
 * to out[row * stride ..]. `residual` may be NULL. The table of q is applied by apply_table. */
struct output {
    const struct e8_requant *q;
    const int8_t *residual;
    size_t residual_stride;
    int8_t *out;
    size_t stride, c, width;
};

/* Defined in arm_neon_elementwise.c. */
void e8_neon_store_codes(const struct output *o, const struct rule *r, const int32_t *sums, size_t rows);

/* low > x ? low : x, then high < t ? high : t (requant.h: clamp_float). */
E8_INLINE float32x4_t clamp_floats(float32x4_t x, float32x4_t low, float32x4_t high)
{
    x = vbslq_f32(vcgtq_f32(low, x), low, x);
    return vbslq_f32(vcltq_f32(high, x), high, x);
}

/* out[i][c] = table[out[i][c] + 128], when there is a table. Defined in arm_neon_elementwise.c. */
void e8_neon_lookup(const int8_t *x, int8_t *y, size_t count, const int8_t *table);

/* The table of q over the output rows of a picture, when there is a table. Defined in arm_neon_depthwise_image.c. */
void e8_neon_depthwise_table(const struct e8_depthwise_image *g, const struct e8_requant *q);

/* Convolution of pictures with a level's matrix kernel. Defined in arm_picture.c. */
typedef void e8_gemm_s8_kernel(const struct e8_gemm_s8 *g, const struct e8_requant *q);
void e8_neon_conv_picture(const struct e8_conv_picture *g, const struct e8_requant *q, e8_gemm_s8_kernel *gemm);

/* Defined in arm_dotprod_depthwise.c. */
void e8_dotprod_depthwise_image_s8(const struct e8_depthwise_image *g, const struct e8_requant *q);

/* The last rows of the i8mm kernels. Defined in arm_dotprod.c. */
void e8_dotprod_gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q);
void e8_dotprod_gemm_s8s32(const struct e8_gemm_s8s32 *g);

E8_INLINE void apply_table(const int8_t *table, int8_t *out, size_t stride, size_t rows, size_t width)
{
    if (!table) return;
    for (size_t i = 0; i < rows; i++) e8_neon_lookup(out + i * stride, out + i * stride, width, table);
}

#endif
