/* SPDX-License-Identifier: Apache-2.0
 *
 * Pool2D over NHWC.
 *   max:     y = largest x of the window's positions inside the input
 *   average: y = sum of x over those positions / count, positions in row-major order
 *            count = those positions, or with count_include_pad all of the window's
 *   int8 average: requantise(sum(q - z) * (s_in / (s_out * float(count)))); int8 max moves codes, one scale in and out. int16 alike.
 * A window without any position inside the input gives the lowest value (max) or zero (average). */
#include "../op.h"

#include "../numeric.h"

struct window {
    int32_t kernel, stride, dilation, before, after, in, out;
};

struct pool {
    struct window y, x;
    int32_t batch, channels;
    uint32_t kind;
    bool count_include_pad;
};

static void read_params(const struct op *op, const struct tensor *in, const struct tensor *out, struct pool *p)
{
    const uint8_t *t = op->params;
    p->kind = flat_byte(t, Pool2D_kind, PoolKind_MAX);
    p->count_include_pad = flat_byte(t, Pool2D_count_include_pad, 0) != 0;
    p->batch = in->dims[0];
    p->channels = in->dims[3];
    p->y = (struct window){
        .kernel = flat_int(t, Pool2D_kernel_h, 1),
        .stride = flat_int(t, Pool2D_stride_h, 1),
        .dilation = flat_int(t, Pool2D_dilation_h, 1),
        .before = flat_int(t, Pool2D_pad_top, 0),
        .after = flat_int(t, Pool2D_pad_bottom, 0),
        .in = in->dims[1],
        .out = out->dims[1],
    };
    p->x = (struct window){
        .kernel = flat_int(t, Pool2D_kernel_w, 1),
        .stride = flat_int(t, Pool2D_stride_w, 1),
        .dilation = flat_int(t, Pool2D_dilation_w, 1),
        .before = flat_int(t, Pool2D_pad_left, 0),
        .after = flat_int(t, Pool2D_pad_right, 0),
        .in = in->dims[2],
        .out = out->dims[2],
    };
}

/* All numbers are small enough that positions fit in int32. */
static bool window_is_sound(const struct window *w)
{
    const int32_t most = 1 << 24;
    if (w->kernel < 1 || w->kernel > most || w->stride < 1 || w->stride > most || w->dilation < 1 || w->dilation > most) return false;
    if (w->before < 0 || w->before > most || w->after < 0 || w->after > most || w->in > most || w->out > most) return false;
    int64_t span = (int64_t)w->in + w->before + w->after - ((int64_t)w->dilation * (w->kernel - 1) + 1);
    return span >= 0 && w->out == span / w->stride + 1;
}

static e8_status check(struct check *c)
{
    struct tensor in, out;
    struct pool p;
    TRY(check_counts(c, 1, 1, 1));
    (void)op_input(&c->op, 0, &in);
    op_output(&c->op, 0, &out);
    REQUIRE(c, "pool2d.rank", in.rank == 4 && out.rank == 4);
    read_params(&c->op, &in, &out, &p);
    SUPPORTED(c, "pool2d.kind", p.kind < PoolKind_COUNT);
    REQUIRE(c, "pool2d.type", in.type == out.type);
    SUPPORTED(c, "pool2d.type", in.type == Type_FLOAT32 || in.type == Type_INT8 || in.type == Type_INT16);
    if (in.type != Type_FLOAT32) {
        REQUIRE(c, "pool2d.scale", tensor_is_quantised(&in) == tensor_is_quantised(&out));
        REQUIRE(c, "pool2d.scale", p.kind == PoolKind_MAX || tensor_is_quantised(&in));
        if (p.kind == PoolKind_MAX) TRY(check_same_quantisation(c, &in, &out));
    }
    REQUIRE(c, "pool2d.window", window_is_sound(&p.y) && window_is_sound(&p.x));
    REQUIRE(c, "pool2d.shape", out.dims[0] == in.dims[0] && out.dims[3] == in.dims[3]);
    uint64_t taps = size_mul((uint64_t)p.y.kernel, (uint64_t)p.x.kernel);
    REQUIRE(c, "pool2d.window", taps <= 1u << 22); /* 255 * taps fits in int32 */
    SUPPORTED(c, "pool2d.window", in.type != Type_INT16 || taps < 1u << 16);
    /* Pointers to the positions of a window, then (int8 average) the sums. */
    c->scratch_thread = size_add(size_align(size_mul(taps, sizeof(void *)), 64), size_mul((uint64_t)p.channels, 4));
    c->macs = size_mul(out.elements, taps);
    return E8_OK;
}

/* The kernel positions [*begin, *end) of the window at output index `at` that lie inside the input. */
static void inside(const struct window *w, int32_t at, int32_t *begin, int32_t *end)
{
    int32_t start = at * w->stride - w->before, low = -start, high = w->in - start;
    *begin = low <= 0 ? 0 : (low + w->dilation - 1) / w->dilation;
    *end = high <= 0 ? 0 : min_int(w->kernel, (high - 1) / w->dilation + 1);
    if (*end < *begin) *end = *begin;
}

struct job {
    const struct run *run;
    struct pool p;
    struct tensor in, out;
    uint32_t tasks;
};

/* Collect the window's positions of one output pixel that lie inside the input; gives how many there are. */
static size_t collect(const struct job *j, const uint8_t *image, int32_t oy, int32_t ox, const void **taps)
{
    const struct pool *p = &j->p;
    size_t pixel = (size_t)p->channels * type_bytes(j->in.type), count = 0;
    int32_t y0, y1, x0, x1;
    inside(&p->y, oy, &y0, &y1);
    inside(&p->x, ox, &x0, &x1);
    for (int32_t ky = y0; ky < y1; ky++) {
        size_t row = (size_t)(oy * p->y.stride - p->y.before + ky * p->y.dilation) * (size_t)p->x.in;
        for (int32_t kx = x0; kx < x1; kx++) {
            size_t column = (size_t)(ox * p->x.stride - p->x.before + kx * p->x.dilation);
            taps[count++] = image + (row + column) * pixel;
        }
    }
    return count;
}

static void pool_f32(const struct job *j, const float *const *taps, size_t count, float divisor, float *y)
{
    size_t channels = (size_t)j->p.channels;
    if (j->p.kind == PoolKind_MAX)
        j->run->kernels->pool_f32(taps, count, channels, 0.0f, y);
    else if (count > 0)
        j->run->kernels->pool_f32(taps, count, channels, divisor, y);
    else
        memset(y, 0, channels * sizeof *y);
}

static void pool_s8(const struct job *j, const int8_t *const *taps, size_t count, float divisor, int8_t *y, int32_t *sums)
{
    size_t channels = (size_t)j->p.channels;
    if (j->p.kind == PoolKind_MAX) {
        if (count > 0)
            j->run->kernels->max_s8(taps, count, channels, y);
        else
            memset(y, -128, channels);
        return;
    }
    float multiplier = count > 0 ? j->in.scale / (j->out.scale * divisor) : 0.0f;
    struct e8_requant_row q = {.multiplier = multiplier, .zero_point = j->out.zero_point, .low = -128, .high = 127};
    memset(sums, 0, channels * sizeof *sums);
    if (count > 0) j->run->kernels->sum_s8(taps, count, channels, sums);
    j->run->kernels->requantise(sums, y, channels, -(int32_t)count * j->in.zero_point, &q);
}

static void pool_s16(const struct job *j, const int16_t *const *taps, size_t count, float divisor, int16_t *y)
{
    bool average = j->p.kind == PoolKind_AVERAGE;
    float multiplier = count > 0 ? j->in.scale / (j->out.scale * divisor) : 0.0f;
    for (size_t c = 0; c < (size_t)j->p.channels; c++) {
        int32_t acc = average ? 0 : -32768;
        for (size_t t = 0; t < count; t++) acc = average ? acc + taps[t][c] : max_int(acc, taps[t][c]);
        y[c] = (int16_t)(average ? requantise((float)acc * multiplier, 0, -32767, 32767) : acc);
    }
}

/* A task takes a share of the output rows of all images. */
static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    const struct pool *p = &j->p;
    uint8_t *scratch = j->run->thread + (size_t)index * j->run->thread_bytes;
    const void **taps = (const void **)(void *)scratch;
    size_t pointers = (size_t)size_align((uint64_t)p->y.kernel * (uint64_t)p->x.kernel * sizeof(void *), 64);
    int32_t *sums = (int32_t *)(void *)(scratch + pointers);
    size_t width = type_bytes(j->in.type), begin, end;
    size_t image_bytes = (size_t)p->y.in * (size_t)p->x.in * (size_t)p->channels * width;
    run_share((size_t)p->batch * (size_t)p->y.out, 1, index, j->tasks, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const uint8_t *image = (const uint8_t *)j->in.address + row / (size_t)p->y.out * image_bytes;
        for (int32_t ox = 0; ox < p->x.out; ox++) {
            size_t at = (row * (size_t)p->x.out + (size_t)ox) * (size_t)p->channels;
            size_t count = collect(j, image, (int32_t)(row % (size_t)p->y.out), ox, taps);
            float divisor = (float)(p->count_include_pad ? (size_t)p->y.kernel * (size_t)p->x.kernel : count);
            if (E8_HAS(Pool2D, E8_FORM_FLOAT) && width == 4)
                pool_f32(j, (const float *const *)(const void *)taps, count, divisor, (float *)j->out.address + at);
            else if (E8_HAS(Pool2D, E8_FORM_INT16) && width == 2)
                pool_s16(j, (const int16_t *const *)(const void *)taps, count, divisor, (int16_t *)j->out.address + at);
            else
                pool_s8(j, (const int8_t *const *)(const void *)taps, count, divisor, (int8_t *)j->out.address + at, sums);
        }
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    (void)run_input(r, 0, &j.in);
    run_output(r, 0, &j.out);
    read_params(&r->op, &j.in, &j.out, &j.p);
    uint64_t work = j.out.elements * (uint64_t)j.p.y.kernel * (uint64_t)j.p.x.kernel;
    j.tasks = run_tasks(r, work, (uint64_t)j.p.batch * (uint64_t)j.p.y.out);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_pool2d = {.check = check, .run = run};
