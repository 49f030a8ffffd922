/* SPDX-License-Identifier: Apache-2.0 */
#ifndef E8_TRANSPOSE_BLOCK_H
#define E8_TRANSPOSE_BLOCK_H

#include "names.h"

#include <stddef.h>
#include <stdint.h>

/* A matrix whose rows are neighbours in the input and whose columns are neighbours in the output:
 *     out[row * row_out + column] = in[row + column * column_in]
 * in elements of `width` bytes (1, 2, 4 or 8). */
struct transpose_block {
    size_t rows, columns, width;
    ptrdiff_t row_out, column_in;
};

void transpose_block(const struct transpose_block *t, const uint8_t *in, uint8_t *out);

/* Copy `count` elements of `width` bytes; steps in bytes. */
void copy_elements(size_t width, const uint8_t *in, ptrdiff_t in_step, uint8_t *out, ptrdiff_t out_step, size_t count);

#endif
