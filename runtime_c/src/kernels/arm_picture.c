/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 convolution of pictures whose kernel rows are short or no whole words, as those of a first layer with 3 channels: a kernel row
 * of weights is filled up with zeros to whole words, and the input rows of a few output rows are copied with their borders to lines,
 * in which kernel rows are segments of the level's matrix kernel. What a segment reads beyond its kernel row counts nothing. The
 * lines lie at the same place for all output rows, so the pointers into them are made once. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON) && defined(__aarch64__)
#include "arm_neon.h"

struct lines {
    size_t segment, filled; /* codes of a kernel row, and of one filled up */
    size_t line;            /* bytes of an input row with its borders */
    size_t together;        /* output rows */
    const int8_t *w;
    int8_t *rows;          /* [kh][together][line] */
    const void **pointers; /* [kh][together][ow] */
};

/* Weights of all channels, kernel rows filled up. */
static void fill_weights(const struct e8_conv_picture *g, const struct lines *l, int8_t *to)
{
    size_t depth = (size_t)g->kh * l->segment, block = (depth + 3) / 4 * 4 * E8_NR;
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

/* The parts of the scratch, and the weights in theirs unless they are whole words already. */
static struct lines place_lines(const struct e8_conv_picture *g)
{
    struct lines l;
    int8_t *scratch = g->scratch;
    l.segment = (size_t)g->kw * g->channels;
    l.filled = (l.segment + 3) / 4 * 4;
    l.line = (size_t)e8_conv_picture_line(g->ow, g->kw, g->sw, (int64_t)g->channels) + 3;
    l.together = (size_t)e8_conv_picture_rows(g->ow);
    l.w = g->w;
    if (l.filled > l.segment) {
        fill_weights(g, &l, scratch);
        l.w = scratch;
    }
    scratch += (g->n + E8_NR - 1) / E8_NR * E8_NR * (size_t)g->kh * l.filled;
    l.pointers = (const void **)(void *)scratch;
    l.rows = scratch + (size_t)g->kh * l.together * (size_t)g->ow * sizeof(void *);
    return l;
}

/* The input row iy to a line whose borders are there already. */
static void copy_line(const struct e8_conv_picture *g, const struct lines *l, int8_t *to, int32_t iy)
{
    size_t left = (size_t)g->pl * g->channels, inside = (size_t)g->iw * g->channels;
    if (iy < 0 || iy >= g->ih || left >= l->line) {
        memset(to, g->zero, l->line);
        return;
    }
    memcpy(to + left, g->x + (size_t)iy * inside, inside < l->line - left ? inside : l->line - left);
}

static void point_at_lines(const struct e8_conv_picture *g, const struct lines *l)
{
    const void **to = l->pointers;
    const int8_t *line = l->rows;
    for (size_t i = (size_t)g->kh * l->together; i > 0; i--, line += l->line)
        for (size_t ox = 0; ox < (size_t)g->ow; ox++) *to++ = line + ox * (size_t)g->sw * g->channels;
}

void e8_neon_conv_picture(const struct e8_conv_picture *g, const struct e8_requant *q, e8_gemm_s8_kernel *gemm)
{
    struct lines l = place_lines(g);
    size_t kh = (size_t)g->kh, ow = (size_t)g->ow, rows;
    point_at_lines(g, &l);
    memset(l.rows, g->zero, kh * l.together * l.line);
    for (size_t oy = (size_t)g->first; oy < (size_t)g->last; oy += rows) {
        size_t at = oy * ow * g->n, left = (size_t)g->last - oy;
        rows = left < l.together ? left : l.together;
        for (size_t ky = 0; ky < kh; ky++)
            for (size_t r = 0; r < rows; r++)
                copy_line(g, &l, l.rows + (ky * l.together + r) * l.line, (int32_t)(oy + r) * g->sh - g->pt + (int32_t)ky * g->dh);
        struct e8_gemm_s8 product = {
            .m = rows * ow,
            .n = g->n,
            .taps = kh,
            .segment = l.filled,
            .a = l.pointers,
            .a_stride = l.together * ow,
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
