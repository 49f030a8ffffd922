/* SPDX-License-Identifier: Apache-2.0
 *
 * Conv2D: x [N,H,W,C], weights [O,KH,KW,C/group] packed per group with k = (kh * KW + kw) * C/group + c,
 *     y[n,oy,ox,o] = clamp(sum over k of x * w + bias + residual, act_min, act_max).
 * Numbers and forms: linear.h. An output pixel is a row of the matrix product; its kernel positions are the row's segments. int8
 * pictures have a kernel of their own at some levels; 3x3 kernels in float32 another form everywhere (winograd.h). */
#include "winograd.h"

struct conv {
    struct linear l;
    struct window w;
    struct linear_rows rows;
};

static e8_status check_shapes(struct check *c, const struct linear *l, int32_t group)
{
    REQUIRE(c, "conv2d.rank", l->x.rank == 4 && l->w.rank == 4 && l->y.rank == 4);
    REQUIRE(c, "conv2d.group", group >= 1 && l->x.dims[3] % group == 0 && l->w.dims[0] % group == 0);
    REQUIRE(c, "conv2d.channels", l->w.dims[3] == l->x.dims[3] / group && l->y.dims[3] == l->w.dims[0]);
    return window_check(c, &l->x, &l->y, l->w.dims[1], l->w.dims[2]);
}

static void set_sizes(struct linear *l, int32_t group)
{
    l->groups = (size_t)group;
    l->channels = (size_t)(l->w.dims[0] / group);
    l->padded = (l->channels + E8_NR - 1) / E8_NR * E8_NR;
    l->depth = (size_t)l->w.dims[1] * (size_t)l->w.dims[2] * (size_t)l->w.dims[3];
}

/* A kernel row is one segment where its pixels lie side by side, otherwise each kernel position is one. */
static void set_rows(struct conv *v, const struct op *op)
{
    const struct linear *l = &v->l;
    const struct window *w = &v->w;
    window_decode(op, &l->x, &l->y, l->w.dims[1], l->w.dims[2], &v->w);
    bool plain = w->kh == 1 && w->kw == 1 && w->sh == 1 && w->sw == 1 && w->ih == w->oh && w->iw == w->ow;
    bool lines = !plain && l->groups == 1 && (w->dw == 1 || w->kw == 1);
    size_t channels = (size_t)l->w.dims[3], kh = (size_t)w->kh, kw = (size_t)w->kw;
    v->rows = (struct linear_rows){
        .l = l,
        .window = plain ? NULL : w,
        .lines = lines,
        .rows = (size_t)(l->y.elements / (uint64_t)l->y.dims[3]),
        .row_bytes = (size_t)l->x.dims[3] * type_bytes(l->x.type),
        .taps = lines ? kh : kh * kw,
        .segment = lines ? kw * channels : channels,
    };
    bool codes = linear_is(l, LINEAR_INT8) || linear_is(l, LINEAR_INT16);
    v->rows.gather = codes && v->rows.taps > 1 && v->rows.segment % 4 != 0;
}

/* Thread scratch of the kernel for pictures, 0 where it does not apply. */
static size_t picture_bytes(const struct conv *v)
{
    const struct window *w = &v->w;
    if (!linear_is(&v->l, LINEAR_INT8) || !v->rows.lines) return 0;
    return e8_conv_picture_scratch(w->ow, w->kh, w->kw, w->sw, v->l.x.dims[3], (int64_t)v->l.channels);
}

/* True when the level has the kernel for pictures and it is the faster one here. */
static bool by_picture(const struct run *r, const struct conv *v)
{
    return !linear_is_wide(&v->l) && r->kernels->conv_picture_s8 && v->l.depth * v->l.channels <= r->kernels->picture_macs &&
           picture_bytes(v);
}

static bool by_winograd(const struct conv *v)
{
    return E8_HAS(Conv2D, E8_FORM_FLOAT) && winograd_fits(&v->l, &v->w);
}

/* Output rows [first, last) of picture `n`. */
static void run_lines(const struct conv *v, uint8_t *scratch, size_t n, size_t first, size_t last)
{
    const struct linear *l = &v->l;
    const struct window *w = &v->w;
    size_t channels = (size_t)l->x.dims[3], outputs = (size_t)w->oh * (size_t)w->ow * l->channels;
    struct e8_conv_picture g = {
        .ih = w->ih,
        .iw = w->iw,
        .ow = w->ow,
        .kh = w->kh,
        .kw = w->kw,
        .sh = w->sh,
        .sw = w->sw,
        .dh = w->dh,
        .pt = w->pt,
        .pl = w->pl,
        .zero = l->x.zero_point,
        .first = (int32_t)first,
        .last = (int32_t)last,
        .channels = channels,
        .n = l->channels,
        .x = (const int8_t *)l->x.address + n * (size_t)w->ih * (size_t)w->iw * channels,
        .w = (const int8_t *)l->w.data.bytes,
        .residual = l->has_residual ? (const int8_t *)l->residual.address + n * outputs : NULL,
        .out = (int8_t *)l->y.address + n * outputs,
        .scratch = scratch,
    };
    v->rows.run->kernels->conv_picture_s8(&g, &v->rows.q.int8);
}

static void lines_task(void *argument, uint32_t index)
{
    const struct conv *v = argument;
    const struct run *r = v->rows.run;
    size_t oh = (size_t)v->w.oh, begin, end;
    run_share(oh * (size_t)v->w.batch, 1, index, v->rows.tasks, &begin, &end);
    while (begin < end) {
        size_t n = begin / oh, first = begin % oh, last = first + (end - begin) < oh ? first + (end - begin) : oh;
        run_lines(v, r->thread + index * r->thread_bytes, n, first, last);
        begin += last - first;
    }
}

static e8_status check(struct check *c)
{
    struct conv v;
    int32_t group = flat_int(c->op.params, Conv2D_group, 1);
    TRY(check_counts(c, 2, 5, 1));
    linear_decode(&c->op, &v.l);
    TRY(check_shapes(c, &v.l, group));
    set_sizes(&v.l, group);
    TRY(linear_check(c, &v.l, false));
    set_rows(&v, &c->op);
    struct linear_scratch s = linear_scratch_layout(&v.l, v.rows.segment, 0);
    c->scratch_shared = s.total;
    c->kept = s.total;
    c->scratch_thread = by_winograd(&v) ? winograd_thread_bytes(&v.l, &v.w) : size_max(linear_thread_bytes(&v.rows), picture_bytes(&v));
    c->macs = size_mul(v.l.y.elements, v.l.depth);
    return E8_OK;
}

static struct linear_scratch open_conv(const struct run *r, struct conv *v)
{
    linear_open(r, &v->l);
    set_sizes(&v->l, flat_int(r->op.params, Conv2D_group, 1));
    set_rows(v, &r->op);
    v->rows.run = r;
    return linear_scratch_layout(&v->l, v->rows.segment, 0);
}

static e8_status run(const struct run *r)
{
    struct conv v;
    struct linear_scratch s = open_conv(r, &v);
    uint8_t *arrays = linear_prepare(r, &v.l, &s, &v.rows.q);
    v.rows.zeros = arrays + s.zeros;
    v.rows.bias = (const float *)(const void *)(arrays + s.bias);
    v.rows.scale = (const float *)(const void *)(arrays + s.scale);
    v.rows.limits = arrays + s.limits;
    if (by_picture(r, &v)) {
        v.rows.tasks = run_tasks(r, size_mul(v.l.y.elements, v.l.depth), (uint64_t)v.w.batch * (uint64_t)v.w.oh);
        run_parallel(r, lines_task, &v, v.rows.tasks);
    } else if (by_winograd(&v)) {
        winograd_run(&v.rows);
    } else {
        linear_run_rows(&v.rows);
    }
    return E8_OK;
}

static size_t keep(const struct run *r)
{
    struct conv v;
    struct linear_scratch s = open_conv(r, &v);
    v.rows.limits = r->kept + s.limits;
    if (!by_picture(r, &v)) linear_find_limits(&v.rows);
    return linear_keep(r, &v.l, &s);
}

const struct op_type e8_op_conv2d = {
    .check = check, .run = run, .keep = keep, .in_place = 1u << LINEAR_RESIDUAL, .packed = 1u << LINEAR_WEIGHTS};
