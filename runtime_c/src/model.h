/* SPDX-License-Identifier: Apache-2.0
 *
 * What session.c and plan.c need of an open model. */
#ifndef E8_MODEL_H
#define E8_MODEL_H

#include "op.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define E8_BIG_ENDIAN 1
#else
#define E8_BIG_ENDIAN 0
#endif

static inline const struct model *model_of(const e8_model *model)
{
    return (const struct model *)(const void *)model->opaque;
}

const struct op_type *model_op_type(uint32_t kind);
struct op model_op(const struct model *m, uint32_t index);

/* Shared scratch that a run needs beside the operator's own: on a big-endian machine, byte-swapped copies of constants. */
static inline uint64_t model_swap_bytes(uint64_t constant_bytes)
{
    return E8_BIG_ENDIAN ? constant_bytes : 0;
}

/* A session that keeps what its operators prepare begins that memory with the place of each operator's part. */
static inline uint64_t model_places_bytes(const struct model *m)
{
    return m->kept ? size_align(size_mul(m->ops.count, sizeof(uint8_t *)), 64) : 0;
}

#endif
