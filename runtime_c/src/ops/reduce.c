/* SPDX-License-Identifier: Apache-2.0
 *
 * Reduce over `axes`, elements in row-major order.
 *   float: sums, products and exponentials are accumulated in double precision and rounded to float once
 *     mean = sum x / n, sum, max, min, prod, l1 = sum |x|, l2 = sqrt(sum x*x), sum_square = sum x*x,
 *     log_sum_exp = m + log(sum exp(x - m)) with m = max x (m itself when it is infinite)
 *   int32, int64: mean, sum, max, min, prod, l1, sum_square modulo 2^64; the mean is cut toward zero; bool, uint8: max, min
 *   int8: mean requantise(sum(q - z) * (s_in / (s_out * float(n)))), sum and l1 requantise(... * (s_in / s_out)),
 *     sum_square requantise(sum (q - z)^2 * ((s_in * s_in) / s_out)), max and min: one scale in and out, codes move
 *   int16: alike, with sums in int64 */
#include "../math.h"
#include "../numeric.h"
#include "../op.h"

/* Neighbouring axes of the same sort are merged, so kept and reduced groups alternate. `inner` is the contiguous kept group
 * at the end. When the last axis is reduced, the last kept group takes its part: outputs that lie `step` apart in the input are
 * then computed together, which keeps their chains of additions independent. */
struct group {
    size_t size, stride;
};

struct layout {
    struct group kept[E8_MAX_RANK], reduced[E8_MAX_RANK];
    uint32_t kept_count, reduced_count;
    size_t inner, step, count;
};

enum { COLUMNS = 32 }; /* outputs computed at a time: their accumulators live on the stack */

static bool is_reduced(const struct flat_vector axes, uint32_t axis)
{
    for (uint32_t i = 0; i < axes.count; i++)
        if (flat_element_int(axes, i) == (int32_t)axis) return true;
    return false;
}

static void find_layout(const struct tensor *in, struct flat_vector axes, struct layout *l)
{
    size_t stride = 1;
    int previous = -1;
    memset(l, 0, sizeof *l);
    l->inner = l->count = 1;
    for (uint32_t i = in->rank; i-- > 0;) {
        size_t size = (size_t)in->dims[i];
        bool reduced = is_reduced(axes, i);
        struct group *groups = reduced ? l->reduced : l->kept;
        uint32_t *count = reduced ? &l->reduced_count : &l->kept_count;
        if (reduced) l->count *= size;
        if (!reduced && previous != 1 && l->reduced_count == 0)
            l->inner *= size;
        else if (previous == (int)reduced && *count > 0)
            groups[*count - 1].size *= size;
        else
            groups[(*count)++] = (struct group){size, stride};
        previous = reduced;
        stride *= size;
    }
    l->step = 1;
    if (l->inner == 1 && l->kept_count > 0) {
        l->inner = l->kept[0].size;
        l->step = l->kept[0].stride;
        l->kept_count--;
        memmove(l->kept, l->kept + 1, l->kept_count * sizeof l->kept[0]);
    }
}

static bool type_is_supported(uint32_t kind, const struct tensor *in)
{
    bool order = kind == ReduceKind_MAX || kind == ReduceKind_MIN;
    switch (in->type) {
    case Type_FLOAT32: return true;
    case Type_INT32:
    case Type_INT64: return kind != ReduceKind_L2 && kind != ReduceKind_LOG_SUM_EXP;
    case Type_BOOL:
    case Type_UINT8: return order;
    case Type_INT8:
    case Type_INT16:
        if (order) return true;
        return tensor_is_quantised(in) && kind != ReduceKind_PROD && kind != ReduceKind_L2 && kind != ReduceKind_LOG_SUM_EXP;
    default: return false;
    }
}

static e8_status check_shape(struct check *c, const struct tensor *in, const struct tensor *out, struct flat_vector axes)
{
    bool keep = flat_byte(c->op.params, Reduce_keep_dims, 1) != 0;
    REQUIRE(c, "reduce.axes", axes.count >= 1 && axes.count <= in->rank);
    for (uint32_t i = 0; i < axes.count; i++) {
        int32_t axis = flat_element_int(axes, i);
        REQUIRE(c, "reduce.axes", axis >= 0 && (uint32_t)axis < in->rank && (i == 0 || axis > flat_element_int(axes, i - 1)));
    }
    REQUIRE(c, "reduce.shape", out->rank == (keep ? in->rank : in->rank - axes.count));
    for (uint32_t i = 0, k = 0; i < in->rank; i++) {
        bool reduced = is_reduced(axes, i);
        if (reduced && !keep) continue;
        REQUIRE(c, "reduce.shape", out->dims[k] == (reduced ? 1 : in->dims[i]));
        k++;
    }
    return E8_OK;
}

static e8_status check(struct check *c)
{
    struct tensor in, out;
    TRY(check_counts(c, 1, 1, 1));
    (void)op_input(&c->op, 0, &in);
    op_output(&c->op, 0, &out);
    uint32_t kind = flat_byte(c->op.params, Reduce_kind, ReduceKind_MEAN);
    TRY(check_shape(c, &in, &out, flat_vector_at(c->op.params, Reduce_axes)));
    SUPPORTED(c, "reduce.kind", kind < ReduceKind_COUNT);
    SUPPORTED(c, "reduce.type", type_is_supported(kind, &in));
    REQUIRE(c, "reduce.type", in.type == out.type);
    if (kind == ReduceKind_MAX || kind == ReduceKind_MIN) TRY(check_same_quantisation(c, &in, &out));
    if (in.type == Type_INT8 || in.type == Type_INT16) {
        REQUIRE(c, "reduce.scale", tensor_is_quantised(&in) == tensor_is_quantised(&out));
        /* 255 * n, or 255^2 * n, fits in int32. */
        uint64_t most = kind == ReduceKind_SUM_SQUARE ? 1u << 15 : 1u << 23;
        SUPPORTED(c, "reduce.count", in.elements / out.elements <= most);
    }
    c->macs = in.elements;
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor in, out;
    struct layout l;
    uint32_t kind, tasks;
    float multiplier;
};

/* Walk over the reduced positions in order: all groups but the innermost one count like an odometer, the innermost one is
 * handed out as `rows` rows that lie `stride` apart. */
struct walk {
    size_t digit[E8_MAX_RANK], offset;
};

static bool walk_on(const struct layout *l, struct walk *w)
{
    for (uint32_t i = 1; i < l->reduced_count; i++) {
        w->offset += l->reduced[i].stride;
        if (++w->digit[i] < l->reduced[i].size) return true;
        w->offset -= l->reduced[i].stride * l->reduced[i].size;
        w->digit[i] = 0;
    }
    return false;
}

/* Offset of the first element that belongs to outer output position `outer`. */
static size_t outer_offset(const struct layout *l, size_t outer)
{
    size_t offset = 0;
    for (uint32_t i = 0; i < l->kept_count; i++) {
        offset += outer % l->kept[i].size * l->kept[i].stride;
        outer /= l->kept[i].size;
    }
    return offset;
}

/* What a reduction works on: `rows` rows that lie `stride` apart, n columns that lie `step` apart. */
struct block {
    size_t rows, stride, n, step;
};

/* acc[c] = f(acc[c], x) over the block, with a plain inner loop where the columns are neighbours. */
#define FOLD(x, b, expression)                                                                                                             \
    do {                                                                                                                                   \
        for (size_t r = 0; r < (b)->rows; r++, (x) += (b)->stride) {                                                                       \
            if ((b)->step == 1)                                                                                                            \
                for (size_t c = 0; c < (b)->n; c++) {                                                                                      \
                    const size_t at = c;                                                                                                   \
                    acc[c] = (expression);                                                                                                 \
                }                                                                                                                          \
            else                                                                                                                           \
                for (size_t c = 0; c < (b)->n; c++) {                                                                                      \
                    const size_t at = c * (b)->step;                                                                                       \
                    acc[c] = (expression);                                                                                                 \
                }                                                                                                                          \
        }                                                                                                                                  \
    } while (0)

static void fold_f32(uint32_t kind, const float *x, const struct block *b, double *acc, const float *largest)
{
    switch (kind) {
    case ReduceKind_MAX: FOLD(x, b, (double)x[at] > acc[c] ? (double)x[at] : acc[c]); break;
    case ReduceKind_MIN: FOLD(x, b, (double)x[at] < acc[c] ? (double)x[at] : acc[c]); break;
    case ReduceKind_PROD: FOLD(x, b, acc[c] * (double)x[at]); break;
    case ReduceKind_L1: FOLD(x, b, acc[c] + (double)abs_float(x[at])); break;
    case ReduceKind_L2:
    case ReduceKind_SUM_SQUARE: FOLD(x, b, acc[c] + (double)x[at] * (double)x[at]); break;
    case ReduceKind_LOG_SUM_EXP: FOLD(x, b, acc[c] + (double)exp_float(x[at] - largest[c])); break;
    default: FOLD(x, b, acc[c] + (double)x[at]); break;
    }
}

static double start_f32(uint32_t kind)
{
    if (kind == ReduceKind_MAX) return -__builtin_inf();
    if (kind == ReduceKind_MIN) return __builtin_inf();
    return kind == ReduceKind_PROD ? 1.0 : 0.0;
}

static void walk_f32(const struct job *j, uint32_t kind, const float *x, size_t n, double *acc, const float *largest)
{
    struct walk w = {.offset = 0};
    for (size_t c = 0; c < n; c++) acc[c] = start_f32(kind);
    struct block b = {j->l.reduced[0].size, j->l.reduced[0].stride, n, j->l.step};
    do fold_f32(kind, x + w.offset, &b, acc, largest);
    while (walk_on(&j->l, &w));
}

static void reduce_f32(const struct job *j, size_t from, float *y, size_t n)
{
    const float *x = (const float *)j->in.address + from;
    double acc[COLUMNS];
    float largest[COLUMNS] = {0};
    if (j->kind == ReduceKind_LOG_SUM_EXP) {
        walk_f32(j, ReduceKind_MAX, x, n, acc, NULL);
        for (size_t c = 0; c < n; c++) largest[c] = (float)acc[c];
    }
    walk_f32(j, j->kind, x, n, acc, largest);
    for (size_t c = 0; c < n; c++) {
        if (j->kind == ReduceKind_MEAN)
            y[c] = (float)(acc[c] / (double)j->l.count);
        else if (j->kind == ReduceKind_L2)
            y[c] = sqrt_float((float)acc[c]);
        else if (j->kind == ReduceKind_LOG_SUM_EXP)
            y[c] = largest[c] - largest[c] != 0.0f ? largest[c] : largest[c] + log_float((float)acc[c]);
        else
            y[c] = (float)acc[c];
    }
}

static void fold_s8(uint32_t kind, const int8_t *x, const struct block *b, int32_t *acc, int32_t zero)
{
    switch (kind) {
    case ReduceKind_MAX: FOLD(x, b, max_int(acc[c], x[at])); break;
    case ReduceKind_MIN: FOLD(x, b, min_int(acc[c], x[at])); break;
    case ReduceKind_L1: FOLD(x, b, acc[c] + (x[at] < zero ? zero - x[at] : x[at] - zero)); break;
    case ReduceKind_SUM_SQUARE: FOLD(x, b, acc[c] + (x[at] - zero) * (x[at] - zero)); break;
    default: FOLD(x, b, acc[c] + (x[at] - zero)); break;
    }
}

/* Adds the codes of a block of neighbouring columns to acc. */
static void sum_rows(const struct job *j, const int8_t *x, const struct block *b, int32_t *acc)
{
    enum { TOGETHER = 16 };
    const int8_t *rows[TOGETHER];
    for (size_t r = 0, count; r < b->rows; r += count) {
        count = b->rows - r < TOGETHER ? b->rows - r : TOGETHER;
        for (size_t i = 0; i < count; i++, x += b->stride) rows[i] = x;
        j->run->kernels->sum_s8(rows, count, b->n, acc);
    }
}

static void reduce_s8(const struct job *j, size_t from, int8_t *y, size_t n)
{
    const int8_t *x = (const int8_t *)j->in.address + from;
    int32_t acc[COLUMNS], start = j->kind == ReduceKind_MAX ? -128 : j->kind == ReduceKind_MIN ? 127 : 0;
    bool sums = (j->kind == ReduceKind_MEAN || j->kind == ReduceKind_SUM) && j->l.step == 1;
    if (sums) start = -j->in.zero_point * (int32_t)j->l.count;
    struct walk w = {.offset = 0};
    for (size_t c = 0; c < n; c++) acc[c] = start;
    struct block b = {j->l.reduced[0].size, j->l.reduced[0].stride, n, j->l.step};
    do
        if (sums)
            sum_rows(j, x + w.offset, &b, acc);
        else
            fold_s8(j->kind, x + w.offset, &b, acc, j->in.zero_point);
    while (walk_on(&j->l, &w));
    bool moved = j->kind == ReduceKind_MAX || j->kind == ReduceKind_MIN;
    for (size_t c = 0; c < n; c++)
        y[c] = (int8_t)(moved ? acc[c] : requantise((float)acc[c] * j->multiplier, j->out.zero_point, -128, 127));
}

static int64_t load(const struct tensor *t, size_t offset)
{
    switch (t->type) {
    case Type_INT16: return ((const int16_t *)t->address)[offset];
    case Type_INT32: return ((const int32_t *)t->address)[offset];
    case Type_INT64: return ((const int64_t *)t->address)[offset];
    default: return ((const uint8_t *)t->address)[offset];
    }
}

static void store(const struct tensor *t, size_t offset, int64_t value)
{
    switch (t->type) {
    case Type_INT16: ((int16_t *)t->address)[offset] = (int16_t)value; break;
    case Type_INT32: ((int32_t *)t->address)[offset] = (int32_t)value; break;
    case Type_INT64: ((int64_t *)t->address)[offset] = value; break;
    default: ((uint8_t *)t->address)[offset] = (uint8_t)value; break;
    }
}

/* Unsigned arithmetic wraps where signed arithmetic would be undefined. */
static int64_t step_integer(uint32_t kind, int64_t acc, int64_t x)
{
    uint64_t a = (uint64_t)acc, b = (uint64_t)x;
    switch (kind) {
    case ReduceKind_MAX: return x > acc ? x : acc;
    case ReduceKind_MIN: return x < acc ? x : acc;
    case ReduceKind_PROD: return (int64_t)(a * b);
    case ReduceKind_L1: return (int64_t)(a + (x < 0 ? 0 - b : b));
    case ReduceKind_SUM_SQUARE: return (int64_t)(a + b * b);
    default: return (int64_t)(a + b);
    }
}

static void reduce_integer(const struct job *j, size_t from, size_t to, size_t n)
{
    int64_t start = j->kind == ReduceKind_MAX ? INT64_MIN : j->kind == ReduceKind_MIN ? INT64_MAX : j->kind == ReduceKind_PROD;
    for (size_t c = 0; c < n; c++) {
        struct walk w = {.offset = 0};
        int64_t acc = start;
        do
            for (size_t r = 0; r < j->l.reduced[0].size; r++)
                acc = step_integer(j->kind, acc, load(&j->in, from + c * j->l.step + w.offset + r * j->l.reduced[0].stride));
        while (walk_on(&j->l, &w));
        bool moved = j->kind == ReduceKind_MAX || j->kind == ReduceKind_MIN;
        if (tensor_is_quantised(&j->in) && !moved)
            acc = requantise((float)acc * j->multiplier, 0, -32767, 32767);
        else if (j->kind == ReduceKind_MEAN)
            acc /= (int64_t)j->l.count;
        store(&j->out, to + c, acc);
    }
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    size_t begin, end;
    run_share((size_t)j->out.elements, COLUMNS, index, j->tasks, &begin, &end);
    while (begin < end) {
        size_t column = begin % j->l.inner, n = j->l.inner - column;
        if (n > end - begin) n = end - begin;
        if (n > COLUMNS) n = COLUMNS;
        size_t from = outer_offset(&j->l, begin / j->l.inner) + column * j->l.step;
        if (E8_HAS(Reduce, E8_FORM_FLOAT) && j->in.type == Type_FLOAT32)
            reduce_f32(j, from, (float *)j->out.address + begin, n);
        else if (!E8_HAS(Reduce, E8_FORM_INTEGER | E8_FORM_INT16) || j->in.type == Type_INT8)
            reduce_s8(j, from, (int8_t *)j->out.address + begin, n);
        else
            reduce_integer(j, from, begin, n);
        begin += n;
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    (void)run_input(r, 0, &j.in);
    run_output(r, 0, &j.out);
    j.kind = flat_byte(r->op.params, Reduce_kind, ReduceKind_MEAN);
    find_layout(&j.in, flat_vector_at(r->op.params, Reduce_axes), &j.l);
    if (tensor_is_quantised(&j.in)) {
        float divisor = j.kind == ReduceKind_MEAN ? j.out.scale * (float)j.l.count : j.out.scale;
        j.multiplier = (j.kind == ReduceKind_SUM_SQUARE ? j.in.scale * j.in.scale : j.in.scale) / divisor;
    }
    j.tasks = run_tasks(r, j.in.elements, size_div_up(j.out.elements, COLUMNS));
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_reduce = {.check = check, .run = run};
