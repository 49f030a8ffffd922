/* SPDX-License-Identifier: Apache-2.0
 *
 * Walking tensors with strides: what transposing, slicing, tiling, broadcasting and concatenating have in common. */
#ifndef E8_STRIDED_H
#define E8_STRIDED_H

#include "names.h"

#include "op.h"

/* Tile needs two axes for each of the tensor's. */
enum { STRIDED_RANK = 2 * E8_MAX_RANK, STRIDED_OPERANDS = 3 };

/* An iteration space, outermost axis first, and the step of each operand along every axis, in elements. */
struct strided {
    uint32_t rank, operands;
    size_t dims[STRIDED_RANK];
    ptrdiff_t stride[STRIDED_OPERANDS][STRIDED_RANK];
};

/* Elements of a row-major tensor between neighbours along each axis. */
void strided_of(const int32_t *dims, uint32_t rank, ptrdiff_t *stride);

/* The space of `out`, with operand `i` broadcast from `t`. The shapes fit (check_broadcast). */
void strided_space(struct strided *s, const struct tensor *out, uint32_t operands);
void strided_broadcast(struct strided *s, uint32_t operand, const struct tensor *t);

/* Drop axes of size 1 and join neighbours that every operand walks as one. At least one axis remains. */
void strided_collapse(struct strided *s);

/* A walk over the elements [position, end) of the space in row-major order, a run of the innermost axis at a time. */
struct strided_cursor {
    const struct strided *space;
    size_t position, end;
    size_t count;                       /* elements of this run */
    ptrdiff_t offset[STRIDED_OPERANDS]; /* of the run's first element */
    size_t index[STRIDED_RANK];
};
void strided_begin(struct strided_cursor *c, const struct strided *s, size_t begin, size_t end);
void strided_next(struct strided_cursor *c);

/* Copy elements of `width` bytes (1, 2, 4 or 8): operand 0 is read, operand 1 written. Collapses `s`. Runs on the run's threads. */
void strided_copy(const struct run *r, struct strided *s, const void *in, void *out, size_t width);

/* Refuse an input that does not broadcast to `out`, or that shares its place without having as many elements. */
e8_status check_broadcast(struct check *c, const struct tensor *in, const struct tensor *out);

#endif
