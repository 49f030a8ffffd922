/* SPDX-License-Identifier: Apache-2.0
 *
 * The transforms of the Winograd convolution (winograd_loops.h). */
#include "check.h"

enum { POINTS = 16, MOST_CHANNELS = 256 };

static void check_input(struct context *c)
{
    size_t channels = 8 * between(c, 1, 9), stride = channels + between(c, 0, 20), count = (POINTS - 1) * stride + channels;
    const float *pixels[POINTS];
    float *v[2] = {take(c, count * 4), take(c, count * 4)};
    for (size_t i = 0; i < POINTS; i++) {
        float *pixel = i < 4 ? take(c, channels * 4) : (float *)(uintptr_t)pixels[between(c, 0, 3)];
        if (i < 4) fill_floats(c, pixel, channels);
        pixels[i] = pixel;
    }
    for (int i = 0; i < 2; i++) {
        memset(v[i], 0x55, count * 4);
        (i ? c->kernels : c->reference)->winograd_input(pixels, v[i], stride, channels);
    }
    char what[60];
    snprintf(what, sizeof what, "channels %zu stride %zu", channels, stride);
    expect_same(c, "winograd_input", v[0], v[1], count * 4, what);
    release();
}

static void check_weights(struct context *c)
{
    size_t elements = 8 * between(c, 1, 20), stride = elements + between(c, 0, 20), count = 3 * stride + elements, row = between(c, 0, 3);
    float *w = take(c, 9 * elements * 4), *u[2] = {take(c, count * 4), take(c, count * 4)};
    fill_floats(c, w, 9 * elements);
    for (int i = 0; i < 2; i++) {
        memset(u[i], 0x55, count * 4);
        (i ? c->kernels : c->reference)->winograd_weights(w, u[i], stride, elements, row);
    }
    char what[60];
    snprintf(what, sizeof what, "elements %zu stride %zu row %zu", elements, stride, row);
    expect_same(c, "winograd_weights", u[0], u[1], count * 4, what);
    release();
}

static void check_output(struct context *c)
{
    size_t channels = 8 * between(c, 1, 9), stride = channels + between(c, 0, 20), count = (POINTS - 1) * stride + channels;
    float *m = take(c, count * 4), *out[2] = {take(c, 4 * channels * 4), take(c, 4 * channels * 4)}, *residual = take(c, 4 * channels * 4);
    bool in_place = draw(c) >> 63, bounded = draw(c) >> 63;
    fill_floats(c, m, count);
    fill_floats(c, residual, 4 * channels);
    for (int i = 0; i < 2; i++) {
        struct e8_winograd_output p = {.m = m, .stride = stride, .channels = channels};
        p.low = bounded ? 0.0f : -__builtin_inff();
        p.high = bounded ? 6.0f : __builtin_inff();
        memcpy(out[i], residual, 4 * channels * 4);
        for (size_t k = 0; k < 4; k++) {
            p.out[k] = out[i] + k * channels;
            p.residual[k] = in_place ? p.out[k] : residual + k * channels;
        }
        (i ? c->kernels : c->reference)->winograd_output(&p);
    }
    char what[80];
    snprintf(what, sizeof what, "channels %zu stride %zu in place %d", channels, stride, in_place);
    expect_same(c, "winograd_output", out[0], out[1], 4 * channels * 4, what);
    release();
}

/* The 3x3 convolution of a 4x4 tile by its definition, in double precision: the transforms belong together. */
static void check_product(struct context *c)
{
    const struct e8_kernels *k = c->kernels;
    float d[POINTS][8], g[9][8], v[POINTS][8], u[POINTS][8], m[POINTS][8], y[4][8], zeros[8] = {0};
    const float *pixels[POINTS];
    fill_floats(c, d[0], sizeof d / 4);
    fill_floats(c, g[0], sizeof g / 4);
    for (size_t i = 0; i < POINTS; i++) pixels[i] = d[i];
    k->winograd_input(pixels, v[0], 8, 8);
    for (size_t row = 0; row < 4; row++) k->winograd_weights(g[0], u[4 * row], 8, 8, row);
    for (size_t i = 0; i < POINTS; i++)
        for (size_t e = 0; e < 8; e++) m[i][e] = v[i][e] * u[i][e];
    struct e8_winograd_output p = {m[0], 8, 8, {y[0], y[1], y[2], y[3]}, {zeros, zeros, zeros, zeros}, -1e30f, 1e30f};
    k->winograd_output(&p);
    uint8_t expected = 1, got = 1;
    for (size_t i = 0; i < 4; i++) {
        for (size_t e = 0; e < 8; e++) {
            double sum = 0, most = 1e-30;
            for (size_t t = 0; t < 9; t++) sum += (double)d[(i / 2 + t / 3) * 4 + i % 2 + t % 3][e] * (double)g[t][e];
            for (size_t a = 0; a < POINTS; a++)
                for (size_t b = 0; b < 9; b++)
                    if (__builtin_fabs((double)d[a][e] * (double)g[b][e]) > most) most = __builtin_fabs((double)d[a][e] * (double)g[b][e]);
            if (__builtin_fabs(sum - (double)y[i][e]) > 1e-5 * most) got = 0;
        }
    }
    expect_same(c, "winograd", &expected, &got, 1, "a tile against its definition");
}

static void check(struct context *c)
{
    for (uint64_t i = 0; i < c->cases; i++) {
        if (WANTED(c, winograd_input)) check_input(c);
        if (WANTED(c, winograd_weights)) check_weights(c);
        if (WANTED(c, winograd_output)) check_output(c);
        if (WANTED(c, winograd_output)) check_product(c);
    }
}

struct bench {
    const struct e8_kernels *k;
    const float *pixels[POINTS];
    float *v, *w;
    struct e8_winograd_output output;
};

static void call_input(void *argument)
{
    const struct bench *b = argument;
    b->k->winograd_input(b->pixels, b->v, MOST_CHANNELS + 16, MOST_CHANNELS);
}

static void call_weights(void *argument)
{
    const struct bench *b = argument;
    for (size_t row = 0; row < 4; row++) b->k->winograd_weights(b->w, b->v, MOST_CHANNELS + 16, MOST_CHANNELS, row);
}

static void call_output(void *argument)
{
    const struct bench *b = argument;
    b->k->winograd_output(&b->output);
}

/* Bytes count when they are read and when they are written. */
static void bench(struct context *c)
{
    struct bench b = {.k = c->kernels};
    size_t floats = POINTS * (MOST_CHANNELS + 16), row = 4 * MOST_CHANNELS;
    float *x = take_front(c, floats * 4);
    b.v = take_front(c, floats * 4);
    b.w = x;
    fill_floats(c, x, floats);
    fill_floats(c, b.v, floats);
    for (size_t i = 0; i < POINTS; i++) b.pixels[i] = x + i * MOST_CHANNELS;
    b.output = (struct e8_winograd_output){.m = b.v, .stride = MOST_CHANNELS + 16, .channels = MOST_CHANNELS, .low = 0.0f, .high = 6.0f};
    for (size_t i = 0; i < 4; i++) b.output.residual[i] = b.output.out[i] = x + i * MOST_CHANNELS;
    report_rate(c, "winograd_input 256", 32.0 * (double)row, "bytes", c->limit_bytes, time_call(call_input, &b));
    report_rate(c, "winograd_weights 256", (2 * 3 + 2 * 9 + 16.0) * (double)row, "bytes", c->limit_bytes, time_call(call_weights, &b));
    report_rate(c, "winograd_output 256", 24.0 * (double)row, "bytes", c->limit_bytes, time_call(call_output, &b));
    release();
}

const struct family family_winograd = {"winograd", check, bench};
