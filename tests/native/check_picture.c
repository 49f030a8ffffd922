/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution of pictures, against gemm_s8 of the reference on gathered rows. */
#include "check.h"

enum { MAX_SIDE = 24, MOST_CHANNELS = 20 };

struct picture {
    struct e8_conv_picture g;
    int32_t oh;
    size_t k, bytes; /* of the kernel, and of the picture's outputs */
    struct e8_requant q;
    int8_t table[256];
};

static size_t padded(size_t n)
{
    return (n + E8_NR - 1) / E8_NR * E8_NR;
}

static int32_t side(struct context *c, int32_t low, int32_t high)
{
    return draw_int(c, low, high);
}

/* A shape whose kernel fits the padded picture and whose scratch fits. */
static void draw_shape(struct context *c, struct picture *p)
{
    struct e8_conv_picture *g = &p->g;
    do {
        int32_t after = side(c, 0, 3), below = side(c, 0, 3);
        *g = (struct e8_conv_picture){
            .ih = side(c, 1, MAX_SIDE), .iw = side(c, 1, MAX_SIDE), .kh = side(c, 1, 7), .kw = side(c, 1, 7), .sh = side(c, 1, 3)};
        g->sw = side(c, 1, 3);
        g->dh = side(c, 1, draw(c) >> 62 ? 1 : 3);
        g->pt = side(c, 0, 3);
        g->pl = side(c, 0, draw(c) >> 60 ? 3 : 40);
        g->zero = side(c, -128, 127);
        g->channels = between(c, 1, draw(c) >> 63 ? 4 : MOST_CHANNELS);
        g->n = between(c, 1, draw(c) >> 62 ? 40 : 70);
        p->oh = (g->ih + g->pt + below - (g->kh - 1) * g->dh - 1) / g->sh + 1;
        g->ow = (g->iw + g->pl + after - g->kw) / g->sw + 1;
        if (g->ih + g->pt + below <= (g->kh - 1) * g->dh || g->iw + g->pl + after < g->kw) continue;
        p->k = (size_t)(g->kh * g->kw) * g->channels;
        p->bytes = (size_t)(p->oh * g->ow) * g->n;
        if (e8_conv_picture_scratch(g->ow, g->kh, g->kw, g->sw, (int64_t)g->channels, (int64_t)g->n)) return;
    } while (true);
}

static void draw_requant(struct context *c, struct picture *p, bool residual, const int32_t *weight_sum)
{
    size_t n = padded(p->g.n);
    int32_t *init = take(c, n * 4), reach = (int32_t)p->k * 3000 + 5;
    float *multiplier = take(c, n * 4), *residual_multiplier = take(c, n * 4);
    for (size_t i = 0; i < n; i++) {
        init[i] = draw_int(c, -reach, reach);
        multiplier[i] = draw(c) >> 62 ? 0.5f / (float)between(c, 1, 8) : 200.0f / (float)(reach * 10);
        residual_multiplier[i] = draw_float(c) * 100.0f;
    }
    fill_bytes(c, p->table, sizeof p->table, FILL_RANDOM);
    p->q = (struct e8_requant){
        .init = init,
        .multiplier = multiplier,
        .weight_sum = weight_sum,
        .residual_multiplier = residual ? residual_multiplier : NULL,
        .table = between(c, 0, 7) ? NULL : p->table,
        .zero_point = draw_int(c, -128, 127),
        .low = draw_int(c, -128, 0),
        .high = draw_int(c, 1, 127),
        .residual_zero = draw_int(c, -128, 127),
    };
}

/* Code at (iy, ix, channel), the padding's outside. */
static int8_t code_at(const struct e8_conv_picture *g, int32_t iy, int32_t ix, size_t channel)
{
    bool inside = iy >= 0 && iy < g->ih && ix >= 0 && ix < g->iw;
    return inside ? g->x[((size_t)iy * (size_t)g->iw + (size_t)ix) * g->channels + channel] : (int8_t)g->zero;
}

static void run_reference(struct context *c, const struct picture *p, int8_t *out, const int8_t *residual)
{
    const struct e8_conv_picture *g = &p->g;
    int8_t row[7 * 7 * MOST_CHANNELS];
    const void *rows[1] = {row};
    for (int32_t y = g->first; y < g->last; y++) {
        for (int32_t x = 0; x < g->ow; x++) {
            for (size_t k = 0; k < p->k; k++) {
                int32_t tap = (int32_t)(k / g->channels);
                row[k] = code_at(g, y * g->sh - g->pt + tap / g->kw * g->dh, x * g->sw - g->pl + tap % g->kw, k % g->channels);
            }
            size_t at = (size_t)(y * g->ow + x) * g->n;
            struct e8_gemm_s8 one = {.m = 1, .n = g->n, .taps = 1, .segment = p->k, .a = rows, .a_stride = 1, .w = g->w, .out = out + at};
            if (residual) one.residual = residual + at;
            c->reference->gemm_s8(&one, &p->q);
        }
    }
}

void check_picture(struct context *c)
{
    struct picture p;
    struct e8_conv_picture *g = &p.g;
    if (!c->kernels->conv_picture_s8) return;
    draw_shape(c, &p);
    bool residual = draw(c) >> 62 == 0, in_place = residual && draw(c) >> 63;
    size_t pixels = (size_t)(g->ih * g->iw) * g->channels, codes = padded(g->n) * ((p.k + 3) / 4 * 4);
    int8_t *x = draw(c) >> 63 ? take(c, pixels) : take_front(c, pixels), *w = take(c, codes), *added = take(c, p.bytes);
    int8_t *out[2] = {take(c, p.bytes), take(c, p.bytes)};
    fill_bytes(c, x, pixels, (enum fill)between(c, 0, FILL_COUNT - 1));
    fill_bytes(c, added, p.bytes, FILL_RANDOM);
    fill_weights(c, w, codes, (enum fill)between(c, 0, FILL_COUNT - 1));
    int32_t *weight_sum = take(c, padded(g->n) * 4);
    memset(weight_sum, 0, padded(g->n) * 4);
    for (size_t i = 0; i < codes; i++) { /* zeros in the padding */
        size_t k4 = (p.k + 3) / 4, column = i / (k4 * 64) * E8_NR + i % 64 / 4, k = i % (k4 * 64) / 64 * 4 + i % 4;
        if (column >= g->n || k >= p.k) w[i] = 0;
        weight_sum[column] += w[i];
    }
    draw_requant(c, &p, residual, weight_sum);
    g->x = x;
    g->w = w;
    g->first = draw_int(c, 0, p.oh - 1);
    g->last = draw_int(c, g->first + 1, p.oh);
    size_t scratch = e8_conv_picture_scratch(g->ow, g->kh, g->kw, g->sw, (int64_t)g->channels, (int64_t)g->n);
    g->scratch = (void *)((uintptr_t)take(c, (scratch + 63) / 64 * 64) / 64 * 64);
    for (int i = 0; i < 2; i++) {
        if (in_place)
            memcpy(out[i], added, p.bytes);
        else
            memset(out[i], 0x55, p.bytes);
    }
    char what[200];
    snprintf(what, sizeof what, "%dx%dx%zu kernel %dx%d stride %d,%d dilation %d pad %d,%d n %zu rows %d-%d residual %d", g->ih, g->iw,
             g->channels, g->kh, g->kw, g->sh, g->sw, g->dh, g->pt, g->pl, g->n, g->first, g->last, residual);
    run_reference(c, &p, out[0], in_place ? out[0] : residual ? added : NULL);
    g->residual = in_place ? out[1] : residual ? added : NULL;
    g->out = out[1];
    c->kernels->conv_picture_s8(g, &p.q);
    expect_same(c, "conv_picture_s8", out[0], out[1], p.bytes, what);
    release();
}

struct bench {
    const struct e8_kernels *k;
    struct e8_conv_picture g;
    struct e8_requant q;
};

static void call_picture(void *argument)
{
    const struct bench *b = argument;
    b->k->conv_picture_s8(&b->g, &b->q);
}

void bench_picture(struct context *c)
{
    static const struct {
        int32_t size, kernel;
        size_t n;
    } LAYERS[] = {{224, 3, 32}, {224, 7, 64}, {96, 3, 8}};
    struct bench b = {.k = c->kernels};
    if (!b.k->conv_picture_s8) return;
    for (size_t i = 0; i < sizeof LAYERS / sizeof LAYERS[0]; i++) {
        int32_t size = LAYERS[i].size, k = LAYERS[i].kernel, out = size / 2;
        size_t n = LAYERS[i].n, pixels = (size_t)(size * size) * 3, codes = padded(n) * (size_t)(k * k * 3 + 3);
        int8_t *x = malloc(pixels), *w = aligned_alloc(64, (codes + 63) / 64 * 64);
        int32_t *init = calloc(padded(n), 4);
        float *multiplier = malloc(padded(n) * 4);
        fill_bytes(c, x, pixels, FILL_RANDOM);
        fill_weights(c, w, codes, FILL_RANDOM);
        for (size_t j = 0; j < padded(n); j++) multiplier[j] = 1e-3f;
        b.q = (struct e8_requant){.init = init, .multiplier = multiplier, .weight_sum = init, .low = -128, .high = 127};
        b.g = (struct e8_conv_picture){.ih = size, .iw = size, .ow = out, .kh = k, .kw = k, .sh = 2, .sw = 2, .dh = 1, .channels = 3};
        b.g.pt = b.g.pl = k / 2;
        b.g.last = out;
        b.g.n = n;
        b.g.x = x;
        b.g.w = w;
        b.g.out = malloc((size_t)(out * out) * n);
        b.g.scratch = aligned_alloc(64, E8_PICTURE_SCRATCH);
        char name[60];
        snprintf(name, sizeof name, "conv_picture_s8 %dx%d/2, %dx%dx3, %zu outputs", k, k, size, size, n);
        report_rate(c, name, (double)(out * out * k * k * 3) * (double)n, "MACs", c->limit_s8, time_call(call_picture, &b));
        free(x);
        free(w);
        free(init);
        free(multiplier);
        free(b.g.out);
        free(b.g.scratch);
    }
}
