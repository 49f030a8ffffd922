/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

e8_status window_check(struct check *c, const struct tensor *x, const struct tensor *y, int32_t kh, int32_t kw)
{
    const uint8_t *p = c->op.params;
    int64_t stride[2] = {flat_int(p, Conv2D_stride_h, 1), flat_int(p, Conv2D_stride_w, 1)};
    int64_t dilation[2] = {flat_int(p, Conv2D_dilation_h, 1), flat_int(p, Conv2D_dilation_w, 1)};
    int64_t before[2] = {flat_int(p, Conv2D_pad_top, 0), flat_int(p, Conv2D_pad_left, 0)};
    int64_t after[2] = {flat_int(p, Conv2D_pad_bottom, 0), flat_int(p, Conv2D_pad_right, 0)};
    int64_t kernel[2] = {kh, kw};
    for (int i = 0; i < 2; i++) {
        REQUIRE(c, "window.stride", stride[i] >= 1);
        REQUIRE(c, "window.dilation", dilation[i] >= 1);
        REQUIRE(c, "window.pad", before[i] >= 0 && after[i] >= 0);
        int64_t reach = (kernel[i] - 1) * dilation[i] + 1, size = x->dims[1 + i] + before[i] + after[i];
        /* Positions are computed in int32 afterwards. */
        REQUIRE(c, "window.size", reach <= size && size <= INT32_MAX);
        REQUIRE(c, "window.output", y->dims[1 + i] == (size - reach) / stride[i] + 1);
    }
    REQUIRE(c, "window.output", y->dims[0] == x->dims[0]);
    return E8_OK;
}

void window_decode(const struct op *op, const struct tensor *x, const struct tensor *y, int32_t kh, int32_t kw, struct window *w)
{
    const uint8_t *p = op->params;
    *w = (struct window){
        .batch = x->dims[0],
        .ih = x->dims[1],
        .iw = x->dims[2],
        .oh = y->dims[1],
        .ow = y->dims[2],
        .kh = kh,
        .kw = kw,
        .sh = flat_int(p, Conv2D_stride_h, 1),
        .sw = flat_int(p, Conv2D_stride_w, 1),
        .dh = flat_int(p, Conv2D_dilation_h, 1),
        .dw = flat_int(p, Conv2D_dilation_w, 1),
        .pt = flat_int(p, Conv2D_pad_top, 0),
        .pl = flat_int(p, Conv2D_pad_left, 0),
    };
}

/* Pointers of `count` neighbours in one output row, for one kernel position. */
static void point_at_pixels(const struct window *w, const uint8_t *line, size_t pixel_bytes, const void *zeros, int32_t ix, size_t count,
                            const void **out)
{
    for (size_t i = 0; i < count; i++, ix += w->sw) out[i] = line && ix >= 0 && ix < w->iw ? line + (size_t)ix * pixel_bytes : zeros;
}

void window_pointers(const struct window *w, const void *x, size_t pixel_bytes, const void *zeros, size_t first, size_t rows,
                     const void **out, size_t stride)
{
    size_t width = (size_t)w->ow, picture = width * (size_t)w->oh;
    for (size_t done = 0; done < rows;) {
        size_t at = first + done, ox = at % width, count = width - ox < rows - done ? width - ox : rows - done;
        int32_t oy = (int32_t)(at % picture / width);
        const uint8_t *base = (const uint8_t *)x + at / picture * ((size_t)w->ih * (size_t)w->iw * pixel_bytes);
        for (int32_t ky = 0; ky < w->kh; ky++) {
            int32_t iy = oy * w->sh - w->pt + ky * w->dh;
            const uint8_t *line = iy >= 0 && iy < w->ih ? base + (size_t)iy * (size_t)w->iw * pixel_bytes : NULL;
            for (int32_t kx = 0; kx < w->kw; kx++) {
                int32_t ix = (int32_t)ox * w->sw - w->pl + kx * w->dw;
                size_t tap = (size_t)ky * (size_t)w->kw + (size_t)kx;
                point_at_pixels(w, line, pixel_bytes, zeros, ix, count, out + tap * stride + done);
            }
        }
        done += count;
    }
}

/* Outputs of one row of the picture whose kernel sticks out to the left or right. */
static size_t edge_columns(const struct window *w)
{
    int64_t inside = (int64_t)w->iw + w->pl - w->kw; /* last column of a kernel that fits, in padded coordinates */
    int64_t first = (w->pl + w->sw - 1) / w->sw, last = inside < 0 ? -1 : inside / w->sw;
    int64_t whole = last >= w->ow ? w->ow - first : last + 1 - first;
    return (size_t)(w->ow - (whole > 0 ? whole : 0));
}

size_t window_edge_pixels(const struct window *w, size_t rows)
{
    /* `rows` neighbours touch at most so many rows of the picture. */
    size_t lines = (rows - 1) / (size_t)w->ow + 2, edges = lines * edge_columns(w);
    return edges < rows ? edges : rows;
}

/* A kernel row that begins at column ix and does not fit. `line` is the first pixel of the picture's row. */
static void copy_edge(const struct window *w, uint8_t *to, const uint8_t *line, size_t pixel_bytes, const void *zeros, int32_t ix)
{
    int32_t begin = ix < 0 ? -ix : 0, end = w->iw - ix < w->kw ? w->iw - ix : w->kw;
    memcpy(to, zeros, (size_t)w->kw * pixel_bytes);
    if (begin < end)
        memcpy(to + (size_t)begin * pixel_bytes, line + (size_t)(ix + begin) * pixel_bytes, (size_t)(end - begin) * pixel_bytes);
}

void window_lines(const struct window *w, const void *x, size_t pixel_bytes, const void *zeros, uint8_t *edge, size_t first, size_t rows,
                  const void **out, size_t stride)
{
    size_t width = (size_t)w->ow, picture = width * (size_t)w->oh, line_bytes = (size_t)w->iw * pixel_bytes;
    for (size_t done = 0; done < rows;) {
        size_t at = first + done, ox = at % width, count = width - ox < rows - done ? width - ox : rows - done;
        int32_t oy = (int32_t)(at % picture / width);
        const uint8_t *base = (const uint8_t *)x + at / picture * ((size_t)w->ih * line_bytes);
        for (int32_t ky = 0; ky < w->kh; ky++) {
            int32_t iy = oy * w->sh - w->pt + ky * w->dh, ix = (int32_t)ox * w->sw - w->pl;
            const uint8_t *line = iy >= 0 && iy < w->ih ? base + (size_t)iy * line_bytes : NULL;
            const void **to = out + (size_t)ky * stride + done;
            for (size_t i = 0; i < count; i++, ix += w->sw) {
                if (!line) {
                    to[i] = zeros;
                } else if (ix >= 0 && ix + w->kw <= w->iw) {
                    to[i] = line + (size_t)ix * pixel_bytes;
                } else {
                    copy_edge(w, edge, line, pixel_bytes, zeros, ix);
                    to[i] = edge;
                    edge += (size_t)w->kw * pixel_bytes;
                }
            }
        }
        done += count;
    }
}
