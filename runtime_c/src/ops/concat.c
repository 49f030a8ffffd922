/* SPDX-License-Identifier: Apache-2.0
 *
 * Concat: the inputs one after the other along an axis; one scale for all. */
#include "../strided.h"

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

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    struct strided s;
    uint32_t axis = (uint32_t)flat_int(r->op.params, Concat_axis, 0);
    size_t outer = 1, inner = 1, row, at = 0;
    run_output(r, 0, &y);
    for (uint32_t i = 0; i < axis; i++) outer *= (size_t)y.dims[i];
    for (uint32_t i = axis + 1; i < y.rank; i++) inner *= (size_t)y.dims[i];
    row = inner * (size_t)y.dims[axis];
    for (uint32_t i = 0; i < op_inputs(&r->op); i++) {
        run_input(r, i, &x);
        size_t part = inner * (size_t)x.dims[axis];
        s = (struct strided){.rank = 2, .operands = 2, .dims = {outer, part}};
        s.stride[0][0] = (ptrdiff_t)part;
        s.stride[1][0] = (ptrdiff_t)row;
        s.stride[0][1] = s.stride[1][1] = 1;
        strided_copy(r, &s, x.address, (uint8_t *)y.address + at * type_bytes(y.type), type_bytes(y.type));
        at += part;
    }
    return E8_OK;
}

const struct op_type e8_op_concat = {.check = check, .run = run};
