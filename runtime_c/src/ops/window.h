/* SPDX-License-Identifier: Apache-2.0
 *
 * The geometry of a convolution over NHWC pictures. */
#ifndef E8_WINDOW_H
#define E8_WINDOW_H

#include "../op.h"

struct window {
    int32_t batch, ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, pt, pl;
};

/* The parameters stride_h ... pad_right, which Conv2D and DepthwiseConv2D have in the same places, against the kernel size and
 * the shapes of input and output. */
e8_status window_check(struct check *c, const struct tensor *x, const struct tensor *y, int32_t kh, int32_t kw);
void window_decode(const struct op *op, const struct tensor *x, const struct tensor *y, int32_t kh, int32_t kw, struct window *w);

/* Pointers for output pixels [first, first + rows) of all batch * oh * ow, one per kernel position: out[t * stride + i].
 * Positions in the padding point to `zeros`. */
void window_pointers(const struct window *w, const void *x, size_t pixel_bytes, const void *zeros, size_t first, size_t rows,
                     const void **out, size_t stride);

/* One pointer per kernel row, for kernels without horizontal dilation: the kw pixels of a row lie side by side in the picture.
 * Outputs whose row sticks out to the left or right get a copy of it in `edge`, filled up with the bytes of `zeros`. `zeros` holds
 * kw pixels; `edge` window_edge_pixels(w, rows) * kh * kw pixels. */
void window_lines(const struct window *w, const void *x, size_t pixel_bytes, const void *zeros, uint8_t *edge, size_t first, size_t rows,
                  const void **out, size_t stride);
size_t window_edge_pixels(const struct window *w, size_t rows);

#endif
