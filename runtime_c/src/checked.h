/* SPDX-License-Identifier: Apache-2.0
 *
 * Size arithmetic on numbers from a file. Sizes are multiplied and added nowhere else: a wrapped product would turn into a
 * buffer that is too small. All results saturate at SIZE_CAP, which every limit check refuses. */
#ifndef E8_CHECKED_H
#define E8_CHECKED_H

#include <stddef.h>
#include <stdint.h>

#define SIZE_CAP ((uint64_t)1 << 62)

static inline uint64_t size_mul(uint64_t a, uint64_t b)
{
    return a != 0 && b > SIZE_CAP / a ? SIZE_CAP : a * b;
}

static inline uint64_t size_add(uint64_t a, uint64_t b)
{
    return a > SIZE_CAP || b > SIZE_CAP - a ? SIZE_CAP : a + b;
}

/* Round up to a multiple of `to`, a power of two. */
static inline uint64_t size_align(uint64_t a, uint64_t to)
{
    return size_add(a, to - 1) & ~(to - 1);
}

static inline uint64_t size_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ceil(a / b) for b > 0. */
static inline uint64_t size_div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

#endif
