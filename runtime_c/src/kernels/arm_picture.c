/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 convolution of pictures whose kernel rows are no whole words, as those of a first layer with 3 channels: a kernel row of
 * weights is filled up with zeros to whole words, and the input rows of an output row are copied with their borders to lines, in
 * which kernel rows are segments of the level's matrix kernel. What a segment reads beyond its kernel row counts nothing. The lines
 * lie at the same place for every output row, so the pointers into them are made once. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON) && defined(__aarch64__)
#include "arm_neon.h"

struct lines {
    size_t segment, filled; /* codes of a kernel row, and of one filled up */
    size_t line;            /* bytes of an input row with its borders */
    int8_t *w, *rows;
    const void **pointers; /* [kh][ow] */
};

static struct lines place_lines(const struct e8_conv_picture *g)
{
    struct lines l;
    int8_t *scratch = g->scratch;
    l.segment = (size_t)g->kw * g->channels;
    l.filled = (l.segment + 3) / 4 * 4;
    l.line = (size_t)e8_conv_picture_line(g->ow, g->kw, g->sw, (int64_t)g->channels) + 3;
    l.w = scratch;
    scratch += (g->n + E8_NR - 1) / E8_NR * E8_NR * (size_t)g->kh * l.filled;
    l.pointers = (const void **)(void *)scratch;
    l.rows = scratch + (size_t)g->kh * (size_t)g->ow * sizeof(void *);
    return l;
}

/* Weights of all channels, kernel rows filled up. */
static void fill_weights(const struct e8_conv_picture *g, const struct lines *l)
{
    size_t depth = (size_t)g->kh * l->segment, block = (depth + 3) / 4 * 4 * E8_NR;
    int8_t *to = l->w;
    for (size_t n = 0; n < g->n; n += E8_NR) {
        const int8_t *from = g->w + n / E8_NR * block;
        for (size_t first = 0; first < depth; first += l->segment, to += l->filled * E8_NR) {
            memset(to + (l->filled - 4) * E8_NR, 0, 4 * E8_NR);
            for (size_t j = 0; j < l->segment; j++) {
                const int8_t *column = from + (first + j) / 4 * (4 * E8_NR) + (first + j) % 4;
                for (size_t c = 0; c < E8_NR; c++) to[j / 4 * (4 * E8_NR) + j % 4 + 4 * c] = column[4 * c];
            }
        }
    }
}

/* The input row iy and what lies outside. */
static void copy_line(const struct e8_conv_picture *g, const struct lines *l, int8_t *to, int32_t iy)
{
    size_t left = (size_t)g->pl * g->channels, inside = (size_t)g->iw * g->channels;
    if (iy < 0 || iy >= g->ih || left >= l->line) {
        memset(to, g->zero, l->line);
        return;
    }
    if (inside > l->line - left) inside = l->line - left;
    memset(to, g->zero, left);
    memcpy(to + left, g->x + (size_t)iy * (size_t)g->iw * g->channels, inside);
    memset(to + left + inside, g->zero, l->line - left - inside);
}

void e8_neon_conv_picture(const struct e8_conv_picture *g, const struct e8_requant *q, e8_gemm_s8_kernel *gemm)
{
    struct lines l = place_lines(g);
    size_t kh = (size_t)g->kh, ow = (size_t)g->ow;
    fill_weights(g, &l);
    for (size_t ky = 0; ky < kh; ky++)
        for (size_t ox = 0; ox < ow; ox++) l.pointers[ky * ow + ox] = l.rows + ky * l.line + ox * (size_t)g->sw * g->channels;
    for (int32_t oy = g->first; oy < g->last; oy++) {
        size_t at = (size_t)oy * ow * g->n;
        for (size_t ky = 0; ky < kh; ky++) copy_line(g, &l, l.rows + ky * l.line, oy * g->sh - g->pt + (int32_t)ky * g->dh);
        struct e8_gemm_s8 product = {
            .m = ow,
            .n = g->n,
            .taps = kh,
            .segment = l.filled,
            .a = l.pointers,
            .a_stride = ow,
            .w = l.w,
            .residual = g->residual ? g->residual + at : NULL,
            .residual_stride = g->n,
            .out = g->out + at,
            .out_stride = g->n,
        };
        gemm(&product, q);
    }
}
#endif
