/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 int8 convolution of whole output rows by dot product. A column's codes of 16 channels are transposed to four vectors
 * of 4 channels by [row 0, row 1, row 2, row 2], a kernel column's weights to [row 0, row 1, row 2, 0]. Four SDOT then add a column
 * to the sums of 16 channels: with a stride of 1 an output costs 3 loads, 8 transpositions and 12 SDOT. Lines whose borders are at most
 * one column wide are done in assembly. */
#include "arm_levels.h"

#if defined(E8_KERNELS_DOTPROD)
#include "arm_line.h"

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define ROWS_INLINE static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod")))

struct column {
    int8x16_t v[4];
};

#define kernel_column column

ROWS_INLINE void transpose(struct column *to, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d)
{
    int16x8_t ab0 = vreinterpretq_s16_s8(vzip1q_s8(a, b)), ab1 = vreinterpretq_s16_s8(vzip2q_s8(a, b));
    int16x8_t cd0 = vreinterpretq_s16_s8(vzip1q_s8(c, d)), cd1 = vreinterpretq_s16_s8(vzip2q_s8(c, d));
    to->v[0] = vreinterpretq_s8_s16(vzip1q_s16(ab0, cd0));
    to->v[1] = vreinterpretq_s8_s16(vzip2q_s16(ab0, cd0));
    to->v[2] = vreinterpretq_s8_s16(vzip1q_s16(ab1, cd1));
    to->v[3] = vreinterpretq_s8_s16(vzip2q_s16(ab1, cd1));
}

ROWS_INLINE void column_of(struct column *to, int8x16_t a, int8x16_t b, int8x16_t c)
{
    transpose(to, a, b, c, c);
}

ROWS_INLINE void column_fill(struct column *to, int8_t code)
{
    for (int j = 0; j < 4; j++) to->v[j] = vdupq_n_s8(code);
}

ROWS_INLINE void kernel_column_of(struct column *to, int8x16_t a, int8x16_t b, int8x16_t c)
{
    transpose(to, a, b, c, vdupq_n_s8(0));
}

ROWS_INLINE void multiply(int32x4_t sum[4], const struct column w[3], const struct column *x0, const struct column *x1,
                          const struct column *x2)
{
    E8_UNROLL
    for (int j = 0; j < 4; j++) {
        sum[j] = vdotq_s32(sum[j], w[0].v[j], x0->v[j]);
        sum[j] = vdotq_s32(sum[j], w[1].v[j], x1->v[j]);
        sum[j] = vdotq_s32(sum[j], w[2].v[j], x2->v[j]);
    }
}

#include "arm_depthwise_rows.h"

/* Columns outside the picture on the right that the last output reads, when arm_line.h has the line's borders; 2 otherwise. */
static size_t line_right(const struct e8_depthwise_image *g)
{
    if (g->channels < E8_NR || g->pl > 1 || g->iw < 2) return 2;
    size_t columns = (size_t)(g->ow - 1) * (size_t)g->sw + 3 - (size_t)g->pl, inside = (size_t)g->iw;
    return columns <= inside ? 0 : columns - inside == 1 ? 1 : 2;
}

/* Output rows, channels [c, c + 16). */
DOTPROD static void line_block(const struct e8_depthwise_image *g, const struct e8_requant *q, const struct rule *r, size_t c, size_t right)
{
    int8_t zeros[E8_NR];
    struct kernel_column w[3];
    for (size_t kx = 0; kx < 3; kx++) {
        const int8_t *tap = (const int8_t *)g->w + kx * g->w_stride + c;
        kernel_column_of(&w[kx], vld1q_s8(tap), vld1q_s8(tap + 3 * g->w_stride), vld1q_s8(tap + 6 * g->w_stride));
    }
    vst1q_s8(zeros, vdupq_n_s8((int8_t)g->zero));
    struct line16 line = {
        .out_step = g->channels,
        .init = q->init + c,
        .multiplier = q->multiplier + c,
        .rule = r,
        .zeros = zeros,
        .w = (const int8_t *)w,
        .count = (size_t)g->ow,
        .left = (size_t)g->pl,
        .right = right,
    };
    for (int32_t oy = g->first; oy < g->last; oy++) {
        line.out = (int8_t *)g->out + (size_t)oy * (size_t)g->ow * g->channels + c;
        for (int32_t ky = 0; ky < 3; ky++) {
            int32_t iy = oy * g->sh - g->pt + ky;
            bool inside = iy >= 0 && iy < g->ih;
            line.row[ky] = inside ? (const int8_t *)g->x + (size_t)iy * (size_t)g->iw * g->channels + c : zeros;
            line.step[ky] = inside ? g->channels : 0;
        }
        if (g->sw == 1)
            line_stride1(&line);
        else
            line_stride2(&line);
    }
}

DOTPROD void e8_dotprod_depthwise_image_s8(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    struct rule r = rule_of(q->zero_point, q->low, q->high);
    size_t right = line_right(g), c = 0;
    if (right < 2) {
        for (; c + E8_NR <= g->channels; c += E8_NR) line_block(g, q, &r, c, right);
        if (c < g->channels) line_block(g, q, &r, g->channels - E8_NR, right);
    } else {
        depthwise_rows(g, q);
    }
    e8_neon_depthwise_table(g, q);
}
#endif
