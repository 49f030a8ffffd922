/* SPDX-License-Identifier: Apache-2.0
 *
 * The form of Conv2D for 3x3 kernels in float32 that takes 16 products per 4 outputs and channel instead of 36 (winograd_loops.h):
 *     y = clamp(bias + A^T [ sum over channels of (G g G^T) * (B^T d B) ] A + residual, act_min, act_max)
 * The bias starts the sum of point (1, 1), which reaches all four outputs with the factor 1. Coded weights are decoded to
 * code * scale first. Whether a layer takes this form depends on its shape alone, so the numbers are the same everywhere.
 * An infinite input, or sums that overflow, can make NaN of outputs of its tiles where a direct convolution gives an infinity. */
#ifndef E8_WINOGRAD_H
#define E8_WINOGRAD_H

#include "linear.h"

/* True when the layer takes this form. */
bool winograd_fits(const struct linear *l, const struct window *w);

/* Thread scratch that winograd_run needs. */
uint64_t winograd_thread_bytes(const struct linear *l, const struct window *w);

/* As linear_run_rows, for layers that fit; `zeros` holds a pixel. */
void winograd_run(struct linear_rows *job);

#endif
