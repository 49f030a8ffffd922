/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 int8 convolution of whole output rows for AArch64 without dot product. Two taps are multiplied and added in int16 (at
 * most 2 * 128 * 127), then added to int32 sums. With a stride of 1 an output costs 3 loads, 18 multiplications, 20 additions. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON) && defined(__aarch64__)
#include "arm_line.h"

#define ROWS_INLINE E8_INLINE

struct column {
    int8x16_t v[3];
};

#define kernel_column column

E8_INLINE void column_of(struct column *to, int8x16_t a, int8x16_t b, int8x16_t c)
{
    to->v[0] = a;
    to->v[1] = b;
    to->v[2] = c;
}

E8_INLINE void column_fill(struct column *to, int8_t code)
{
    for (int j = 0; j < 3; j++) to->v[j] = vdupq_n_s8(code);
}

#define kernel_column_of column_of

E8_INLINE void add_products(int32x4_t sum[4], int16x8_t low, int16x8_t high)
{
    sum[0] = vaddw_s16(sum[0], vget_low_s16(low));
    sum[1] = vaddw_high_s16(sum[1], low);
    sum[2] = vaddw_s16(sum[2], vget_low_s16(high));
    sum[3] = vaddw_high_s16(sum[3], high);
}

/* Two taps. */
E8_INLINE void add_pair(int32x4_t sum[4], int8x16_t x0, int8x16_t w0, int8x16_t x1, int8x16_t w1)
{
    int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(x0), vget_low_s8(w0)), vget_low_s8(x1), vget_low_s8(w1));
    add_products(sum, low, vmlal_high_s8(vmull_high_s8(x0, w0), x1, w1));
}

E8_INLINE void multiply(int32x4_t sum[4], const struct column w[3], const struct column *x0, const struct column *x1,
                        const struct column *x2)
{
    add_pair(sum, x0->v[0], w[0].v[0], x0->v[1], w[0].v[1]);
    add_pair(sum, x1->v[0], w[1].v[0], x1->v[1], w[1].v[1]);
    add_pair(sum, x0->v[2], w[0].v[2], x1->v[2], w[1].v[2]);
    add_pair(sum, x2->v[0], w[2].v[0], x2->v[1], w[2].v[1]);
    int16x8_t low = vmull_s8(vget_low_s8(x2->v[2]), vget_low_s8(w[2].v[2]));
    add_products(sum, low, vmull_high_s8(x2->v[2], w[2].v[2]));
}

E8_INLINE void line_outputs(const struct line16 *line, int32_t stride)
{
    LINE_OF(NEON);
}

#include "arm_depthwise_rows.h"

void e8_neon_depthwise_table(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    size_t pixel = (size_t)g->first * (size_t)g->ow;
    apply_table(q->table, (int8_t *)g->out + pixel * g->channels, g->channels, (size_t)g->last * (size_t)g->ow - pixel, g->channels);
}

static void depthwise_image_s8(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    depthwise_rows(g, q);
    e8_neon_depthwise_table(g, q);
}

void e8_init_neon_depthwise_image(struct e8_kernels *k)
{
    k->depthwise_image_s8 = depthwise_image_s8;
}
#endif
