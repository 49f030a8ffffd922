/* SPDX-License-Identifier: Apache-2.0
 *
 * What binary.c and binary_int8.c share: a run of operator Binary. */
#ifndef E8_BINARY_H
#define E8_BINARY_H

#include "../integer.h"
#include "../math.h"
#include "../strided.h"

struct binary;

/* One run of the innermost axis. */
typedef void (*binary_row)(const struct binary *j, const struct strided_cursor *c);

struct binary {
    const struct e8_kernels *kernels;
    binary_row row;
    const struct strided *space; /* a is operand 0, b operand 1; y is contiguous */
    const void *a, *b;
    void *y;
    ptrdiff_t step[2]; /* of a and b along the innermost axis */
    uint32_t kind, type, out_type;
    bool fmod;
    float act_min, act_max;
    size_t total;
    uint32_t tasks;
    const struct tensor *coded[3]; /* int16: a, b and y */
    /* int8 */
    struct e8_add_s8 add;
    struct e8_mul_s8 mul;
    float multiplier0, multiplier1;
};

/* Whether the kind has an int8 form; set up the int8 run: row, add, mul, multipliers. */
bool binary_int8_has(uint32_t kind);
void binary_int8_prepare(struct binary *j, const struct tensor *a, const struct tensor *b, const struct tensor *y);

#endif
