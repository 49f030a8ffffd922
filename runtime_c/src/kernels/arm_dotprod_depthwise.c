/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 int8 convolution of whole output rows by dot product. A column's codes of 16 channels are transposed to four vectors
 * of 4 channels by [row 0, row 1, row 2, row 2], a kernel column's weights to [row 0, row 1, row 2, 0]. Four SDOT then add a column
 * to the sums of 16 channels: with a stride of 1 an output costs 3 loads, 8 transpositions and 12 SDOT. */
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

ROWS_INLINE void line_outputs(const struct line16 *line, int32_t stride)
{
    LINE_OF(DOT);
}

#include "arm_depthwise_rows.h"

DOTPROD void e8_dotprod_depthwise_image_s8(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    depthwise_rows(g, q);
    e8_neon_depthwise_table(g, q);
}
#endif
