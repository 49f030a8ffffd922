/* SPDX-License-Identifier: Apache-2.0 */
#include "strided.h"

#include "transpose_block.h"

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

/* A copy on its way: the walk, and the block that is moved at each of its positions when the input is contiguous along another
 * axis than the output. */
struct copy {
    struct strided space;
    const uint8_t *in;
    uint8_t *out;
    size_t width, total;
    uint32_t tasks;
    struct transpose_block block;
    size_t bands; /* units of work of a block */
};

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

/* Rows of a block that make one unit of work. */
enum { BAND = 128 };

static void transpose_task(void *argument, uint32_t index)
{
    const struct copy *copy = argument;
    struct strided_cursor c;
    size_t begin, end, bands = copy->bands;
    ptrdiff_t bytes = (ptrdiff_t)copy->width;
    run_share(copy->total, 1, index, copy->tasks, &begin, &end);
    for (size_t unit = begin; unit < end; unit++) {
        if (unit == begin || unit % bands == 0) strided_begin(&c, &copy->space, unit / bands, unit / bands + 1);
        struct transpose_block block = copy->block;
        size_t first = unit % bands * BAND;
        block.rows = smaller(BAND, block.rows - first);
        transpose_block(&block, copy->in + (c.offset[0] + (ptrdiff_t)first) * bytes,
                        copy->out + (c.offset[1] + (ptrdiff_t)first * block.row_out) * bytes);
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
        copy->block = (struct transpose_block){s->dims[i], s->dims[last], copy->width, s->stride[1][i], s->stride[0][last]};
        copy->bands = (size_t)size_div_up(s->dims[i], BAND);
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
    if (transposed) copy.total *= copy.bands;
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
