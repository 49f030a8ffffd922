/* SPDX-License-Identifier: Apache-2.0
 *
 * Slice: along every axis y[i] = x[start + i * step]; a step may be negative. */
#include "../strided.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    struct flat_vector start = flat_vector_at(c->op.params, Slice_start), step = flat_vector_at(c->op.params, Slice_step);
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    TRY(check_same_quantisation(c, &x, &y));
    REQUIRE(c, "slice.rank", x.rank == y.rank && start.count == x.rank && step.count == x.rank);
    for (uint32_t i = 0; i < x.rank; i++) {
        int64_t first = flat_element_int(start, i);
        int64_t last = first + ((int64_t)y.dims[i] - 1) * flat_element_int(step, i);
        REQUIRE(c, "slice.range", first >= 0 && first < x.dims[i] && last >= 0 && last < x.dims[i]);
    }
    c->macs = y.elements;
    return E8_OK;
}

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    struct strided s;
    ptrdiff_t stride[E8_MAX_RANK], first = 0;
    struct flat_vector start = flat_vector_at(r->op.params, Slice_start), step = flat_vector_at(r->op.params, Slice_step);
    size_t width;
    run_input(r, 0, &x);
    run_output(r, 0, &y);
    width = type_bytes(x.type);
    strided_space(&s, &y, 2);
    strided_of(x.dims, x.rank, stride);
    strided_of(y.dims, y.rank, s.stride[1]);
    for (uint32_t i = 0; i < x.rank; i++) {
        first += stride[i] * flat_element_int(start, i);
        /* Along an axis of one element the step is not used and may be any number. */
        s.stride[0][i] = y.dims[i] == 1 ? 0 : stride[i] * flat_element_int(step, i);
    }
    strided_copy(r, &s, (const uint8_t *)x.address + (size_t)first * width, y.address, width);
    return E8_OK;
}

const struct op_type e8_op_slice = {.check = check, .run = run};
