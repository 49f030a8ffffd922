/* SPDX-License-Identifier: Apache-2.0 */
#include "strided.h"

void strided_of(const int32_t *dims, uint32_t rank, ptrdiff_t *stride)
{
    ptrdiff_t step = 1;
    for (uint32_t i = rank; i-- > 0;) {
        stride[i] = step;
        step *= dims[i];
    }
}

void strided_space(struct strided *s, const struct tensor *out, uint32_t operands)
{
    s->rank = out->rank;
    s->operands = operands;
    for (uint32_t i = 0; i < out->rank; i++) s->dims[i] = (size_t)out->dims[i];
}

void strided_broadcast(struct strided *s, uint32_t operand, const struct tensor *t)
{
    uint32_t lead = s->rank - t->rank;
    for (uint32_t i = 0; i < lead; i++) s->stride[operand][i] = 0;
    strided_of(t->dims, t->rank, s->stride[operand] + lead);
    for (uint32_t i = 0; i < t->rank; i++)
        if (t->dims[i] == 1) s->stride[operand][lead + i] = 0;
}

static bool joins(const struct strided *s, uint32_t outer, uint32_t inner)
{
    for (uint32_t o = 0; o < s->operands; o++)
        if (s->stride[o][outer] != s->stride[o][inner] * (ptrdiff_t)s->dims[inner]) return false;
    return true;
}

static void move_axis(struct strided *s, uint32_t from, uint32_t to)
{
    s->dims[to] = s->dims[from];
    for (uint32_t o = 0; o < s->operands; o++) s->stride[o][to] = s->stride[o][from];
}

void strided_collapse(struct strided *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->rank; i++) {
        if (s->dims[i] == 1) continue;
        if (kept > 0 && joins(s, kept - 1, i)) {
            size_t outer = s->dims[kept - 1];
            move_axis(s, i, kept - 1);
            s->dims[kept - 1] *= outer;
        } else {
            move_axis(s, i, kept++);
        }
    }
    if (kept == 0) {
        s->dims[0] = 1;
        for (uint32_t o = 0; o < s->operands; o++) s->stride[o][0] = 1;
        kept = 1;
    }
    s->rank = kept;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void strided_begin(struct strided_cursor *c, const struct strided *s, size_t begin, size_t end)
{
    uint32_t last = s->rank - 1;
    size_t rest = begin;
    c->space = s;
    c->position = begin;
    c->end = end;
    memset(c->offset, 0, sizeof c->offset);
    for (uint32_t i = s->rank; i-- > 0;) {
        c->index[i] = rest % s->dims[i];
        rest /= s->dims[i];
        for (uint32_t o = 0; o < s->operands; o++) c->offset[o] += s->stride[o][i] * (ptrdiff_t)c->index[i];
    }
    c->count = begin < end ? smaller(s->dims[last] - c->index[last], end - begin) : 0;
}

void strided_next(struct strided_cursor *c)
{
    const struct strided *s = c->space;
    uint32_t last = s->rank - 1;
    c->position += c->count;
    if (c->position >= c->end) {
        c->count = 0;
        return;
    }
    for (uint32_t o = 0; o < s->operands; o++) c->offset[o] -= s->stride[o][last] * (ptrdiff_t)c->index[last];
    c->index[last] = 0;
    for (uint32_t i = last; i-- > 0;) {
        for (uint32_t o = 0; o < s->operands; o++) c->offset[o] += s->stride[o][i];
        if (++c->index[i] < s->dims[i]) break;
        for (uint32_t o = 0; o < s->operands; o++) c->offset[o] -= s->stride[o][i] * (ptrdiff_t)s->dims[i];
        c->index[i] = 0;
    }
    c->count = smaller(s->dims[last], c->end - c->position);
}

/* A copy on its way: the spaces of the outer walk and of the block that is moved at each of its positions. */
struct copy {
    struct strided space;
    const uint8_t *in;
    uint8_t *out;
    size_t width, total;
    uint32_t tasks;
    /* A block of rows x columns elements when the input is contiguous along another axis than the output. */
    size_t rows;            /* along the axis that is contiguous in the input */
    ptrdiff_t row_out;      /* output elements from row to row */
    size_t columns;         /* along the axis that is contiguous in the output */
    ptrdiff_t column_in;    /* input elements from column to column */
};

#define COPY_STRIDED(name, type)                                                                                                 \
    static void name(const uint8_t *in, ptrdiff_t in_step, uint8_t *out, ptrdiff_t out_step, size_t count)                       \
    {                                                                                                                            \
        for (size_t i = 0; i < count; i++) {                                                                                     \
            type value;                                                                                                          \
            memcpy(&value, in, sizeof value);                                                                                    \
            memcpy(out, &value, sizeof value);                                                                                   \
            in += in_step;                                                                                                       \
            out += out_step;                                                                                                     \
        }                                                                                                                        \
    }
COPY_STRIDED(copy_1, uint8_t)
COPY_STRIDED(copy_2, uint16_t)
COPY_STRIDED(copy_4, uint32_t)
COPY_STRIDED(copy_8, uint64_t)

/* Steps in bytes. */
static void copy_elements(size_t width, const uint8_t *in, ptrdiff_t in_step, uint8_t *out, ptrdiff_t out_step, size_t count)
{
    if (width == 1)
        copy_1(in, in_step, out, out_step, count);
    else if (width == 2)
        copy_2(in, in_step, out, out_step, count);
    else if (width == 4)
        copy_4(in, in_step, out, out_step, count);
    else
        copy_8(in, in_step, out, out_step, count);
}

static void copy_task(void *argument, uint32_t index)
{
    const struct copy *copy = argument;
    const struct strided *s = &copy->space;
    struct strided_cursor c;
    size_t begin, end, width = copy->width;
    ptrdiff_t bytes = (ptrdiff_t)width;
    ptrdiff_t in_step = s->stride[0][s->rank - 1], out_step = s->stride[1][s->rank - 1];
    run_share(copy->total, 64, index, copy->tasks, &begin, &end);
    for (strided_begin(&c, s, begin, end); c.count; strided_next(&c)) {
        const uint8_t *in = copy->in + c.offset[0] * bytes;
        uint8_t *out = copy->out + c.offset[1] * bytes;
        if (in_step == 1 && out_step == 1)
            memcpy(out, in, c.count * width);
        else
            copy_elements(width, in, in_step * bytes, out, out_step * bytes, c.count);
    }
}

/* Square tiles keep both sides in the first-level cache. */
enum { TILE = 16 };

static void transpose_block(const struct copy *copy, const uint8_t *in, uint8_t *out)
{
    ptrdiff_t bytes = (ptrdiff_t)copy->width;
    for (size_t column = 0; column < copy->columns; column += TILE) {
        size_t columns = smaller(TILE, copy->columns - column);
        for (size_t row = 0; row < copy->rows; row++)
            copy_elements(copy->width, in + ((ptrdiff_t)row + (ptrdiff_t)column * copy->column_in) * bytes, copy->column_in * bytes,
                          out + ((ptrdiff_t)row * copy->row_out + (ptrdiff_t)column) * bytes, bytes, columns);
    }
}

static void transpose_task(void *argument, uint32_t index)
{
    const struct copy *copy = argument;
    struct strided_cursor c;
    size_t begin, end;
    ptrdiff_t bytes = (ptrdiff_t)copy->width;
    run_share(copy->total, 1, index, copy->tasks, &begin, &end);
    for (strided_begin(&c, &copy->space, begin, end); c.count; strided_next(&c)) {
        const struct strided *s = &copy->space;
        for (size_t i = 0; i < c.count; i++)
            transpose_block(copy, copy->in + (c.offset[0] + (ptrdiff_t)i * s->stride[0][s->rank - 1]) * bytes,
                            copy->out + (c.offset[1] + (ptrdiff_t)i * s->stride[1][s->rank - 1]) * bytes);
    }
}

/* Whole innermost runs of 2, 4 or 8 bytes move as one element when all steps are multiples of the run. */
static void widen(struct strided *s, size_t *width)
{
    uint32_t last = s->rank - 1;
    size_t run = s->dims[last], bytes = run * *width;
    if (last == 0 || s->stride[0][last] != 1 || s->stride[1][last] != 1 || (bytes != 2 && bytes != 4 && bytes != 8)) return;
    for (uint32_t i = 0; i < last; i++)
        for (uint32_t o = 0; o < 2; o++)
            if (s->stride[o][i] % (ptrdiff_t)run != 0) return;
    for (uint32_t i = 0; i < last; i++)
        for (uint32_t o = 0; o < 2; o++) s->stride[o][i] /= (ptrdiff_t)run;
    *width = bytes;
    s->rank = last;
}

/* Take the axis that the input walks element by element out of the space, if it is not the innermost one. */
static bool split_transpose(struct copy *copy)
{
    struct strided *s = &copy->space;
    uint32_t last = s->rank - 1;
    if (s->stride[1][last] != 1 || s->stride[0][last] == 1 || s->stride[0][last] == 0) return false;
    for (uint32_t i = 0; i < last; i++) {
        if (s->stride[0][i] != 1) continue;
        copy->rows = s->dims[i];
        copy->row_out = s->stride[1][i];
        copy->columns = s->dims[last];
        copy->column_in = s->stride[0][last];
        s->dims[i] = s->dims[last] = 1;
        strided_collapse(s);
        return true;
    }
    return false;
}

void strided_copy(const struct run *r, struct strided *s, const void *in, void *out, size_t width)
{
    struct copy copy = {.in = in, .out = out, .total = 1};
    strided_collapse(s);
    widen(s, &width);
    copy.space = *s;
    copy.width = width;
    size_t work = 1;
    for (uint32_t i = 0; i < s->rank; i++) work *= s->dims[i];
    bool transposed = split_transpose(&copy);
    for (uint32_t i = 0; i < copy.space.rank; i++) copy.total *= copy.space.dims[i];
    copy.tasks = run_tasks(r, work, transposed ? copy.total : copy.total / 64);
    run_parallel(r, transposed ? transpose_task : copy_task, &copy, copy.tasks);
}

e8_status check_broadcast(struct check *c, const struct tensor *in, const struct tensor *out)
{
    c->tensor = in->index;
    REQUIRE(c, "op.broadcast", in->rank <= out->rank);
    uint32_t lead = out->rank - in->rank;
    for (uint32_t i = 0; i < in->rank; i++) REQUIRE(c, "op.broadcast", in->dims[i] == 1 || in->dims[i] == out->dims[lead + i]);
    REQUIRE(c, "op.in_place", in->constant || in->offset != out->offset || in->elements == out->elements);
    c->tensor = E8_ABSENT;
    return E8_OK;
}
