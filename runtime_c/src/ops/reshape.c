/* SPDX-License-Identifier: Apache-2.0
 *
 * Reshape: the same elements in the same order under another shape. */
#include "../op.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    TRY(check_same_quantisation(c, &x, &y));
    REQUIRE(c, "reshape.elements", x.elements == y.elements);
    c->macs = y.elements;
    return E8_OK;
}

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    run_input(r, 0, &x);
    run_output(r, 0, &y);
    if (x.address != y.address) memcpy(y.address, x.address, (size_t)y.bytes);
    return E8_OK;
}

const struct op_type e8_op_reshape = {.check = check, .run = run, .in_place = 1};
