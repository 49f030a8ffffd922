/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise int8 kernels for NEON. Each handles whole vectors of 16 and leaves the rest to a part of a vector. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON)
#include "arm_neon.h"

#define WIDTH(count, i) ((count) - (i) < 16 ? (count) - (i) : 16)

#if defined(__aarch64__)
/* The table in 16 registers: four look-ups of 64 entries each; indices out of a look-up's range leave the result alone. */
void e8_neon_lookup(const int8_t *x, int8_t *y, size_t count, const int8_t *table)
{
    int8x16x4_t part[4];
    for (int j = 0; j < 4; j++) part[j] = vld1q_s8_x4(table + 64 * j);
    for (size_t i = 0; i < count; i += 16) {
        uint8x16_t index = veorq_u8(vreinterpretq_u8_s8(load_part(x + i, WIDTH(count, i))), vdupq_n_u8(128));
        int8x16_t value = vqtbl4q_s8(part[0], index);
        value = vqtbx4q_s8(value, part[1], vsubq_u8(index, vdupq_n_u8(64)));
        value = vqtbx4q_s8(value, part[2], vsubq_u8(index, vdupq_n_u8(128)));
        value = vqtbx4q_s8(value, part[3], vsubq_u8(index, vdupq_n_u8(192)));
        store_part(y + i, value, WIDTH(count, i));
    }
}
#else
void e8_neon_lookup(const int8_t *x, int8_t *y, size_t count, const int8_t *table)
{
    for (size_t i = 0; i < count; i++) y[i] = table[x[i] + 128];
}
#endif

E8_INLINE void load_sums(const int32_t *sums, int32x4_t acc[4])
{
    E8_UNROLL
    for (int j = 0; j < 4; j++) acc[j] = vld1q_s32(sums + 4 * j);
}

void e8_neon_store_codes(const struct output *o, const struct rule *r, const int32_t *sums, size_t rows)
{
    const struct rule rule = *r;
    const int8_t *residual = o->residual;
    int8_t *out = o->out;
    size_t stride = o->stride;
    float32x4_t m[4];
    int32x4_t acc[4];
    load_multipliers(o->q, o->c, m);
    const int32_t *end = sums + rows * E8_NR;
#if defined(__aarch64__)
    if (!residual && o->width == E8_NR && rule.whole) {
        for (; sums < end; sums += E8_NR, out += stride) {
            load_sums(sums, acc);
            vst1q_s8(out, codes_whole(acc, m));
        }
        return;
    }
#endif
    if (!residual && o->width == E8_NR) {
        for (; sums < end; sums += E8_NR, out += stride) {
            load_sums(sums, acc);
            vst1q_s8(out, codes_of(acc, m, &rule));
        }
        return;
    }
    for (size_t i = 0; i < rows; i++, sums += E8_NR, out += stride) {
        load_sums(sums, acc);
        if (residual) add_residual(o->q, acc, residual + i * o->residual_stride, o->c, o->width);
        store_part(out, codes_of(acc, m, &rule), o->width);
    }
}

static void requantise_sums(const int32_t *x, int8_t *y, size_t count, int32_t add, const struct e8_requant_row *p)
{
    struct rule r = rule_of(p->zero_point, p->low, p->high);
    float32x4_t multiplier = vdupq_n_f32(p->multiplier);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        int32x4_t code[4];
        E8_UNROLL
        for (int j = 0; j < 4; j++) {
            int32x4_t acc = vaddq_s32(vld1q_s32(x + i + 4 * j), vdupq_n_s32(add));
            code[j] = requant_value(vmulq_f32(vcvtq_f32_s32(acc), multiplier), &r);
        }
        vst1q_s8(y + i, narrow(code));
    }
    for (; i < count; i++) {
        int32_t acc = (int32_t)((uint32_t)x[i] + (uint32_t)add);
        y[i] = (int8_t)requantise((float)acc * p->multiplier, p->zero_point, p->low, p->high);
    }
}

/* Four sums of add_s8, rounded, shifted and clamped. */
E8_INLINE int32x4_t add_four(int32x4_t a, int32x4_t b, const struct e8_add_s8 *p)
{
    int32x4_t sum = vmulq_n_s32(vsubq_s32(a, vdupq_n_s32(p->zero0)), p->multiplier0);
    sum = vmlaq_n_s32(sum, vsubq_s32(b, vdupq_n_s32(p->zero1)), p->multiplier1);
    /* A rounding shift adds half of the divisor first, as the rule does; the sum stays below 2^30. */
    sum = vaddq_s32(vrshlq_s32(sum, vdupq_n_s32(-p->shift)), vdupq_n_s32(p->zero));
    return vminq_s32(vmaxq_s32(sum, vdupq_n_s32(p->low)), vdupq_n_s32(p->high));
}

static void add_s8(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_add_s8 *p)
{
    for (size_t i = 0; i < count; i += 16) {
        int32x4_t a[4], b[4], sum[4];
        widen(load_part(x0 + i, WIDTH(count, i)), a);
        widen(load_part(x1 + i, WIDTH(count, i)), b);
        E8_UNROLL
        for (int j = 0; j < 4; j++) sum[j] = add_four(a[j], b[j], p);
        store_part(y + i, narrow(sum), WIDTH(count, i));
    }
}

static void mul_s8(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_mul_s8 *p)
{
    struct rule r = rule_of(p->zero, p->low, p->high);
    for (size_t i = 0; i < count; i += 16) {
        int32x4_t a[4], b[4], code[4];
        widen(load_part(x0 + i, WIDTH(count, i)), a);
        widen(load_part(x1 + i, WIDTH(count, i)), b);
        E8_UNROLL
        for (int j = 0; j < 4; j++) {
            int32x4_t product = vmulq_s32(vsubq_s32(a[j], vdupq_n_s32(p->zero0)), vsubq_s32(b[j], vdupq_n_s32(p->zero1)));
            code[j] = requant_value(vmulq_n_f32(vcvtq_f32_s32(product), p->multiplier), &r);
        }
        store_part(y + i, narrow(code), WIDTH(count, i));
    }
}

static void max_s8(const int8_t *const *a, size_t taps, size_t count, int8_t *y)
{
    for (size_t c = 0; c < count; c += 16) {
        int8x16_t best = load_part(a[0] + c, WIDTH(count, c));
        for (size_t t = 1; t < taps; t++) best = vmaxq_s8(best, load_part(a[t] + c, WIDTH(count, c)));
        store_part(y + c, best, WIDTH(count, c));
    }
}

static void sum_s8(const int8_t *const *a, size_t taps, size_t count, int32_t *y)
{
    size_t c = 0;
    for (; c + 16 <= count; c += 16) {
        int32x4_t sum[4];
        for (int j = 0; j < 4; j++) sum[j] = vld1q_s32(y + c + 4 * j);
        for (size_t t = 0; t < taps; t++) {
            int8x16_t x = vld1q_s8(a[t] + c);
            int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
            sum[0] = vaddw_s16(sum[0], vget_low_s16(low));
            sum[1] = high_add(sum[1], low);
            sum[2] = vaddw_s16(sum[2], vget_low_s16(high));
            sum[3] = high_add(sum[3], high);
        }
        for (int j = 0; j < 4; j++) vst1q_s32(y + c + 4 * j, sum[j]);
    }
    for (size_t t = 0; t < taps; t++)
        for (size_t i = c; i < count; i++) y[i] += a[t][i];
}

#if defined(__aarch64__)
static void quantise(const float *x, int8_t *y, size_t count, float inverse_scale, int32_t zero_point)
{
    struct rule r = rule_of(zero_point, -128, 127);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        int32x4_t code[4];
        E8_UNROLL
        for (int j = 0; j < 4; j++) code[j] = requant_value(vmulq_n_f32(vld1q_f32(x + i + 4 * j), inverse_scale), &r);
        vst1q_s8(y + i, narrow(code));
    }
    for (; i < count; i++) y[i] = (int8_t)requantise(x[i] * inverse_scale, zero_point, -128, 127);
}

static void dequantise(const int8_t *x, float *y, size_t count, float scale, int32_t zero_point)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        int32x4_t code[4];
        widen(vld1q_s8(x + i), code);
        E8_UNROLL
        for (int j = 0; j < 4; j++)
            vst1q_f32(y + i + 4 * j, vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(code[j], vdupq_n_s32(zero_point))), scale));
    }
    for (; i < count; i++) y[i] = (float)(x[i] - zero_point) * scale;
}

static void dequantise_sums(const int32_t *x, float *y, size_t count, float row_scale, const struct e8_dequant_row *p)
{
    const float32x4_t low = vdupq_n_f32(p->low), high = vdupq_n_f32(p->high);
    size_t c = 0;
    for (; c + 4 <= count; c += 4) {
        float32x4_t bias = p->bias ? vld1q_f32(p->bias + c) : vdupq_n_f32(0.0f);
        int32x4_t sum = vmlsq_n_s32(vld1q_s32(x + c), vld1q_s32(p->weight_sum + c), p->zero_point);
        float32x4_t value = vfmaq_f32(bias, vcvtq_f32_s32(sum), vmulq_n_f32(vld1q_f32(p->scale + c), row_scale));
        if (p->residual) value = vaddq_f32(value, vld1q_f32(p->residual + c));
        vst1q_f32(y + c, clamp_floats(value, low, high));
    }
    for (; c < count; c++) {
        float sum = (float)sum_of_codes(p, x[c], c), value = fma_float(sum, row_scale * p->scale[c], p->bias ? p->bias[c] : 0.0f);
        if (p->residual) value += p->residual[c];
        y[c] = clamp_float(value, p->low, p->high);
    }
}
#endif

void e8_init_neon_elementwise(struct e8_kernels *k)
{
    k->lookup = e8_neon_lookup;
    k->requantise = requantise_sums;
    k->add_s8 = add_s8;
    k->mul_s8 = mul_s8;
    k->max_s8 = max_s8;
    k->sum_s8 = sum_s8;
#if defined(__aarch64__)
    k->quantise = quantise;
    k->dequantise = dequantise;
    k->dequantise_sums = dequantise_sums;
#endif
}
#endif
