/* SPDX-License-Identifier: Apache-2.0
 *
 * Expand: x broadcast to the shape of y by NumPy's rules. */
#include "../strided.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    TRY(check_same_quantisation(c, &x, &y));
    TRY(check_broadcast(c, &x, &y));
    c->macs = y.elements;
    return E8_OK;
}

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    struct strided s;
    run_input(r, 0, &x);
    run_output(r, 0, &y);
    strided_space(&s, &y, 2);
    strided_broadcast(&s, 0, &x);
    strided_of(y.dims, y.rank, s.stride[1]);
    strided_copy(r, &s, x.address, y.address, type_bytes(x.type));
    return E8_OK;
}

const struct op_type e8_op_expand = {.check = check, .run = run};
