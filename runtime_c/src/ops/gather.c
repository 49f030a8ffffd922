/* SPDX-License-Identifier: Apache-2.0
 *
 * Gather: y = x[..., indices, ...] along `axis`. Negative indices count from the end; the run stops with E8_ERR_ARGUMENT when
 * one is out of range.
 *
 * A constant table of int8 codes may be read as float32 along axis 0: y = code * scale[row], with one scale per row or one for
 * all. So an embedding takes a quarter of the memory. */
#include "../op.h"

static bool is_coded(const struct tensor *x, const struct tensor *y)
{
    return x->constant && x->type == Type_INT8 && x->scale > 0.0f && tensor_is_float(y);
}

static e8_status check(struct check *c)
{
    struct tensor x, indices, y;
    uint32_t axis = (uint32_t)flat_int(c->op.params, Gather_axis, 0);
    TRY(check_counts(c, 2, 2, 1));
    op_input(&c->op, 0, &x);
    op_input(&c->op, 1, &indices);
    op_output(&c->op, 0, &y);
    if (is_coded(&x, &y)) {
        REQUIRE(c, "gather.scale", axis == 0 && x.zero_point == 0 && x.rank >= 1 && x.bits == 8);
        REQUIRE(c, "gather.scale", x.scales.count == 1 || x.scales.count == (uint32_t)x.dims[0]);
    } else {
        REQUIRE(c, "gather.scale", x.scales.count <= 1);
        TRY(check_same_quantisation(c, &x, &y));
    }
    REQUIRE(c, "gather.indices", indices.type == Type_INT32 || indices.type == Type_INT64);
    REQUIRE(c, "gather.axis", axis < x.rank);
    REQUIRE(c, "gather.shape", y.rank == x.rank - 1 + indices.rank);
    for (uint32_t i = 0; i < y.rank; i++) {
        int32_t expected = i < axis ? x.dims[i] : i < axis + indices.rank ? indices.dims[i - axis] : x.dims[i + 1 - indices.rank];
        REQUIRE(c, "gather.shape", y.dims[i] == expected);
    }
    c->macs = size_add(y.elements, indices.elements);
    return E8_OK;
}

struct job {
    const uint8_t *x;
    uint8_t *y;
    struct tensor indices;
    size_t outer, count, dimension, bytes; /* bytes of the run of x behind one index */
    struct flat_vector scales;             /* of coded rows; none otherwise */
    const struct e8_kernels *kernels;
    uint32_t tasks;
};

/* Index `i`, counted from the front; at least `dimension` when it is out of range. */
static uint64_t index_at(const struct job *j, size_t i)
{
    int64_t value = j->indices.type == Type_INT32 ? ((const int32_t *)j->indices.address)[i] : ((const int64_t *)j->indices.address)[i];
    return value < 0 ? (uint64_t)value + j->dimension : (uint64_t)value;
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    size_t begin, end;
    run_share(j->outer * j->count, 1, index, j->tasks, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        size_t row = (size_t)index_at(j, i % j->count);
        const uint8_t *x = j->x + (i / j->count * j->dimension + row) * j->bytes;
        if (j->scales.count) {
            float scale = flat_element_float(j->scales, j->scales.count == 1 ? 0 : (uint32_t)row);
            j->kernels->dequantise((const int8_t *)x, (float *)(void *)j->y + i * j->bytes, j->bytes, scale, 0);
        } else {
            memcpy(j->y + i * j->bytes, x, j->bytes);
        }
    }
}

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    struct job j = {.outer = 1, .kernels = r->kernels};
    uint32_t axis = (uint32_t)flat_int(r->op.params, Gather_axis, 0);
    run_input(r, 0, &x);
    run_input(r, 1, &j.indices);
    run_output(r, 0, &y);
    j.x = x.address;
    j.y = y.address;
    if (is_coded(&x, &y)) j.scales = x.scales;
    j.count = (size_t)j.indices.elements;
    j.dimension = (size_t)x.dims[axis];
    j.bytes = type_bytes(x.type);
    for (uint32_t i = 0; i < axis; i++) j.outer *= (size_t)x.dims[i];
    for (uint32_t i = axis + 1; i < x.rank; i++) j.bytes *= (size_t)x.dims[i];
    for (size_t i = 0; i < j.count; i++)
        if (index_at(&j, i) >= j.dimension) return E8_ERR_ARGUMENT;
    j.tasks = run_tasks(r, y.elements, j.outer * j.count);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_gather = {.check = check, .run = run};
