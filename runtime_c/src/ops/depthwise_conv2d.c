/* SPDX-License-Identifier: Apache-2.0
 *
 * DepthwiseConv2D: x [N,H,W,C], weights [KH,KW,C*multiplier] packed as [taps][channels],
 *     y[n,oy,ox,o] = clamp(sum over taps of x[.., o / multiplier] * w[tap][o] + bias[o], act_min, act_max).
 * Numbers and forms: linear.h. With a multiplier above 1 the input's channels are first repeated into scratch. Coded weights are
 * decoded to scratch whole: they are few. */
#include "linear.h"

#include "../kernels/codes.h"

struct depthwise {
    struct linear l;
    struct window w;
    size_t taps, multiplier;
    size_t repeated; /* place of the repeated input in the extra scratch */
    uint64_t extra;
};

static e8_status check_shapes(struct check *c, const struct linear *l, int32_t multiplier)
{
    REQUIRE(c, "depthwise_conv2d.rank", l->x.rank == 4 && l->w.rank == 3 && l->y.rank == 4);
    REQUIRE(c, "depthwise_conv2d.multiplier", multiplier >= 1 && l->w.dims[2] % multiplier == 0);
    REQUIRE(c, "depthwise_conv2d.channels", l->w.dims[2] / multiplier == l->x.dims[3] && l->y.dims[3] == l->w.dims[2]);
    SUPPORTED(c, "depthwise_conv2d.residual", !l->has_residual);
    return window_check(c, &l->x, &l->y, l->w.dims[0], l->w.dims[1]);
}

static void set_sizes(struct depthwise *d, const struct op *op)
{
    struct linear *l = &d->l;
    l->groups = 1;
    l->channels = (size_t)l->w.dims[2];
    l->padded = (l->channels + E8_NR - 1) / E8_NR * E8_NR;
    l->depth = d->taps = (size_t)l->w.dims[0] * (size_t)l->w.dims[1];
    d->multiplier = (size_t)flat_int(op->params, DepthwiseConv2D_multiplier, 1);
    uint64_t decoded = linear_is(l, LINEAR_CODED) ? size_mul(size_mul(d->taps, l->padded), sizeof(float)) : 0;
    uint64_t repeated = d->multiplier > 1 ? size_mul(l->x.bytes, d->multiplier) : 0;
    d->repeated = (size_t)size_align(decoded, 64);
    d->extra = size_add(size_align(decoded, 64), repeated);
    window_decode(op, &l->x, &l->y, l->w.dims[0], l->w.dims[1], &d->w);
}

/* Pixels of one kernel call: a part of one output row. */
static size_t pixels_at_a_time(const struct depthwise *d)
{
    return linear_rows(d->taps);
}

/* A thread's scratch: pointers, then the sums of a pixel (int16). */
static uint64_t sums_at(const struct depthwise *d)
{
    return size_align(size_mul(size_mul(d->taps, pixels_at_a_time(d)), sizeof(void *)), 64);
}

static uint64_t sums_bytes(const struct depthwise *d)
{
    return linear_is(&d->l, LINEAR_INT16) ? size_mul(d->l.padded, sizeof(double)) : 0;
}

static e8_status check(struct check *c)
{
    struct depthwise d;
    TRY(check_counts(c, 2, 4, 1));
    linear_decode(&c->op, &d.l);
    TRY(check_shapes(c, &d.l, flat_int(c->op.params, DepthwiseConv2D_multiplier, 1)));
    set_sizes(&d, &c->op);
    TRY(linear_check(c, &d.l, true));
    c->tensor = d.l.w.index;
    SUPPORTED(c, "depthwise_conv2d.weights_group", d.l.w.scales.count <= d.l.channels);
    c->tensor = E8_ABSENT;
    struct linear_scratch s = linear_scratch_layout(&d.l, d.l.channels, d.extra);
    c->scratch_shared = s.total;
    c->kept = s.extra;
    c->scratch_thread = size_max(size_add(sums_at(&d), sums_bytes(&d)), E8_DEPTHWISE_SCRATCH);
    c->macs = size_mul(d.l.y.elements, d.taps);
    return E8_OK;
}

struct job {
    const struct run *run;
    const struct depthwise *d;
    struct linear_requant q;
    const void *x, *w, *zeros;
    const float *bias;
    uint32_t tasks;
};

static void run_int16(const struct job *job, const void **pointers, size_t first, size_t count)
{
    const struct linear *l = &job->d->l;
    struct e8_depthwise_s16 g = {
        .channels = l->channels,
        .taps = job->d->taps,
        .a_stride = pixels_at_a_time(job->d),
        .w = job->w,
        .w_stride = l->padded,
        .out = (double *)(void *)((uint8_t *)pointers + sums_at(job->d)),
    };
    for (size_t i = 0; i < count; i++) {
        g.a = pointers + i;
        job->run->kernels->depthwise_s16(&g);
        job->run->kernels->finish_s16(g.out, NULL, (int16_t *)l->y.address + (first + i) * l->channels, l->channels, &job->q.int16);
    }
}

static void run_pixels(const struct job *job, const void **pointers, size_t first, size_t count)
{
    const struct linear *l = &job->d->l;
    size_t stride = pixels_at_a_time(job->d), out = first * l->channels;
    window_pointers(&job->d->w, job->x, l->channels * type_bytes(l->x.type), job->zeros, first, count, pointers, stride);
    if (linear_is(l, LINEAR_INT16)) {
        run_int16(job, pointers, first, count);
        return;
    }
    if (linear_is(l, LINEAR_INT8)) {
        struct e8_depthwise_s8 g = {
            .m = count,
            .channels = l->channels,
            .taps = job->d->taps,
            .a = pointers,
            .a_stride = stride,
            .w = job->w,
            .w_stride = l->padded,
            .out = (int8_t *)l->y.address + out,
            .out_stride = l->channels,
        };
        job->run->kernels->depthwise_s8(&g, &job->q.int8);
        return;
    }
    struct e8_depthwise_f32 g = {
        .m = count,
        .channels = l->channels,
        .taps = job->d->taps,
        .a = pointers,
        .a_stride = stride,
        .w = job->w,
        .w_stride = l->padded,
        .bias = l->has_bias ? job->bias : NULL,
        .out = (float *)l->y.address + out,
        .out_stride = l->channels,
        .low = l->act_min,
        .high = l->act_max,
    };
    job->run->kernels->depthwise_f32(&g);
}

/* True when the level has a kernel for whole pictures and it takes this one. */
static bool by_picture(const struct run *r, const struct depthwise *d)
{
    const struct window *w = &d->w;
    bool present = linear_is(&d->l, LINEAR_INT8) ? r->kernels->depthwise_image_s8 != NULL : r->kernels->depthwise_image_f32 != NULL;
    return present && !linear_is(&d->l, LINEAR_INT16) && e8_depthwise_fits(w->kh, w->kw, w->sw, w->dh, w->dw);
}

/* Output rows [first, last) of picture `n`. */
static void run_lines(const struct job *job, uint8_t *scratch, size_t n, size_t first, size_t last)
{
    const struct linear *l = &job->d->l;
    const struct window *w = &job->d->w;
    size_t width = type_bytes(l->x.type);
    struct e8_depthwise_image g = {
        .ih = w->ih,
        .iw = w->iw,
        .ow = w->ow,
        .kh = w->kh,
        .kw = w->kw,
        .sh = w->sh,
        .sw = w->sw,
        .dh = w->dh,
        .dw = w->dw,
        .pt = w->pt,
        .pl = w->pl,
        .zero = l->x.zero_point,
        .first = (int32_t)first,
        .last = (int32_t)last,
        .channels = l->channels,
        .w_stride = l->padded,
        .x = (const uint8_t *)job->x + n * (size_t)w->ih * (size_t)w->iw * l->channels * width,
        .w = job->w,
        .out = (uint8_t *)l->y.address + n * (size_t)w->oh * (size_t)w->ow * l->channels * width,
        .bias = l->has_bias ? job->bias : NULL,
        .low = l->act_min,
        .high = l->act_max,
        .scratch = scratch,
    };
    if (linear_is(l, LINEAR_INT8))
        job->run->kernels->depthwise_image_s8(&g, &job->q.int8);
    else
        job->run->kernels->depthwise_image_f32(&g);
}

static void lines_task(void *argument, uint32_t index)
{
    const struct job *job = argument;
    size_t oh = (size_t)job->d->w.oh, begin, end;
    run_share(oh * (size_t)job->d->w.batch, 1, index, job->tasks, &begin, &end);
    while (begin < end) {
        size_t n = begin / oh, first = begin % oh, last = first + (end - begin) < oh ? first + (end - begin) : oh;
        run_lines(job, job->run->thread + index * job->run->thread_bytes, n, first, last);
        begin += last - first;
    }
}

static void pixels_task(void *argument, uint32_t index)
{
    const struct job *job = argument;
    const void **pointers = (const void **)(void *)(job->run->thread + index * job->run->thread_bytes);
    size_t pixels = (size_t)(job->d->l.y.elements / job->d->l.channels), each = pixels_at_a_time(job->d), begin, end;
    run_share(pixels, 8, index, job->tasks, &begin, &end);
    for (size_t first = begin; first < end; first += each) run_pixels(job, pointers, first, end - first < each ? end - first : each);
}

/* y[i * multiplier + j] = x[i] */
static void repeat_channels(const struct linear *l, size_t multiplier, uint8_t *y)
{
    const uint8_t *x = l->x.address;
    size_t width = type_bytes(l->x.type);
    for (size_t i = 0; i < l->x.elements; i++)
        for (size_t j = 0; j < multiplier; j++, y += width) memcpy(y, x + i * width, width);
}

/* Codes [taps][padded] to floats times their scale. */
static void decode_weights(const struct linear *l, float *y)
{
    uint32_t bits = l->w.bits;
    for (size_t t = 0; t < l->depth; t++) {
        for (size_t c = 0; c < l->padded; c++) {
            float scale = c < l->channels ? flat_element_float(l->w.scales, l->w.scales.count == 1 ? 0 : (uint32_t)c) : 0.0f;
            y[t * l->padded + c] = (float)code_at(l->w.data.bytes, bits, t * l->padded + c) * scale;
        }
    }
}

static struct linear_scratch open_depthwise(const struct run *r, struct depthwise *d)
{
    linear_open(r, &d->l);
    set_sizes(d, &r->op);
    return linear_scratch_layout(&d->l, d->l.channels, d->extra);
}

static e8_status run(const struct run *r)
{
    struct depthwise d;
    struct linear_scratch s = open_depthwise(r, &d);
    struct job job = {
        .run = r,
        .d = &d,
        .x = d.l.x.address,
        .w = linear_is(&d.l, LINEAR_FLOAT) ? d.l.w.address : (const void *)d.l.w.data.bytes,
    };
    uint8_t *arrays = linear_prepare(r, &d.l, &s, &job.q);
    job.zeros = arrays + s.zeros;
    job.bias = (const float *)(const void *)(arrays + s.bias);
    if (linear_is(&d.l, LINEAR_CODED)) {
        decode_weights(&d.l, (float *)(void *)(r->shared + s.extra));
        job.w = r->shared + s.extra;
    }
    if (d.multiplier > 1) {
        repeat_channels(&d.l, d.multiplier, r->shared + s.extra + d.repeated);
        job.x = r->shared + s.extra + d.repeated;
    }
    bool pictures = by_picture(r, &d);
    uint64_t units = pictures ? (uint64_t)d.w.batch * (uint64_t)d.w.oh : d.l.y.elements / d.l.channels / 8 + 1;
    job.tasks = run_tasks(r, size_mul(d.l.y.elements, d.taps), units);
    run_parallel(r, pictures ? lines_task : pixels_task, &job, job.tasks);
    return E8_OK;
}

static size_t keep(const struct run *r)
{
    struct depthwise d;
    struct linear_scratch s = open_depthwise(r, &d);
    return linear_keep(r, &d.l, &s);
}

const struct op_type e8_op_depthwise_conv2d = {.check = check, .run = run, .keep = keep, .packed = 1u << LINEAR_WEIGHTS};
