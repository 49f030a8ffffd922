/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 int8 convolution of whole output rows by dot product. Three pixels above each other are a column; its codes of 16
 * channels are transposed to four vectors of 4 channels by [row 0, row 1, row 2, row 2], the weights of a kernel column to
 * [row 0, row 1, row 2, 0]. Four SDOT then add a column to the sums of 16 channels, and neighbouring outputs share the transposed
 * columns: with a stride of 1 an output costs 3 loads, 8 transpositions and 12 SDOT. */
#include "arm_levels.h"

#if defined(E8_KERNELS_DOTPROD)
#include "arm_neon.h"

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define DOTPROD_INLINE static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod")))

enum { BUFFERED = 12 }; /* pixels whose sums wait for their epilogue; both loops below do 2 or 3 outputs a turn */

/* One column of the picture, or of the kernel. */
struct column {
    int8x16_t v[4];
};

/* Row `ky` of the kernel reads pixel ix at row[ky] + ix * step[ky]; a row outside the picture is a pixel of zero points, step 0. */
struct line {
    const int8_t *row[3];
    size_t step[3];
    int32_t ix, iw; /* the next column */
    int8x16_t zero;
    size_t width; /* channels: 16, or fewer in all */
    int32_t *sums;
    const int32_t *init;
};

DOTPROD_INLINE void transpose(struct column *to, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d)
{
    int16x8_t ab0 = vreinterpretq_s16_s8(vzip1q_s8(a, b)), ab1 = vreinterpretq_s16_s8(vzip2q_s8(a, b));
    int16x8_t cd0 = vreinterpretq_s16_s8(vzip1q_s8(c, d)), cd1 = vreinterpretq_s16_s8(vzip2q_s8(c, d));
    to->v[0] = vreinterpretq_s8_s16(vzip1q_s16(ab0, cd0));
    to->v[1] = vreinterpretq_s8_s16(vzip2q_s16(ab0, cd0));
    to->v[2] = vreinterpretq_s8_s16(vzip1q_s16(ab1, cd1));
    to->v[3] = vreinterpretq_s8_s16(vzip2q_s16(ab1, cd1));
}

DOTPROD_INLINE void next_column(struct line *l, struct column *to)
{
    if ((uint32_t)l->ix < (uint32_t)l->iw) {
        int8x16_t c = load_part(l->row[2], l->width);
        transpose(to, load_part(l->row[0], l->width), load_part(l->row[1], l->width), c, c);
        for (int ky = 0; ky < 3; ky++) l->row[ky] += l->step[ky];
    } else {
        for (int j = 0; j < 4; j++) to->v[j] = l->zero;
    }
    l->ix++;
}

DOTPROD_INLINE void next_output(struct line *l, const struct column w[3], const struct column *a, const struct column *b,
                                const struct column *c)
{
    E8_UNROLL
    for (int j = 0; j < 4; j++) {
        int32x4_t sum = vld1q_s32(l->init + 4 * j);
        sum = vdotq_s32(sum, w[0].v[j], a->v[j]);
        sum = vdotq_s32(sum, w[1].v[j], b->v[j]);
        vst1q_s32(l->sums + 4 * j, vdotq_s32(sum, w[2].v[j], c->v[j]));
    }
    l->sums += E8_NR;
}

/* The sums of `count` (at most BUFFERED) neighbouring outputs; a, b and c go round as columns come in. The first `sw` columns of
 * the first output are in `a` and `b` already, and so they are for what follows. */
DOTPROD_INLINE void outputs_stride1(struct line *l, const struct column w[3], size_t count, struct column *a, struct column *b)
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

DOTPROD_INLINE void outputs_stride2(struct line *l, const struct column w[3], size_t count, struct column *a)
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
DOTPROD_INLINE void one_line(const struct e8_depthwise_image *g, const struct e8_requant *q, const struct rule *r, const struct column w[3],
                             int32_t oy, size_t c, size_t width)
{
    int32_t sums[BUFFERED * E8_NR];
    int8_t zeros[E8_NR];
    struct column a, b;
    struct line l = {.ix = -g->pl, .iw = g->iw, .zero = vdupq_n_s8((int8_t)g->zero), .width = width, .init = q->init + c};
    vst1q_s8(zeros, l.zero);
    for (int32_t ky = 0; ky < 3; ky++) {
        int32_t iy = oy * g->sh - g->pt + ky;
        bool inside = iy >= 0 && iy < g->ih;
        l.row[ky] = inside ? (const int8_t *)g->x + (size_t)iy * (size_t)g->iw * g->channels + c : zeros;
        l.step[ky] = inside ? g->channels : 0;
    }
    struct output o = {q, NULL, 0, (int8_t *)g->out + (size_t)oy * (size_t)g->ow * g->channels + c, g->channels, c, width};
    next_column(&l, &a);
    if (g->sw == 1) next_column(&l, &b);
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

DOTPROD_INLINE void all_lines(const struct e8_depthwise_image *g, const struct e8_requant *q, const struct rule *r, size_t c, size_t width)
{
    struct column w[3];
    for (size_t kx = 0; kx < 3; kx++) {
        const int8_t *tap = (const int8_t *)g->w + kx * g->w_stride + c;
        transpose(&w[kx], vld1q_s8(tap), vld1q_s8(tap + 3 * g->w_stride), vld1q_s8(tap + 6 * g->w_stride), vdupq_n_s8(0));
    }
    for (int32_t oy = g->first; oy < g->last; oy++) one_line(g, q, r, w, oy, c, width);
}

DOTPROD void e8_dotprod_depthwise_image_s8(const struct e8_depthwise_image *g, const struct e8_requant *q)
{
    struct rule r = rule_of(q->zero_point, q->low, q->high);
    size_t c = 0;
    for (; c + E8_NR <= g->channels; c += E8_NR) all_lines(g, q, &r, c, E8_NR);
    /* The last channels: once more with some that are done already, or all in part of a vector. */
    if (c < g->channels && g->channels > E8_NR)
        all_lines(g, q, &r, g->channels - E8_NR, E8_NR);
    else if (c < g->channels)
        all_lines(g, q, &r, c, g->channels);
    size_t pixel = (size_t)g->first * (size_t)g->ow;
    apply_table(q->table, (int8_t *)g->out + pixel * g->channels, g->channels, (size_t)g->last * (size_t)g->ow - pixel, g->channels);
}
#endif
