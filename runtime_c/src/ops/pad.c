/* SPDX-License-Identifier: Apache-2.0
 *
 * Pad: along every axis `before` elements in front and `after` behind; negative counts crop first. With i the position relative
 * to the n elements that are kept, positions outside 0..n-1 hold
 *   CONSTANT  `value` (quantised to the tensor's scale)
 *   REFLECT   x[f(i)], f with period 2(n-1), f(i) = i up to n-1 and 2(n-1)-i after it
 *   EDGE      x[clamp(i, 0, n-1)]
 *   WRAP      x[i mod n] */
#include "../integer.h"
#include "../numeric.h"
#include "../strided.h"

struct axis {
    int32_t before, kept, crop; /* elements in front, elements of x that stay, elements of x dropped in front */
};

/* Requires vectors of the right length; false when the numbers do not fit the shapes. */
static bool axis_of(const struct op *op, const struct tensor *x, const struct tensor *y, uint32_t i, struct axis *a)
{
    int64_t before = flat_element_int(flat_vector_at(op->params, Pad_before), i);
    int64_t after = flat_element_int(flat_vector_at(op->params, Pad_after), i);
    int64_t kept = x->dims[i] + (before < 0 ? before : 0) + (after < 0 ? after : 0);
    if (kept < 1 || x->dims[i] + before + after != y->dims[i]) return false;
    *a = (struct axis){.before = (int32_t)(before > 0 ? before : 0), .kept = (int32_t)kept, .crop = (int32_t)(before < 0 ? -before : 0)};
    return true;
}

static e8_status check(struct check *c)
{
    struct tensor x, y;
    struct axis a;
    float value = flat_float(c->op.params, Pad_value, 0.0f);
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    TRY(check_same_quantisation(c, &x, &y));
    SUPPORTED(c, "pad.kind", flat_byte(c->op.params, Pad_kind, 0) < PadKind_COUNT);
    REQUIRE(c, "pad.rank", x.rank == y.rank && flat_vector_at(c->op.params, Pad_before).count == x.rank);
    REQUIRE(c, "pad.rank", flat_vector_at(c->op.params, Pad_after).count == x.rank);
    for (uint32_t i = 0; i < x.rank; i++) REQUIRE(c, "pad.shape", axis_of(&c->op, &x, &y, i, &a));
    REQUIRE(c, "pad.value", tensor_is_float(&x) || value - value == 0.0f);
    c->macs = y.elements;
    return E8_OK;
}

/* The code of one padding element, in memory order. */
static void padding(const struct tensor *y, float value, uint8_t element[8])
{
    if (y->type == Type_FLOAT32) {
        memcpy(element, &value, sizeof value);
    } else if (tensor_is_quantised(y)) {
        bool int8 = y->type == Type_INT8;
        int64_t code = requantise(value * (1.0f / y->scale), y->zero_point, int8 ? -128 : -32767, int8 ? 127 : 32767);
        store_integer(element, y->type, 0, code);
    } else {
        store_integer(element, y->type, 0, integer_of_float(value));
    }
}

static void fill(uint8_t *y, size_t elements, const uint8_t element[8], size_t width)
{
    bool same = true;
    for (size_t i = 1; i < width; i++) same = same && element[i] == element[0];
    if (same) {
        memset(y, element[0], elements * width);
        return;
    }
    for (size_t i = 0; i < elements; i++) memcpy(y + i * width, element, width);
}

static int32_t source(uint32_t kind, int32_t i, int32_t n)
{
    if (kind == PadKind_EDGE || n == 1) return min_int(max_int(i, 0), n - 1);
    int64_t period = kind == PadKind_WRAP ? n : 2 * ((int64_t)n - 1);
    int64_t rest = i % period;
    if (rest < 0) rest += period;
    return (int32_t)(rest < n ? rest : period - rest);
}

/* Fill the padding of axis `i` from its own inner part, for every position of the axes before it whose padding is not due yet.
 * Axes behind it are complete, so whole runs are copied. */
static void extend(uint8_t *y, const struct tensor *t, const struct axis *axes, uint32_t i, uint32_t kind)
{
    struct strided outer = {.rank = i, .operands = 1};
    struct strided_cursor c;
    ptrdiff_t stride[E8_MAX_RANK];
    size_t count = 1, width = type_bytes(t->type), first = 0;
    strided_of(t->dims, t->rank, stride);
    for (uint32_t k = 0; k < i; k++) {
        outer.dims[k] = (size_t)axes[k].kept;
        outer.stride[0][k] = stride[k];
        count *= outer.dims[k];
        first += (size_t)axes[k].before * (size_t)stride[k];
    }
    strided_collapse(&outer);
    size_t run = (size_t)stride[i] * width;
    for (strided_begin(&c, &outer, 0, count); c.count; strided_next(&c)) {
        for (size_t k = 0; k < c.count; k++) {
            uint8_t *line = y + (first + (size_t)c.offset[0] + k * (size_t)outer.stride[0][outer.rank - 1]) * width;
            for (int32_t p = 0; p < t->dims[i]; p++) {
                int32_t at = p - axes[i].before;
                if (at >= 0 && at < axes[i].kept) continue;
                memcpy(line + (size_t)p * run, line + (size_t)(source(kind, at, axes[i].kept) + axes[i].before) * run, run);
            }
        }
    }
}

static e8_status run(const struct run *r)
{
    struct tensor x, y;
    struct axis axes[E8_MAX_RANK] = {{0}};
    struct strided s;
    ptrdiff_t stride[E8_MAX_RANK], in = 0, out = 0;
    uint8_t element[8] = {0};
    uint32_t kind = flat_byte(r->op.params, Pad_kind, 0);
    run_input(r, 0, &x);
    run_output(r, 0, &y);
    size_t width = type_bytes(y.type);
    strided_space(&s, &y, 2);
    strided_of(x.dims, x.rank, stride);
    strided_of(y.dims, y.rank, s.stride[1]);
    for (uint32_t i = 0; i < y.rank; i++) {
        (void)axis_of(&r->op, &x, &y, i, &axes[i]);
        s.dims[i] = (size_t)axes[i].kept;
        s.stride[0][i] = stride[i];
        in += axes[i].crop * stride[i];
        out += axes[i].before * s.stride[1][i];
    }
    if (kind == PadKind_CONSTANT) {
        padding(&y, flat_float(r->op.params, Pad_value, 0.0f), element);
        fill(y.address, (size_t)y.elements, element, width);
    }
    strided_copy(r, &s, (const uint8_t *)x.address + (size_t)in * width, (uint8_t *)y.address + (size_t)out * width, width);
    if (kind != PadKind_CONSTANT)
        for (uint32_t i = y.rank; i-- > 0;) extend(y.address, &y, axes, i, kind);
    return E8_OK;
}

const struct op_type e8_op_pad = {.check = check, .run = run};
