/* SPDX-License-Identifier: Apache-2.0
 *
 * Resize: separable resampling of NHWC along H and W through tables of source positions and weights.
 *   nearest: y[oy][ox] = x[iy[oy]][ix[ox]], codes move
 *   linear (2 taps), cubic (4 taps), float: row(ty) = wx[0]*x0 + wx[1]*x1 + ..., y = wy[0]*row(0) + wy[1]*row(1) + ...,
 *     each product and each sum rounded on its own, from left to right
 *   Each source row is stretched once to the output's width and kept while the next output rows need it.
 *   linear, int8: weights become 11-bit integers W = rne(w * 2048) when the operator runs;
 *     acc = sum over ty of WY * (sum over tx of WX * (q - z)), exact in int32;
 *     y = clamp(((acc + 2^21) >> 22) + z), one scale in and out.
 *   linear, cubic, int16: the codes as floats through the float form, y = clamp(rne(result)), one scale in and out. */
#include "../numeric.h"
#include "../real.h"

enum { MAX_TAPS = 4 };

/* One axis: `taps` source positions and weights per output position. */
struct axis {
    struct flat_vector index, weight;
    int32_t in, out;
};

struct resize {
    struct axis y, x;
    uint32_t kind, taps;
    int32_t batch, channels;
};

static void read_params(const struct op *op, const struct tensor *in, const struct tensor *out, struct resize *p)
{
    const uint8_t *t = op->params;
    p->kind = flat_byte(t, Resize_kind, ResizeKind_NEAREST);
    p->taps = p->kind == ResizeKind_NEAREST ? 1 : p->kind == ResizeKind_LINEAR ? 2 : MAX_TAPS;
    p->y = (struct axis){flat_vector_at(t, Resize_y_index), flat_vector_at(t, Resize_y_weight), in->dims[1], out->dims[1]};
    p->x = (struct axis){flat_vector_at(t, Resize_x_index), flat_vector_at(t, Resize_x_weight), in->dims[2], out->dims[2]};
    p->batch = in->dims[0];
    p->channels = in->dims[3];
}

static bool axis_is_sound(const struct axis *a, const struct resize *p, bool codes)
{
    uint64_t count = size_mul((uint64_t)a->out, p->taps);
    if (a->index.count != count || a->weight.count != (p->kind == ResizeKind_NEAREST ? 0 : count)) return false;
    for (uint32_t i = 0; i < a->index.count; i++) {
        int32_t at = flat_element_int(a->index, i);
        if (at < 0 || at >= a->in) return false;
    }
    float low = codes ? 0.0f : -16.0f, high = codes ? 1.0f : 16.0f;
    for (uint32_t i = 0; i < a->weight.count; i++) {
        float weight = flat_element_float(a->weight, i);
        if (!(weight >= low && weight <= high)) return false;
        /* Two linear weights add up to 1 at most (0 outside the input), so the integer form fits in int32. */
        if (codes && i % 2 == 1 && !(weight + flat_element_float(a->weight, i - 1) <= 1.001f)) return false;
    }
    return true;
}

/* Offsets and weights of the columns, decoded. */
static uint64_t table_bytes(const struct resize *p)
{
    return size_align(size_mul(size_mul((uint64_t)p->x.out, p->taps), 4), 64);
}

static uint64_t shared_bytes(const struct resize *p)
{
    return size_mul(2, table_bytes(p));
}

/* A stretched source row: float32 or int32. */
static uint64_t row_bytes(const struct resize *p)
{
    return size_align(size_mul(size_mul((uint64_t)p->x.out, (uint64_t)p->channels), 4), 64);
}

/* int16: the longer of a source and a result row in float32. */
static uint64_t wide_bytes(const struct resize *p)
{
    return size_mul(size_mul((uint64_t)(p->x.out > p->x.in ? p->x.out : p->x.in), (uint64_t)p->channels), sizeof(float));
}

static e8_status check(struct check *c)
{
    struct tensor in, out;
    struct resize p;
    TRY(check_counts(c, 1, 1, 1));
    (void)op_input(&c->op, 0, &in);
    op_output(&c->op, 0, &out);
    REQUIRE(c, "resize.rank", in.rank == 4 && out.rank == 4);
    read_params(&c->op, &in, &out, &p);
    SUPPORTED(c, "resize.kind", p.kind < ResizeKind_COUNT);
    bool codes = in.type == Type_INT8;
    bool wide = in.type == Type_INT16 && tensor_is_quantised(&in);
    SUPPORTED(c, "resize.type", in.type == Type_FLOAT32 || wide || (codes && p.kind != ResizeKind_CUBIC) || p.kind == ResizeKind_NEAREST);
    TRY(check_same_quantisation(c, &in, &out));
    REQUIRE(c, "resize.shape", in.dims[0] == out.dims[0] && in.dims[3] == out.dims[3]);
    REQUIRE(c, "resize.table", axis_is_sound(&p.y, &p, codes) && axis_is_sound(&p.x, &p, codes));
    c->macs = size_mul(out.elements, p.taps * p.taps);
    if (p.kind == ResizeKind_NEAREST) return E8_OK;
    c->scratch_shared = shared_bytes(&p);
    c->scratch_thread = size_add(size_mul(p.taps, row_bytes(&p)), wide ? wide_bytes(&p) : 0);
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor in, out;
    struct resize p;
    struct e8_resize columns;
    uint32_t tasks;
};

static void nearest(const struct job *j, const uint8_t *image, int32_t oy, uint8_t *y)
{
    const struct resize *p = &j->p;
    size_t pixel = (size_t)p->channels * type_bytes(j->in.type);
    const uint8_t *row = image + (size_t)flat_element_int(p->y.index, (uint32_t)oy) * (size_t)p->x.in * pixel;
    for (int32_t ox = 0; ox < p->x.out; ox++)
        memcpy(y + (size_t)ox * pixel, row + (size_t)flat_element_int(p->x.index, (uint32_t)ox) * pixel, pixel);
}

/* The stretched source rows that a task holds: number of the row in its image, or -1, for each of `taps` places. */
struct held {
    uint8_t *place[MAX_TAPS];
    float *wide; /* int16: a row of codes as floats */
    int32_t row[MAX_TAPS];
};

static bool is_wanted(const int32_t *wanted, uint32_t taps, int32_t row)
{
    for (uint32_t t = 0; t < taps; t++)
        if (wanted[t] == row) return true;
    return false;
}

/* Where the stretched row is; made in a place that no tap of this output row wants, when it is not there. */
static const uint8_t *stretched(const struct job *j, struct held *h, const uint8_t *image, const int32_t *wanted, int32_t row)
{
    uint32_t taps = j->p.taps, at = 0;
    for (uint32_t i = 0; i < taps; i++)
        if (h->row[i] == row) return h->place[i];
    while (is_wanted(wanted, taps, h->row[at])) at++;
    const uint8_t *x = image + (size_t)row * (size_t)j->p.x.in * (size_t)j->p.channels * type_bytes(j->in.type);
    const struct e8_kernels *k = j->run->kernels;
    if (j->in.type == Type_INT16) {
        k->dequantise_s16((const int16_t *)(const void *)x, h->wide, (size_t)j->p.x.in * (size_t)j->p.channels, 1.0f);
        x = (const uint8_t *)h->wide;
    }
    if (j->in.type == Type_INT8)
        k->resize_columns_s8((const int8_t *)x, (int32_t *)(void *)h->place[at], &j->columns);
    else
        k->resize_columns_f32((const float *)(const void *)x, (float *)(void *)h->place[at], &j->columns);
    h->row[at] = row;
    return h->place[at];
}

static void interpolate(const struct job *j, struct held *h, const uint8_t *image, int32_t oy, uint8_t *y)
{
    const struct resize *p = &j->p;
    const float *rows[MAX_TAPS];
    float w[MAX_TAPS];
    int32_t wanted[MAX_TAPS];
    size_t count = (size_t)p->x.out * (size_t)p->channels;
    for (uint32_t t = 0; t < p->taps; t++) {
        wanted[t] = flat_element_int(p->y.index, (uint32_t)oy * p->taps + t);
        w[t] = flat_element_float(p->y.weight, (uint32_t)oy * p->taps + t);
    }
    for (uint32_t t = 0; t < p->taps; t++) rows[t] = (const float *)(const void *)stretched(j, h, image, wanted, wanted[t]);
    if (j->in.type == Type_INT8) {
        int32_t w0 = rne_int32(w[0] * 2048.0f), w1 = rne_int32(w[1] * 2048.0f);
        const int32_t *a = (const int32_t *)(const void *)rows[0], *b = (const int32_t *)(const void *)rows[1];
        j->run->kernels->resize_rows_s8(a, b, w0, w1, (int8_t *)y, count, j->in.zero_point);
        return;
    }
    float *to = j->in.type == Type_INT16 ? h->wide : (float *)(void *)y;
    j->run->kernels->resize_rows_f32(rows, w, p->taps, to, count);
    if (j->in.type == Type_INT16) j->run->kernels->quantise_s16(to, (int16_t *)(void *)y, count, 1.0f, E8_INT16_LOW, E8_INT16_HIGH);
}

/* A task takes a share of the output rows of all images. */
static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    const struct resize *p = &j->p;
    size_t width = (size_t)p->channels * type_bytes(j->in.type), begin, end;
    size_t image_bytes = (size_t)p->y.in * (size_t)p->x.in * width, out_bytes = (size_t)p->x.out * width, image = 0;
    struct held h = {.row = {-1, -1, -1, -1}};
    uint8_t *thread = j->run->thread + index * j->run->thread_bytes;
    for (uint32_t t = 0; t < p->taps; t++) h.place[t] = thread + t * (size_t)row_bytes(p);
    h.wide = (float *)(void *)(thread + p->taps * (size_t)row_bytes(p));
    run_share((size_t)p->batch * (size_t)p->y.out, 1, index, j->tasks, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        int32_t oy = (int32_t)(row % (size_t)p->y.out);
        if (row == begin || oy == 0) {
            image = row / (size_t)p->y.out;
            for (uint32_t t = 0; t < MAX_TAPS; t++) h.row[t] = -1;
        }
        const uint8_t *x = (const uint8_t *)j->in.address + image * image_bytes;
        uint8_t *y = (uint8_t *)j->out.address + row * out_bytes;
        if (p->kind == ResizeKind_NEAREST)
            nearest(j, x, oy, y);
        else
            interpolate(j, &h, x, oy, y);
    }
}

static void decode_columns(struct job *j)
{
    const struct resize *p = &j->p;
    uint8_t *shared = j->run->shared;
    int32_t *offset = (int32_t *)(void *)shared;
    float *weight = (float *)(void *)(shared + table_bytes(p));
    int16_t *fixed = (int16_t *)(void *)(shared + table_bytes(p));
    for (uint32_t i = 0; i < p->x.index.count; i++) {
        float w = flat_element_float(p->x.weight, i);
        offset[i] = flat_element_int(p->x.index, i) * p->channels;
        if (j->in.type == Type_INT8)
            fixed[i] = (int16_t)rne_int32(w * 2048.0f);
        else
            weight[i] = w;
    }
    j->columns = (struct e8_resize){
        .out = (size_t)p->x.out,
        .channels = (size_t)p->channels,
        .taps = p->taps,
        .offset = offset,
        .weight = weight,
        .fixed = fixed,
        .zero_point = j->in.zero_point,
    };
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    (void)run_input(r, 0, &j.in);
    run_output(r, 0, &j.out);
    read_params(&r->op, &j.in, &j.out, &j.p);
    if (j.p.kind != ResizeKind_NEAREST) decode_columns(&j);
    j.tasks = run_tasks(r, j.out.elements * j.p.taps * j.p.taps, (uint64_t)j.p.batch * (uint64_t)j.p.y.out);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_resize = {.check = check, .run = run};
