/* SPDX-License-Identifier: Apache-2.0
 *
 * Conv2D: x [N,H,W,C], weights [O,KH,KW,C/group] packed per group with k = (kh * KW + kw) * C/group + c,
 *     y[n,oy,ox,o] = clamp(sum over k of x * w + bias + residual, act_min, act_max).
 * Numbers and forms: linear.h. An output pixel is a row of the matrix product; its kernel positions are the row's segments. */
#include "linear.h"

struct conv {
    struct linear l;
    struct window w;
    size_t taps, segment;
    bool plain;  /* 1 x 1 without stride or padding: the picture is the matrix */
    bool gather;
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

static void set_rows(struct conv *v, const struct op *op)
{
    const struct window *w = &v->w;
    window_decode(op, &v->l.x, &v->l.y, v->l.w.dims[1], v->l.w.dims[2], &v->w);
    v->taps = (size_t)w->kh * (size_t)w->kw;
    v->segment = (size_t)v->l.w.dims[3];
    v->plain = v->taps == 1 && w->sh == 1 && w->sw == 1 && w->ih == w->oh && w->iw == w->ow;
    v->gather = v->l.form == LINEAR_INT8 && v->taps > 1 && v->segment % 4 != 0;
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
    c->scratch_shared = linear_scratch_layout(&v.l, v.segment, 0).total;
    c->scratch_thread = linear_thread_bytes(&v.l, v.taps, v.gather);
    c->macs = size_mul(v.l.y.elements, v.l.depth);
    return E8_OK;
}

static e8_status run(const struct run *r)
{
    struct conv v;
    linear_open(r, &v.l);
    set_sizes(&v.l, flat_int(r->op.params, Conv2D_group, 1));
    set_rows(&v, &r->op);
    struct linear_scratch s = linear_scratch_layout(&v.l, v.segment, 0);
    struct linear_rows job = {
        .run = r,
        .l = &v.l,
        .window = v.plain ? NULL : &v.w,
        .rows = (size_t)(v.l.y.elements / (uint64_t)v.l.y.dims[3]),
        .row_bytes = (size_t)v.l.x.dims[3] * type_bytes(v.l.x.type),
        .taps = v.taps,
        .segment = v.segment,
        .zeros = r->shared + s.zeros,
        .bias = (const float *)(const void *)(r->shared + s.bias),
        .scale = (const float *)(const void *)(r->shared + s.scale),
        .gather = v.gather,
    };
    linear_prepare(&v.l, &s, r->shared, &job.q);
    linear_run_rows(&job);
    return E8_OK;
}

const struct op_type e8_op_conv2d = {.check = check, .run = run, .in_place = 1u << LINEAR_RESIDUAL, .packed = 1u << LINEAR_WEIGHTS};
