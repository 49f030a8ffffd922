/* SPDX-License-Identifier: Apache-2.0
 *
 * Resize: separable resampling of NHWC along H and W through tables of source positions and weights.
 *   nearest: y[oy][ox] = x[iy[oy]][ix[ox]], codes move
 *   linear (2 taps), cubic (4 taps), float: row(ty) = wx[0]*x0 + wx[1]*x1 + ..., y = wy[0]*row(0) + wy[1]*row(1) + ...,
 *     each product and each sum rounded on its own, from left to right
 *   linear, int8: weights become 11-bit integers W = rne(w * 2048) when the operator runs;
 *     acc = sum over ty of WY * (sum over tx of WX * (q - z)), exact in int32;
 *     y = clamp(((acc + 2^21) >> 22) + z), one scale in and out. */
#include "../op.h"

#include "../numeric.h"

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
    SUPPORTED(c, "resize.type", in.type == Type_FLOAT32 || (codes && p.kind != ResizeKind_CUBIC) || p.kind == ResizeKind_NEAREST);
    TRY(check_same_quantisation(c, &in, &out));
    REQUIRE(c, "resize.shape", in.dims[0] == out.dims[0] && in.dims[3] == out.dims[3]);
    REQUIRE(c, "resize.table", axis_is_sound(&p.y, &p, codes) && axis_is_sound(&p.x, &p, codes));
    c->macs = size_mul(out.elements, p.taps * p.taps);
    return E8_OK;
}

struct job {
    struct tensor in, out;
    struct resize p;
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

/* Offsets in elements of the taps * taps sources of one output pixel, and their weights per axis. */
struct sources {
    size_t offset[MAX_TAPS][MAX_TAPS];
    float wy[MAX_TAPS], wx[MAX_TAPS];
};

static void find_sources(const struct resize *p, int32_t oy, int32_t ox, struct sources *s)
{
    for (uint32_t i = 0; i < p->taps; i++) {
        uint32_t at_y = (uint32_t)oy * p->taps + i, at_x = (uint32_t)ox * p->taps + i;
        s->wy[i] = flat_element_float(p->y.weight, at_y);
        s->wx[i] = flat_element_float(p->x.weight, at_x);
        size_t row = (size_t)flat_element_int(p->y.index, at_y) * (size_t)p->x.in;
        for (uint32_t k = 0; k < p->taps; k++)
            s->offset[i][k] = (row + (size_t)flat_element_int(p->x.index, (uint32_t)ox * p->taps + k)) * (size_t)p->channels;
    }
}

static void linear_f32(const struct sources *s, const float *x, float *y, size_t channels)
{
    const float *x00 = x + s->offset[0][0], *x01 = x + s->offset[0][1], *x10 = x + s->offset[1][0], *x11 = x + s->offset[1][1];
    float wx0 = s->wx[0], wx1 = s->wx[1], wy0 = s->wy[0], wy1 = s->wy[1];
    for (size_t c = 0; c < channels; c++) {
        float top = wx0 * x00[c] + wx1 * x01[c], bottom = wx0 * x10[c] + wx1 * x11[c];
        y[c] = wy0 * top + wy1 * bottom;
    }
}

static void cubic_f32(const struct sources *s, const float *x, float *y, size_t channels)
{
    for (size_t c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (uint32_t i = 0; i < MAX_TAPS; i++) {
            float row = s->wx[0] * x[s->offset[i][0] + c];
            for (uint32_t k = 1; k < MAX_TAPS; k++) row += s->wx[k] * x[s->offset[i][k] + c];
            sum = i == 0 ? s->wy[0] * row : sum + s->wy[i] * row;
        }
        y[c] = sum;
    }
}

static void linear_s8(const struct sources *s, const int8_t *x, int8_t *y, size_t channels, int32_t zero)
{
    const int8_t *x00 = x + s->offset[0][0], *x01 = x + s->offset[0][1], *x10 = x + s->offset[1][0], *x11 = x + s->offset[1][1];
    int32_t wx0 = rne_int32(s->wx[0] * 2048.0f), wx1 = rne_int32(s->wx[1] * 2048.0f);
    int32_t wy0 = rne_int32(s->wy[0] * 2048.0f), wy1 = rne_int32(s->wy[1] * 2048.0f);
    for (size_t c = 0; c < channels; c++) {
        int32_t top = wx0 * (x00[c] - zero) + wx1 * (x01[c] - zero), bottom = wx0 * (x10[c] - zero) + wx1 * (x11[c] - zero);
        int32_t value = ((wy0 * top + wy1 * bottom + (1 << 21)) >> 22) + zero;
        y[c] = (int8_t)max_int(-128, min_int(127, value));
    }
}

/* A task takes a share of the output rows of all images. */
static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    const struct resize *p = &j->p;
    size_t channels = (size_t)p->channels, width = type_bytes(j->in.type), begin, end;
    size_t image_bytes = (size_t)p->y.in * (size_t)p->x.in * channels * width, row_bytes = (size_t)p->x.out * channels * width;
    run_share((size_t)p->batch * (size_t)p->y.out, 1, index, j->tasks, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const uint8_t *image = (const uint8_t *)j->in.address + row / (size_t)p->y.out * image_bytes;
        uint8_t *y = (uint8_t *)j->out.address + row * row_bytes;
        int32_t oy = (int32_t)(row % (size_t)p->y.out);
        if (p->kind == ResizeKind_NEAREST) {
            nearest(j, image, oy, y);
            continue;
        }
        for (int32_t ox = 0; ox < p->x.out; ox++, y += channels * width) {
            struct sources s;
            find_sources(p, oy, ox, &s);
            if (width == 1)
                linear_s8(&s, (const int8_t *)image, (int8_t *)y, channels, j->in.zero_point);
            else if (p->kind == ResizeKind_LINEAR)
                linear_f32(&s, (const float *)(const void *)image, (float *)(void *)y, channels);
            else
                cubic_f32(&s, (const float *)(const void *)image, (float *)(void *)y, channels);
        }
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.tasks = 1};
    (void)run_input(r, 0, &j.in);
    run_output(r, 0, &j.out);
    read_params(&r->op, &j.in, &j.out, &j.p);
    j.tasks = run_tasks(r, j.out.elements * j.p.taps * j.p.taps, (uint64_t)j.p.batch * (uint64_t)j.p.y.out);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_resize = {.check = check, .run = run};
