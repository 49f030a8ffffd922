/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution and pooling windows. */
#include "check.h"

enum { MAX_TAPS = 30, MAX_PIXELS = 20 };

static size_t padded(size_t n)
{
    return (n + E8_NR - 1) / E8_NR * E8_NR;
}

struct window {
    size_t m, channels, taps;
    const void *rows[MAX_TAPS * MAX_PIXELS];
};

static void draw_window(struct context *c, struct window *x, size_t width, enum fill fill)
{
    static const size_t usual[] = {9, 25, 4, 3};
    x->taps = draw(c) >> 63 ? usual[between(c, 0, 3)] : between(c, 1, MAX_TAPS);
    x->m = between(c, 1, MAX_PIXELS);
    x->channels = between(c, 1, draw(c) >> 63 ? 20 : 100);
    if (c->small) {
        x->taps = (x->taps - 1) % 9 + 1;
        x->m = (x->m - 1) % 9 + 1;
        x->channels = (x->channels - 1) % 36 + 1;
    }
    size_t count = x->taps * x->m, bytes = x->channels * width;
    uint8_t *shared = take(c, bytes * count);
    for (size_t i = 0; i < count; i++) {
        uint8_t *p = i < 5 ? (i % 2 ? take(c, bytes) : take_front(c, bytes)) : shared + (count - 1 - i) * bytes;
        if (width == 1)
            fill_bytes(c, (int8_t *)p, bytes, fill);
        else
            fill_floats(c, (float *)(void *)p, x->channels);
        x->rows[i] = p;
    }
}

static void check_depthwise_s8(struct context *c)
{
    struct window x;
    draw_window(c, &x, 1, (enum fill)between(c, 0, FILL_COUNT - 1));
    size_t p = padded(x.channels), stride = x.channels + between(c, 0, 3), bytes = (x.m - 1) * stride + x.channels;
    int8_t *w = take(c, p * x.taps), *out[2] = {take(c, bytes), take(c, bytes)}, table[256];
    fill_weights(c, w, p * x.taps, (enum fill)between(c, 0, FILL_COUNT - 1));
    int32_t *init = take(c, p * 4), *sum = take(c, p * 4);
    float *multiplier = take(c, p * 4);
    for (size_t i = 0; i < p; i++) {
        init[i] = draw_int(c, -50000, 50000);
        multiplier[i] = draw(c) >> 63 ? 1.0f / 256 : (float)between(c, 1, 1000) * 1e-5f;
        sum[i] = 0;
        for (size_t t = 0; t < x.taps; t++) sum[i] += w[t * p + i];
    }
    fill_bytes(c, table, sizeof table, FILL_RANDOM);
    struct e8_requant q = {
        .init = init,
        .multiplier = multiplier,
        .weight_sum = sum,
        .table = between(c, 0, 7) ? NULL : table,
        .zero_point = draw_int(c, -128, 127),
        .low = draw_int(c, -128, 0),
        .high = draw_int(c, 1, 127),
    };
    char what[100];
    snprintf(what, sizeof what, "m %zu channels %zu taps %zu", x.m, x.channels, x.taps);
    for (int i = 0; i < 2; i++) {
        memset(out[i], 0x55, bytes);
        struct e8_depthwise_s8 g = {x.m, x.channels, x.taps, x.rows, x.m, w, p, out[i], stride};
        (i ? c->kernels : c->reference)->depthwise_s8(&g, &q);
    }
    expect_same(c, "depthwise_s8", out[0], out[1], bytes, what);
    release();
}

static void check_depthwise_f32(struct context *c)
{
    struct window x;
    draw_window(c, &x, 4, FILL_RANDOM);
    size_t p = padded(x.channels), stride = x.channels + between(c, 0, 3), count = (x.m - 1) * stride + x.channels;
    float *w = take(c, p * x.taps * 4), *bias = take(c, p * 4), *out[2] = {take(c, count * 4), take(c, count * 4)};
    fill_floats(c, w, p * x.taps);
    fill_floats(c, bias, p);
    char what[100];
    snprintf(what, sizeof what, "m %zu channels %zu taps %zu", x.m, x.channels, x.taps);
    bool biased = draw(c) >> 63, clamped = draw(c) >> 63;
    for (int i = 0; i < 2; i++) {
        memset(out[i], 0x55, count * 4);
        struct e8_depthwise_f32 g = {x.m,
                                     x.channels,
                                     x.taps,
                                     x.rows,
                                     x.m,
                                     w,
                                     p,
                                     biased ? bias : NULL,
                                     out[i],
                                     stride,
                                     clamped ? 0.0f : -__builtin_inff(),
                                     clamped ? 6.0f : __builtin_inff()};
        (i ? c->kernels : c->reference)->depthwise_f32(&g);
    }
    expect_same(c, "depthwise_f32", out[0], out[1], count * 4, what);
    release();
}

/* Pictures: the kernel by pointer of the reference, with pointers that do the padding, is what the picture kernel must equal. */
struct picture {
    struct e8_depthwise_image g;
    const void **rows;
    int32_t oh;
};

static void draw_picture(struct context *c, struct picture *p, size_t width)
{
    struct e8_depthwise_image *g = &p->g;
    static const int32_t usual[] = {3, 3, 3, 5, 5, 7, 1, 2, 4};
    do
        *g = (struct e8_depthwise_image){
            .kh = usual[between(c, 0, 8)],
            .kw = usual[between(c, 0, 8)],
            .sh = draw_int(c, 1, 2),
            .sw = draw_int(c, 1, draw(c) >> 62 ? 2 : 3),
            .dh = draw(c) >> 62 ? 1 : draw_int(c, 1, 3),
            .dw = draw(c) >> 62 ? 1 : draw_int(c, 1, 3),
            .zero = draw_int(c, -128, 127),
            .channels = between(c, 1, draw(c) >> 63 ? 20 : 70),
        };
    while (!e8_depthwise_fits(g->kh, g->kw, g->sw, g->dh, g->dw));
    int32_t reach_y = (g->kh - 1) * g->dh + 1, reach_x = (g->kw - 1) * g->dw + 1;
    g->pt = draw_int(c, 0, reach_y - 1);
    g->pl = draw_int(c, 0, reach_x - 1);
    p->oh = draw_int(c, 1, c->small ? 3 : 12);
    g->ow = draw_int(c, 1, draw(c) >> 62 || c->small ? 20 : 90);
    if (c->small) g->channels = (g->channels - 1) % 36 + 1;
    /* The last positions may lie in the padding as well. */
    g->ih = (p->oh - 1) * g->sh + reach_y - g->pt - draw_int(c, 0, reach_y - 1);
    g->iw = (g->ow - 1) * g->sw + reach_x - g->pl - draw_int(c, 0, reach_x - 1);
    if (g->ih < 1) g->ih = 1;
    if (g->iw < 1) g->iw = 1;
    g->first = draw(c) >> 63 ? 0 : draw_int(c, 0, p->oh - 1);
    g->last = draw(c) >> 63 ? p->oh : draw_int(c, g->first + 1, p->oh);
    g->w_stride = padded(g->channels);
    g->scratch = take_front(c, E8_DEPTHWISE_SCRATCH);
    size_t elements = (size_t)g->ih * (size_t)g->iw * g->channels;
    void *x = take(c, elements * width), *zeros = take(c, g->channels * width);
    if (width == 1) {
        fill_bytes(c, x, elements, (enum fill)between(c, 0, FILL_COUNT - 1));
        memset(zeros, g->zero, g->channels);
    } else {
        fill_floats(c, x, elements);
        memset(zeros, 0, g->channels * width);
    }
    g->x = x;
    p->rows = take(c, sizeof(void *) * (size_t)(g->kh * g->kw) * (size_t)(p->oh * g->ow));
    for (int32_t i = 0; i < g->kh * g->kw; i++) {
        for (int32_t j = 0; j < p->oh * g->ow; j++) {
            int32_t iy = j / g->ow * g->sh - g->pt + i / g->kw * g->dh, ix = j % g->ow * g->sw - g->pl + i % g->kw * g->dw;
            bool inside = iy >= 0 && iy < g->ih && ix >= 0 && ix < g->iw;
            p->rows[i * p->oh * g->ow + j] = inside ? (const char *)x + (size_t)(iy * g->iw + ix) * g->channels * width : zeros;
        }
    }
}

static void describe(char *what, size_t size, const struct e8_depthwise_image *g)
{
    snprintf(what, size, "in %dx%d out rows %d-%d of width %d kernel %dx%d stride %d,%d dilation %d,%d pad %d,%d channels %zu", (int)g->ih,
             (int)g->iw, (int)g->first, (int)g->last, (int)g->ow, (int)g->kh, (int)g->kw, (int)g->sh, (int)g->sw, (int)g->dh, (int)g->dw,
             (int)g->pt, (int)g->pl, g->channels);
}

static void check_image_s8(struct context *c)
{
    struct picture p;
    if (!c->kernels->depthwise_image_s8) return;
    draw_picture(c, &p, 1);
    struct e8_depthwise_image *g = &p.g;
    size_t taps = (size_t)(g->kh * g->kw), pixels = (size_t)(p.oh * g->ow), bytes = pixels * g->channels, n = g->w_stride;
    int8_t *w = take(c, n * taps), *out[2] = {take(c, bytes), take(c, bytes)}, table[256];
    int32_t *init = take(c, n * 4);
    float *multiplier = take(c, n * 4);
    float larger = draw(c) >> 60 ? 1.0f : 1000.0f; /* multipliers of 1 and more, which some kernels leave to others */
    int32_t reach = draw(c) >> 60 ? 50000 : INT32_MAX - 2000000;
    fill_weights(c, w, n * taps, (enum fill)between(c, 0, FILL_COUNT - 1));
    for (size_t i = 0; i < n; i++) {
        init[i] = draw_int(c, -reach, reach);
        multiplier[i] = larger * (draw(c) >> 63 ? 1.0f / 256 : (float)between(c, 1, 1000) * 1e-5f);
    }
    fill_bytes(c, table, sizeof table, FILL_RANDOM);
    struct e8_requant q = {
        .init = init,
        .multiplier = multiplier,
        .weight_sum = init,
        .table = between(c, 0, 7) ? NULL : table,
        .zero_point = draw_int(c, -128, 127),
        .low = draw_int(c, -128, 0),
        .high = draw_int(c, 1, 127),
    };
    char what[160];
    describe(what, sizeof what, g);
    for (int i = 0; i < 2; i++) memset(out[i], 0x55, bytes);
    size_t from = (size_t)(g->first * g->ow), count = (size_t)((g->last - g->first) * g->ow);
    struct e8_depthwise_s8 reference = {count, g->channels, taps, p.rows + from, pixels, w, n, out[0] + from * g->channels, g->channels};
    c->reference->depthwise_s8(&reference, &q);
    g->w = w;
    g->out = out[1];
    c->kernels->depthwise_image_s8(g, &q);
    expect_same(c, "depthwise_image_s8", out[0], out[1], bytes, what);
    release();
}

static void check_image_f32(struct context *c)
{
    struct picture p;
    if (!c->kernels->depthwise_image_f32) return;
    draw_picture(c, &p, 4);
    struct e8_depthwise_image *g = &p.g;
    size_t taps = (size_t)(g->kh * g->kw), pixels = (size_t)(p.oh * g->ow), bytes = pixels * g->channels * 4, n = g->w_stride;
    float *w = take(c, n * taps * 4), *bias = take(c, n * 4), *out[2] = {take(c, bytes), take(c, bytes)};
    fill_floats(c, w, n * taps);
    fill_floats(c, bias, n);
    char what[160];
    describe(what, sizeof what, g);
    for (int i = 0; i < 2; i++) memset(out[i], 0x55, bytes);
    g->w = w;
    g->bias = draw(c) >> 63 ? bias : NULL;
    bool clamped = draw(c) >> 63;
    g->low = clamped ? 0.0f : -__builtin_inff();
    g->high = clamped ? 6.0f : __builtin_inff();
    size_t from = (size_t)(g->first * g->ow), count = (size_t)((g->last - g->first) * g->ow);
    struct e8_depthwise_f32 reference = {
        count, g->channels, taps, p.rows + from, pixels, w, n, g->bias, out[0] + from * g->channels, g->channels, g->low, g->high};
    c->reference->depthwise_f32(&reference);
    g->out = out[1];
    c->kernels->depthwise_image_f32(g);
    expect_same(c, "depthwise_image_f32", out[0], out[1], bytes, what);
    release();
}

static void check_pool(struct context *c)
{
    size_t taps = between(c, 1, 20), count = between(c, 1, 100);
    const int8_t *rows[20];
    for (size_t t = 0; t < taps; t++) {
        int8_t *p = t < 8 ? take(c, count) : (int8_t *)(uintptr_t)rows[t - 8];
        if (t < 8) fill_bytes(c, p, count, (enum fill)between(c, 0, FILL_COUNT - 1));
        rows[t] = p;
    }
    int8_t *top[2] = {take(c, count), take(c, count)};
    int32_t *sum[2] = {take(c, count * 4), take(c, count * 4)};
    char what[100];
    snprintf(what, sizeof what, "taps %zu count %zu", taps, count);
    for (int i = 0; i < 2; i++) {
        const struct e8_kernels *k = i ? c->kernels : c->reference;
        for (size_t j = 0; j < count; j++) sum[i][j] = (int32_t)j * 1000;
        k->max_s8(rows, taps, count, top[i]);
        k->sum_s8(rows, taps, count, sum[i]);
    }
    expect_same(c, "max_s8", top[0], top[1], count, what);
    expect_same(c, "sum_s8", sum[0], sum[1], count * 4, what);
    release();
}

static void check(struct context *c)
{
    for (uint64_t i = 0; i < c->cases; i++) {
        if (WANTED(c, depthwise_s8)) check_depthwise_s8(c);
        if (WANTED(c, depthwise_f32)) check_depthwise_f32(c);
        if (WANTED(c, depthwise_image_s8)) check_image_s8(c);
        if (WANTED(c, depthwise_image_f32)) check_image_f32(c);
        if (WANTED(c, max_s8) || WANTED(c, sum_s8)) check_pool(c);
    }
}

struct bench {
    const struct e8_kernels *k;
    struct e8_depthwise_s8 g;
    struct e8_depthwise_f32 f;
    struct e8_requant q;
    const int8_t *rows[9];
    int8_t out[1024];
    int32_t sums[1024];
};

static void call_s8(void *argument)
{
    struct bench *b = argument;
    b->k->depthwise_s8(&b->g, &b->q);
}

static void call_f32(void *argument)
{
    struct bench *b = argument;
    b->k->depthwise_f32(&b->f);
}

static void call_max(void *argument)
{
    struct bench *b = argument;
    b->k->max_s8(b->rows, 9, 64, b->out);
}

static void call_sum(void *argument)
{
    struct bench *b = argument;
    b->k->sum_s8(b->rows, 9, 64, b->sums);
}

struct bench_image {
    const struct e8_kernels *k;
    struct e8_depthwise_image g;
    struct e8_requant q;
};

static void call_image_s8(void *argument)
{
    struct bench_image *b = argument;
    b->k->depthwise_image_s8(&b->g, &b->q);
}

static void call_image_f32(void *argument)
{
    struct bench_image *b = argument;
    b->k->depthwise_image_f32(&b->g);
}

/* Layers of MobileNets and of keyword spotting. */
static void bench_images(struct context *c)
{
    static const struct {
        int32_t side, kernel, stride;
        size_t channels;
    } LAYERS[] = {{112, 3, 1, 32}, {112, 3, 2, 96}, {56, 3, 1, 144}, {28, 3, 1, 192}, {14, 3, 1, 384}, {14, 3, 2, 576},
                  {7, 3, 1, 960},  {28, 5, 1, 240}, {14, 5, 1, 480}, {24, 3, 1, 16},  {48, 3, 1, 8},   {25, 3, 1, 64}};
    for (size_t i = 0; i < sizeof LAYERS / sizeof LAYERS[0]; i++) {
        static struct bench_image b;
        int32_t side = LAYERS[i].side, k = LAYERS[i].kernel, stride = LAYERS[i].stride, out = (side - 1) / stride + 1;
        size_t n = LAYERS[i].channels, elements = (size_t)(side * side) * n, p = padded(n);
        char name[80];
        int8_t *x = malloc(elements), *w = malloc(25 * p);
        float *xf = malloc(elements * 4), *wf = malloc(25 * p * 4), *multiplier = malloc(p * 4);
        int32_t *init = calloc(p, 4);
        fill_bytes(c, x, elements, FILL_RANDOM);
        fill_weights(c, w, 25 * p, FILL_RANDOM);
        fill_floats(c, xf, elements);
        fill_floats(c, wf, 25 * p);
        for (size_t j = 0; j < p; j++) multiplier[j] = 1e-3f;
        b.k = c->kernels;
        b.q = (struct e8_requant){.init = init, .multiplier = multiplier, .weight_sum = init, .low = -128, .high = 127};
        b.g = (struct e8_depthwise_image){.ih = side,
                                          .iw = side,
                                          .ow = out,
                                          .kh = k,
                                          .kw = k,
                                          .sh = stride,
                                          .sw = stride,
                                          .dh = 1,
                                          .dw = 1,
                                          .pt = k / 2,
                                          .pl = k / 2,
                                          .last = out,
                                          .channels = n,
                                          .w_stride = p,
                                          .low = -1e30f,
                                          .high = 1e30f};
        b.g.scratch = aligned_alloc(64, E8_DEPTHWISE_SCRATCH + 64);
        b.g.out = malloc(elements * 4);
        double macs = (double)(out * out * k * k) * (double)n;
        b.g.x = x;
        b.g.w = w;
        snprintf(name, sizeof name, "depthwise_image_s8 %dx%d/%d, %dx%dx%zu", (int)k, (int)k, (int)stride, (int)side, (int)side, n);
        report_rate(c, name, macs, "MACs", c->limit_s8, time_call(call_image_s8, &b));
        b.g.x = xf;
        b.g.w = wf;
        snprintf(name, sizeof name, "depthwise_image_f32 %dx%d/%d, %dx%dx%zu", (int)k, (int)k, (int)stride, (int)side, (int)side, n);
        report_rate(c, name, macs, "MACs", c->limit_f32, time_call(call_image_f32, &b));
        free(x);
        free(w);
        free(xf);
        free(wf);
        free(multiplier);
        free(init);
        free(b.g.scratch);
        free(b.g.out);
    }
}

static void bench(struct context *c)
{
    if (c->kernels->depthwise_image_s8) bench_images(c);
    static struct bench b;
    static const size_t channels[] = {8, 16, 32, 64, 144, 384};
    static const size_t sides[] = {3, 5};
    static const void *rows[25 * 28];
    enum { PIXELS = 28 };
    b.k = c->kernels;
    int8_t *picture = take_front(c, 5 * 40 * 400);
    float *picture_f32 = take_front(c, 5 * 40 * 400 * 4), *multiplier = take_front(c, 4096), *w_f32 = take_front(c, 25 * 400 * 4),
          *bias = take_front(c, 4096);
    int8_t *w = take_front(c, 25 * 400), *out = take_front(c, PIXELS * 400);
    float *out_f32 = take_front(c, PIXELS * 400 * 4);
    int32_t *init = take_front(c, 4096);
    fill_bytes(c, picture, 5 * 40 * 400, FILL_RANDOM);
    fill_floats(c, picture_f32, 5 * 40 * 400);
    fill_weights(c, w, 25 * 400, FILL_RANDOM);
    fill_floats(c, w_f32, 25 * 400);
    memset(init, 0, 4096);
    memset(bias, 0, 4096);
    for (int i = 0; i < 1024; i++) multiplier[i] = 1e-3f;
    b.q = (struct e8_requant){.init = init, .multiplier = multiplier, .weight_sum = init, .low = -128, .high = 127};
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
            size_t side = sides[s], n = channels[i];
            char name[60];
            for (size_t t = 0; t < side * side; t++)
                for (size_t p = 0; p < PIXELS; p++) rows[t * PIXELS + p] = picture + (t / side * 40 + t % side + p) * n;
            b.g = (struct e8_depthwise_s8){PIXELS, n, side * side, rows, PIXELS, w, padded(n), out, n};
            snprintf(name, sizeof name, "depthwise_s8 %zux%zu, %zu channels", side, side, n);
            report_rate(c, name, (double)(side * side * PIXELS * n), "MACs", c->limit_s8, time_call(call_s8, &b));
            for (size_t t = 0; t < side * side; t++)
                for (size_t p = 0; p < PIXELS; p++) rows[t * PIXELS + p] = picture_f32 + (t / side * 40 + t % side + p) * n;
            b.f = (struct e8_depthwise_f32){PIXELS, n, side * side, rows, PIXELS, w_f32, padded(n), bias, out_f32, n, -1e30f, 1e30f};
            snprintf(name, sizeof name, "depthwise_f32 %zux%zu, %zu channels", side, side, n);
            report_rate(c, name, (double)(side * side * PIXELS * n), "MACs", c->limit_f32, time_call(call_f32, &b));
        }
    }
    for (int t = 0; t < 9; t++) b.rows[t] = picture + t * 64;
    report_rate(c, "max_s8 9 taps, 64 channels", 10 * 64, "bytes", c->limit_bytes, time_call(call_max, &b));
    report_rate(c, "sum_s8 9 taps, 64 channels", (9 + 8) * 64, "bytes", c->limit_bytes, time_call(call_sum, &b));
    release();
}

const struct family family_depthwise = {"depthwise", check, bench};
