/* SPDX-License-Identifier: Apache-2.0
 *
 * ArgMax: y = index along `axis` of the largest value (the smallest with `smallest`); among equal values the first, or the
 * last with select_last. A NaN is never chosen unless it comes first. Codes are ordered as the numbers they stand for. */
#include "../op.h"

static e8_status check(struct check *c)
{
    struct tensor in, out;
    TRY(check_counts(c, 1, 1, 1));
    (void)op_input(&c->op, 0, &in);
    op_output(&c->op, 0, &out);
    int32_t axis = flat_int(c->op.params, ArgMax_axis, 0);
    bool keep = flat_byte(c->op.params, ArgMax_keep_dims, 1) != 0;
    REQUIRE(c, "arg_max.axis", axis >= 0 && (uint32_t)axis < in.rank);
    SUPPORTED(c, "arg_max.type", in.type == Type_FLOAT32 || in.type == Type_INT8 || in.type == Type_INT32 || in.type == Type_UINT8);
    REQUIRE(c, "arg_max.output", out.type == Type_INT64 || out.type == Type_INT32);
    REQUIRE(c, "arg_max.shape", out.rank == (keep ? in.rank : in.rank - 1));
    for (uint32_t i = 0, k = 0; i < in.rank; i++) {
        if (i == (uint32_t)axis && !keep) continue;
        REQUIRE(c, "arg_max.shape", out.dims[k] == (i == (uint32_t)axis ? 1 : in.dims[i]));
        k++;
    }
    c->macs = in.elements;
    return E8_OK;
}

struct job {
    struct tensor in, out;
    size_t outer, length, inner;
    bool smallest, select_last;
    uint32_t tasks;
};

/* Each type has its own search, so that the compiler sees a plain loop. */
#define FIND(name, element)                                                                                                                \
    static size_t name(const struct job *j, size_t base)                                                                                   \
    {                                                                                                                                      \
        const element *x = (const element *)j->in.address + base;                                                                          \
        element value = x[0];                                                                                                              \
        size_t best = 0;                                                                                                                   \
        for (size_t k = 1; k < j->length; k++) {                                                                                           \
            element other = x[k * j->inner];                                                                                               \
            bool better = j->smallest ? other < value : other > value;                                                                     \
            if (!better && !(j->select_last && other == value)) continue;                                                                  \
            value = other;                                                                                                                 \
            best = k;                                                                                                                      \
        }                                                                                                                                  \
        return best;                                                                                                                       \
    }
FIND(find_f32, float)
FIND(find_s8, int8_t)
FIND(find_s32, int32_t)
FIND(find_u8, uint8_t)

static size_t find(const struct job *j, size_t base)
{
    switch (j->in.type) {
    case Type_FLOAT32: return find_f32(j, base);
    case Type_INT8: return find_s8(j, base);
    case Type_INT32: return find_s32(j, base);
    default: return find_u8(j, base);
    }
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    size_t begin, end;
    run_share(j->outer * j->inner, 8, index, j->tasks, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        size_t best = find(j, i / j->inner * j->length * j->inner + i % j->inner);
        if (j->out.type == Type_INT64)
            ((int64_t *)j->out.address)[i] = (int64_t)best;
        else
            ((int32_t *)j->out.address)[i] = (int32_t)best;
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.outer = 1, .inner = 1};
    (void)run_input(r, 0, &j.in);
    run_output(r, 0, &j.out);
    uint32_t axis = (uint32_t)flat_int(r->op.params, ArgMax_axis, 0);
    j.smallest = flat_byte(r->op.params, ArgMax_smallest, 0) != 0;
    j.select_last = flat_byte(r->op.params, ArgMax_select_last, 0) != 0;
    j.length = (size_t)j.in.dims[axis];
    for (uint32_t i = 0; i < axis; i++) j.outer *= (size_t)j.in.dims[i];
    for (uint32_t i = axis + 1; i < j.in.rank; i++) j.inner *= (size_t)j.in.dims[i];
    j.tasks = run_tasks(r, j.in.elements, j.out.elements);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_arg_max = {.check = check, .run = run};
