/* SPDX-License-Identifier: Apache-2.0
 *
 * Exact sums of products by vpmaddubsw; x86_avx2_bounded.c says how. A step is 4 inputs of 16 channels: 64 bytes of packed weights. */
#ifndef E8_X86_AVX2_BOUNDED_H
#define E8_X86_AVX2_BOUNDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct e8_requant;

/* Where a step, or the first of two neighbours, has its inputs and its weights. */
struct e8_step {
    uint32_t x, w;
};

/* The steps of some rows and one block of channels, by the way that is exact for them. */
enum { E8_TWO_STEPS, E8_ONE_STEP, E8_WIDE_STEP, E8_STEP_WAYS };
struct e8_step_lists {
    struct e8_step *list[E8_STEP_WAYS];
    size_t count[E8_STEP_WAYS];
};

/* Neighbouring steps. `one` and `two` are their part of what weight_limits found; top[p] is the largest input of steps 2p and 2p + 1.
 * From each 32 bytes may be read, for 32 steps more. */
struct e8_steps {
    size_t count;
    struct e8_step first;
    const uint8_t *one, *two, *top;
};

/* Rows of unsigned bytes times the weights of one block. They are read in fours, unless one is left. */
struct e8_bounded {
    const uint8_t *x;
    size_t pitch, rows;
    const int8_t *w;
    struct e8_step_lists steps;
    const int32_t *base; /* [16]: what the sums of every row start from; NULL: each starts from its place in `sums` */
    int32_t *sums;       /* [rows rounded up to 4][16]; both 32-byte aligned */
    bool last;           /* the sums go to `out`, not to `sums` */
    const struct e8_requant *q;
    size_t n, columns;      /* channels of the block */
    const int8_t *residual; /* of the first row and channel, or NULL */
    int8_t *out;
    size_t residual_stride, out_stride;
};

/* What the sums of 16 channels start from where inputs x come as x + 128: init - 128 * weight_sum. */
static inline void e8_avx2_bounded_base(int32_t *base, const int32_t *init, const int32_t *weight_sum)
{
    for (size_t c = 0; c < 16; c++) base[c] = (int32_t)((uint32_t)init[c] - 128 * (uint32_t)weight_sum[c]);
}

/* Empty lists in E8_STEP_LIST_BYTES(steps) bytes. */
void e8_avx2_place_lists(struct e8_step_lists *lists, void *room, size_t steps);

/* Append steps. Where `skip` is set, inputs that are all 0 are left out. */
void e8_avx2_list_steps(struct e8_step_lists *lists, const struct e8_steps *s, bool skip);

void e8_avx2_bounded_rows(const struct e8_bounded *t);

/* weight_limits of struct e8_kernels. */
void e8_avx2_weight_limits(const int8_t *w, size_t blocks, size_t k, uint8_t *limits);

#endif
