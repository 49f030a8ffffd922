/* SPDX-License-Identifier: Apache-2.0
 *
 * Transpose: axis i of y is axis perm[i] of x. */
#include "../strided.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    uint32_t seen = 0;
    struct flat_vector perm = flat_vector_at(c->op.params, Transpose_perm);
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    TRY(check_same_quantisation(c, &x, &y));
    REQUIRE(c, "transpose.perm", perm.count == x.rank && x.rank == y.rank);
    for (uint32_t i = 0; i < perm.count; i++) {
        uint32_t axis = (uint32_t)flat_element_int(perm, i);
        REQUIRE(c, "transpose.perm", axis < x.rank && !(seen >> axis & 1u));
        seen |= 1u << axis;
        REQUIRE(c, "transpose.shape", y.dims[i] == x.dims[axis]);
    }
    c->macs = y.elements;
    return E8_OK;
}

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    struct strided s;
    ptrdiff_t stride[E8_MAX_RANK];
    struct flat_vector perm = flat_vector_at(r->op.params, Transpose_perm);
    run_input(r, 0, &x);
    run_output(r, 0, &y);
    strided_space(&s, &y, 2);
    strided_of(x.dims, x.rank, stride);
    for (uint32_t i = 0; i < y.rank; i++) s.stride[0][i] = stride[flat_element_int(perm, i)];
    strided_of(y.dims, y.rank, s.stride[1]);
    strided_copy(r, &s, x.address, y.address, type_bytes(x.type));
    return E8_OK;
}

const struct op_type e8_op_transpose = {.check = check, .run = run};
