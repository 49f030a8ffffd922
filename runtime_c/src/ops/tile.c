/* SPDX-License-Identifier: Apache-2.0
 *
 * Tile: along axis i, y repeats x y.dims[i] / x.dims[i] times. */
#include "../strided.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    TRY(check_same_quantisation(c, &x, &y));
    REQUIRE(c, "tile.shape", x.rank == y.rank);
    for (uint32_t i = 0; i < x.rank; i++) REQUIRE(c, "tile.shape", y.dims[i] % x.dims[i] == 0);
    c->macs = y.elements;
    return E8_OK;
}

/* Each axis of y is two: the copies, which x does not move along, and x's own axis. */
static e8_status run(const struct run *r)
{
    struct tensor x, y;
    struct strided s = {.operands = 2};
    ptrdiff_t in[E8_MAX_RANK], out[E8_MAX_RANK];
    run_input(r, 0, &x);
    run_output(r, 0, &y);
    strided_of(x.dims, x.rank, in);
    strided_of(y.dims, y.rank, out);
    s.rank = 2 * x.rank;
    for (uint32_t i = 0; i < x.rank; i++) {
        s.dims[2 * i] = (size_t)(y.dims[i] / x.dims[i]);
        s.stride[0][2 * i] = 0;
        s.stride[1][2 * i] = out[i] * x.dims[i];
        s.dims[2 * i + 1] = (size_t)x.dims[i];
        s.stride[0][2 * i + 1] = in[i];
        s.stride[1][2 * i + 1] = out[i];
    }
    strided_copy(r, &s, x.address, y.address, type_bytes(x.type));
    return E8_OK;
}

const struct op_type e8_op_tile = {.check = check, .run = run};
