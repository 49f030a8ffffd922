/* SPDX-License-Identifier: Apache-2.0
 *
 * Concat: the inputs one after the other along an axis; one scale for all. */
#include "../op.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    uint32_t count = op_inputs(&c->op), axis = (uint32_t)flat_int(c->op.params, Concat_axis, 0);
    int64_t sum = 0;
    REQUIRE(c, "op.inputs", count >= 1);
    TRY(check_counts(c, count, count, 1));
    op_output(&c->op, 0, &y);
    REQUIRE(c, "concat.axis", axis < y.rank);
    for (uint32_t i = 0; i < count; i++) {
        op_input(&c->op, i, &x);
        TRY(check_same_quantisation(c, &y, &x));
        c->tensor = x.index;
        REQUIRE(c, "concat.shape", x.rank == y.rank);
        for (uint32_t k = 0; k < y.rank; k++) REQUIRE(c, "concat.shape", k == axis || x.dims[k] == y.dims[k]);
        sum += x.dims[axis];
    }
    c->tensor = y.index;
    REQUIRE(c, "concat.shape", sum == y.dims[axis]);
    c->macs = y.elements;
    return E8_OK;
}

/* One input on its way: `rows` parts of so many bytes, each to its place in a row of the output. */
struct copy {
    const uint8_t *from;
    uint8_t *to;
    size_t rows, part, row;
    uint32_t tasks;
};

static void copy_task(void *argument, uint32_t index)
{
    const struct copy *c = argument;
    size_t begin, end;
    run_share(c->rows, 1, index, c->tasks, &begin, &end);
    for (size_t i = begin; i < end; i++) memcpy(c->to + i * c->row, c->from + i * c->part, c->part);
}

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    uint32_t axis = (uint32_t)flat_int(r->op.params, Concat_axis, 0);
    size_t inner = 1;
    struct copy c = {.rows = 1};
    run_output(r, 0, &y);
    for (uint32_t i = 0; i < axis; i++) c.rows *= (size_t)y.dims[i];
    for (uint32_t i = axis + 1; i < y.rank; i++) inner *= (size_t)y.dims[i];
    inner *= type_bytes(y.type);
    c.row = inner * (size_t)y.dims[axis];
    c.to = y.address;
    for (uint32_t i = 0; i < op_inputs(&r->op); i++) {
        run_input(r, i, &x);
        c.from = x.address;
        c.part = inner * (size_t)x.dims[axis];
        c.tasks = run_tasks(r, x.elements, c.rows);
        run_parallel(r, copy_task, &c, c.tasks);
        c.to += c.part;
    }
    return E8_OK;
}

const struct op_type e8_op_concat = {.check = check, .run = run};
