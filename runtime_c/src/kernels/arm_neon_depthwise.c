/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise int8 convolution for NEON: 16 channels of a few pixels at a time. Two taps are multiplied and added in int16 (at
 * most 2 * 128 * 127), then added to int32 sums. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON)
#if defined(__aarch64__)
#include "arm_tile_neon.h"
#else
#include "arm_neon.h"
#endif

E8_INLINE int8x16_t load_codes(const struct e8_depthwise_s8 *g, size_t t, size_t i, size_t c, size_t width)
{
    const int8_t *a = g->a[t * g->a_stride + i];
    return load_part(a + c, width);
}

E8_INLINE void add_products(int32x4_t acc[4], int16x8_t low, int16x8_t high)
{
    acc[0] = vaddw_s16(acc[0], vget_low_s16(low));
    acc[1] = high_add(acc[1], low);
    acc[2] = vaddw_s16(acc[2], vget_low_s16(high));
    acc[3] = high_add(acc[3], high);
}

#if defined(__aarch64__)
/* Channels [c, c + 16) of 4 pixels. */
static void four_pixels(const struct e8_depthwise_s8 *g, const struct e8_requant *q, const struct rule *r, size_t i, size_t c)
{
    int32_t sums[4 * E8_NR];
    const struct tile_depthwise tile = {g->a + i, g->a_stride * sizeof(void *), g->w + c, g->w_stride, g->taps / 2, c, q->init + c};
    const struct output o = {q, NULL, 0, g->out + i * g->out_stride + c, g->out_stride, c, E8_NR};
    tile_depthwise(&tile, sums);
    if (g->taps & 1) {
        const int8x16_t w = vld1q_s8(g->w + (g->taps - 1) * g->w_stride + c);
        for (size_t p = 0; p < 4; p++) {
            const int8x16_t x = load_codes(g, g->taps - 1, i + p, c, E8_NR);
            int32_t *s = sums + p * E8_NR;
            int32x4_t acc[4] = {vld1q_s32(s), vld1q_s32(s + 4), vld1q_s32(s + 8), vld1q_s32(s + 12)};
            add_products(acc, vmull_s8(vget_low_s8(x), vget_low_s8(w)), high_product(x, w));
            for (int j = 0; j < 4; j++) vst1q_s32(s + 4 * j, acc[j]);
        }
    }
    e8_neon_store_codes(&o, r, sums, 4);
}
#endif

/* Channels [c, c + width) of one pixel. */
static void one_pixel(const struct e8_depthwise_s8 *g, const struct e8_requant *q, const struct rule *r, size_t i, size_t c, size_t width)
{
    int32_t sums[E8_NR];
    int32x4_t acc[4];
    const struct output o = {q, NULL, 0, g->out + i * g->out_stride + c, g->out_stride, c, width};
    E8_UNROLL
    for (int j = 0; j < 4; j++) acc[j] = vld1q_s32(q->init + c + 4 * j);
    size_t t = 0;
    for (; t + 2 <= g->taps; t += 2) {
        const int8x16_t w0 = vld1q_s8(g->w + t * g->w_stride + c), w1 = vld1q_s8(g->w + (t + 1) * g->w_stride + c);
        const int8x16_t x0 = load_codes(g, t, i, c, width), x1 = load_codes(g, t + 1, i, c, width);
        int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(x0), vget_low_s8(w0)), vget_low_s8(x1), vget_low_s8(w1));
        add_products(acc, low, high_product_add(high_product(x0, w0), x1, w1));
    }
    if (t < g->taps) {
        const int8x16_t w = vld1q_s8(g->w + t * g->w_stride + c), x = load_codes(g, t, i, c, width);
        add_products(acc, vmull_s8(vget_low_s8(x), vget_low_s8(w)), high_product(x, w));
    }
    E8_UNROLL
    for (int j = 0; j < 4; j++) vst1q_s32(sums + 4 * j, acc[j]);
    e8_neon_store_codes(&o, r, sums, 1);
}

static void columns(const struct e8_depthwise_s8 *g, const struct e8_requant *q, const struct rule *r, size_t c, size_t width)
{
    size_t i = 0;
#if defined(__aarch64__)
    if (width == E8_NR && g->taps >= 2)
        for (; i + 4 <= g->m; i += 4) four_pixels(g, q, r, i, c);
#endif
    for (; i < g->m; i++) one_pixel(g, q, r, i, c, width);
}

static void depthwise_s8(const struct e8_depthwise_s8 *g, const struct e8_requant *q)
{
    struct rule r = rule_of(q->zero_point, q->low, q->high);
    size_t c = 0;
    for (; c + E8_NR <= g->channels; c += E8_NR) columns(g, q, &r, c, E8_NR);
    /* The last channels: once more with some that are done already, or all in part of a vector. */
    if (c < g->channels && g->channels > E8_NR)
        columns(g, q, &r, g->channels - E8_NR, E8_NR);
    else if (c < g->channels)
        columns(g, q, &r, c, g->channels - c);
    apply_table(q->table, g->out, g->out_stride, g->m, g->channels);
}

void e8_init_neon_depthwise(struct e8_kernels *k)
{
    k->depthwise_s8 = depthwise_s8;
}
#endif
