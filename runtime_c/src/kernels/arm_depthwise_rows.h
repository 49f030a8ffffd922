/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 int8 convolution of whole output rows, 16 channels at a time. Three pixels above each other are a column; the
 * columns of one output serve its neighbours as well. A file that includes this defines how a level holds a column of the picture
 * or of the kernel and multiplies them, under these names:
 *     ROWS_INLINE                                   static inline, with the level's target attribute
 *     struct column, struct kernel_column           16 channels by 3 pixels, by 3 weights
 *     column_of(to, a, b, c), column_fill(to, code) from the pixels of three rows; all of one code
 *     kernel_column_of(to, a, b, c)
 *     multiply(sum, w, x0, x1, x2)                  adds the products of three columns to 16 sums
 *     line_outputs(line, stride)                    arm_line.h with the level's instructions
 * Lines whose borders are at most one column wide are done by the last; what is above it is for others. */
#ifndef E8_ARM_DEPTHWISE_ROWS_H
#define E8_ARM_DEPTHWISE_ROWS_H

#include "arm_line.h"

enum { BUFFERED = 12 }; /* pixels whose sums wait for their epilogue; a multiple of what the loops below do in a turn */

/* Row `ky` of the kernel reads pixel ix at row[ky] + ix * step[ky]; a row outside the picture is a pixel of zero points, step 0. */
struct line {
    const int8_t *row[3];
    size_t step[3];
    int32_t ix, iw; /* the next column */
    int8_t zero;
    size_t width; /* channels: 16, or fewer in all */
    int32_t *sums;
    const int32_t *init;
};

ROWS_INLINE void next_column(struct line *l, struct column *to)
{
    if ((uint32_t)l->ix < (uint32_t)l->iw) {
        column_of(to, load_part(l->row[0], l->width), load_part(l->row[1], l->width), load_part(l->row[2], l->width));
        for (int ky = 0; ky < 3; ky++) l->row[ky] += l->step[ky];
    } else {
        column_fill(to, l->zero);
    }
    l->ix++;
}

ROWS_INLINE void next_output(struct line *l, const struct kernel_column w[3], const struct column *a, const struct column *b,
                             const struct column *c)
{
    int32x4_t sum[4];
    E8_UNROLL
    for (int j = 0; j < 4; j++) sum[j] = vld1q_s32(l->init + 4 * j);
    multiply(sum, w, a, b, c);
    E8_UNROLL
    for (int j = 0; j < 4; j++) vst1q_s32(l->sums + 4 * j, sum[j]);
    l->sums += E8_NR;
}

/* The sums of `count` (at most BUFFERED) neighbouring outputs. `a` and `b` are the first columns of the first output, and are left so
 * for the output that follows. */
ROWS_INLINE void outputs_stride1(struct line *l, const struct kernel_column w[3], size_t count, struct column *a, struct column *b)
{
    struct column c;
    while (count >= 3) {
        next_column(l, &c);
        next_output(l, w, a, b, &c);
        next_column(l, a);
        next_output(l, w, b, &c, a);
        next_column(l, b);
        next_output(l, w, &c, a, b);
        count -= 3;
    }
    for (; count > 0; count--) {
        next_column(l, &c);
        next_output(l, w, a, b, &c);
        *a = *b;
        *b = c;
    }
}

ROWS_INLINE void outputs_stride2(struct line *l, const struct kernel_column w[3], size_t count, struct column *a)
{
    struct column b, c;
    for (; count > 0; count--) {
        next_column(l, &b);
        next_column(l, &c);
        next_output(l, w, a, &b, &c);
        *a = c;
    }
}

/* Row oy of the output, channels [c, c + width). */
ROWS_INLINE void one_line(const struct e8_depthwise_image *g, const struct e8_requant *q, const struct rule *r,
                          const struct kernel_column w[3], int32_t oy, size_t c, size_t width)
{
    int32_t sums[BUFFERED * E8_NR];
    int8_t zeros[E8_NR];
    struct column a, b;
    struct line l = {.ix = -g->pl, .iw = g->iw, .zero = (int8_t)g->zero, .width = width, .init = q->init + c};
    vst1q_s8(zeros, vdupq_n_s8(l.zero));
    for (int32_t ky = 0; ky < 3; ky++) {
        int32_t iy = oy * g->sh - g->pt + ky;
        bool inside = iy >= 0 && iy < g->ih;
        l.row[ky] = inside ? (const int8_t *)g->x + (size_t)iy * (size_t)g->iw * g->channels + c : zeros;
        l.step[ky] = inside ? g->channels : 0;
    }
    struct output o = {q, NULL, 0, (int8_t *)g->out + (size_t)oy * (size_t)g->ow * g->channels + c, g->channels, c, width};
    next_column(&l, &a);
    if (g->sw == 1)
        next_column(&l, &b);
    else
        b = a; /* which nobody reads */
    for (size_t left = (size_t)g->ow, count; left > 0; left -= count) {
        count = left < BUFFERED ? left : BUFFERED;
        l.sums = sums;
        if (g->sw == 1)
            outputs_stride1(&l, w, count, &a, &b);
        else
            outputs_stride2(&l, w, count, &a);
        e8_neon_store_codes(&o, r, sums, count);
        o.out += count * g->channels;
    }
}

ROWS_INLINE void kernel_columns(const struct e8_depthwise_image *g, struct kernel_column w[3], size_t c)
{
    for (size_t kx = 0; kx < 3; kx++) {
        const int8_t *tap = (const int8_t *)g->w + kx * g->w_stride + c;
        kernel_column_of(&w[kx], vld1q_s8(tap), vld1q_s8(tap + 3 * g->w_stride), vld1q_s8(tap + 6 * g->w_stride));
    }
}

ROWS_INLINE void all_lines(const struct e8_depthwise_image *g, const struct e8_requant *q, const struct rule *r, size_t c, size_t width)
{
    struct kernel_column w[3];
    kernel_columns(g, w, c);
    for (int32_t oy = g->first; oy < g->last; oy++) one_line(g, q, r, w, oy, c, width);
}

/* Columns outside the picture on the right that the last output reads, when arm_line.h has the line's borders; 2 otherwise. */
static size_t line_right(const struct e8_depthwise_image *g)
{
    if (g->channels < E8_NR || g->pl > 1 || g->iw < 2) return 2;
    size_t columns = (size_t)(g->ow - 1) * (size_t)g->sw + 3 - (size_t)g->pl, inside = (size_t)g->iw;
    return columns <= inside ? 0 : columns - inside == 1 ? 1 : 2;
}

/* Output rows, channels [c, c + 16). */
ROWS_INLINE void lines_of_block(const struct e8_depthwise_image *g, const struct e8_requant *q, const struct rule *r, size_t c,
                                size_t right)
{
    int8_t zeros[E8_NR];
    struct kernel_column w[3];
    kernel_columns(g, w, c);
    vst1q_s8(zeros, vdupq_n_s8((int8_t)g->zero));
    struct line16 line = {
        .out_step = g->channels,
        .init = q->init + c,
        .multiplier = q->multiplier + c,
        .rule = r,
        .zeros = zeros,
        .w = w,
        .count = (size_t)g->ow,
        .left = (size_t)g->pl,
        .right = right,
    };
    size_t pitch = (size_t)g->iw * g->channels;
    line.out = (int8_t *)g->out + (size_t)g->first * (size_t)g->ow * g->channels + c;
    for (int32_t oy = g->first; oy < g->last; oy++, line.out += (size_t)g->ow * g->channels) {
        int32_t iy = oy * g->sh - g->pt;
        for (int32_t ky = 0; ky < 3; ky++, iy++) {
            bool inside = (uint32_t)iy < (uint32_t)g->ih;
            line.row[ky] = inside ? (const int8_t *)g->x + (size_t)iy * pitch + c : zeros;
            line.step[ky] = inside ? g->channels : 0;
        }
        line_outputs(&line, g->sw);
    }
}

/* Output rows of one picture, but for the table of q. The last channels: once more with some that are done already, or all in part of
 * a vector. */
ROWS_INLINE void depthwise_rows(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    struct rule r = rule_of(q->zero_point, q->low, q->high);
    size_t right = line_right(g);
    for (size_t done = 0; done < g->channels; done += E8_NR) {
        size_t c = done + E8_NR <= g->channels || g->channels < E8_NR ? done : g->channels - E8_NR;
        if (right < 2)
            lines_of_block(g, q, &r, c, right);
        else
            all_lines(g, q, &r, c, g->channels < E8_NR ? g->channels : E8_NR);
    }
}

#endif
