/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise kernels. */
#include "check.h"

static void check_quantise(struct context *c)
{
    size_t count = between(c, 1, 100);
    float *x = take(c, count * 4), *z[2] = {take(c, count * 4), take(c, count * 4)};
    int8_t *y[2] = {take(c, count), take(c, count)}, *codes = take(c, count);
    int32_t zero = draw_int(c, -128, 127);
    float scale = 0.5f / (float)between(c, 1, 100);
    for (size_t i = 0; i < count; i++) {
        x[i] = draw_float(c);
        if (between(c, 0, 3) == 0) x[i] = (float)draw_int(c, -500, 500) * 0.5f * scale; /* ties */
        if (between(c, 0, 40) == 0)
            x[i] = (float[]){__builtin_inff(), -__builtin_inff(), __builtin_nanf(""), 1e38f, -1e38f, -0.0f}[between(c, 0, 5)];
    }
    fill_bytes(c, codes, count, FILL_RANDOM);
    char what[100];
    snprintf(what, sizeof what, "count %zu zero %d", count, (int)zero);
    for (int i = 0; i < 2; i++) {
        const struct e8_kernels *k = i ? c->kernels : c->reference;
        k->quantise(x, y[i], count, 1.0f / scale, zero);
        k->dequantise(codes, z[i], count, scale, zero);
    }
    expect_same(c, "quantise", y[0], y[1], count, what);
    expect_same(c, "dequantise", z[0], z[1], count * 4, what);
    release();
}

static void check_codes(struct context *c)
{
    size_t count = between(c, 1, 100);
    enum fill fill = (enum fill)between(c, 0, FILL_COUNT - 1);
    int8_t *a = take(c, count), *b = take(c, count), *y[2] = {take(c, count), take(c, count)}, *table = take(c, 256);
    fill_bytes(c, a, count, fill);
    fill_bytes(c, b, count, (enum fill)between(c, 0, FILL_COUNT - 1));
    fill_bytes(c, table, 256, FILL_RANDOM);
    struct e8_add_s8 add = {
        .zero0 = draw_int(c, -128, 127),
        .zero1 = draw_int(c, -128, 127),
        .multiplier0 = draw_int(c, -32767, 32767),
        .multiplier1 = draw_int(c, 0, 32767),
        .shift = draw_int(c, 1, 30),
        .zero = draw_int(c, -128, 127),
        .low = draw_int(c, -128, 0),
        .high = draw_int(c, 0, 127),
    };
    struct e8_mul_s8 mul = {
        .zero0 = add.zero0,
        .zero1 = add.zero1,
        .zero = add.zero,
        .low = add.low,
        .high = add.high,
        .multiplier = draw(c) >> 63 ? 0.5f / (float)between(c, 1, 100) : (float)between(c, 1, 100) * 1e-4f,
    };
    char what[100];
    snprintf(what, sizeof what, "count %zu fill %d shift %d", count, (int)fill, (int)add.shift);
    /* In place as well: the output may be either operand. */
    for (int form = 0; form < 2; form++) {
        for (int i = 0; i < 2; i++) {
            memcpy(y[i], a, count);
            (i ? c->kernels : c->reference)->lookup(form ? y[i] : a, y[i], count, table);
        }
        expect_same(c, "lookup", y[0], y[1], count, what);
        for (int i = 0; i < 2; i++) {
            memcpy(y[i], a, count);
            (i ? c->kernels : c->reference)->add_s8(form ? y[i] : a, b, y[i], count, &add);
        }
        expect_same(c, "add_s8", y[0], y[1], count, what);
        for (int i = 0; i < 2; i++) {
            memcpy(y[i], b, count);
            (i ? c->kernels : c->reference)->mul_s8(a, form ? y[i] : b, y[i], count, &mul);
        }
        expect_same(c, "mul_s8", y[0], y[1], count, what);
    }
    release();
}

static void check(struct context *c)
{
    for (uint64_t i = 0; i < c->cases; i++) {
        if (WANTED(c, quantise) || WANTED(c, dequantise)) check_quantise(c);
        if (WANTED(c, lookup) || WANTED(c, add_s8) || WANTED(c, mul_s8)) check_codes(c);
    }
}

enum { COUNT = 8192 };

struct bench {
    const struct e8_kernels *k;
    float *x;
    int8_t *a, *b, *y, *table;
    struct e8_add_s8 add;
    struct e8_mul_s8 mul;
};

static void call_quantise(void *argument)
{
    struct bench *b = argument;
    b->k->quantise(b->x, b->y, COUNT, 10.0f, 3);
}

static void call_dequantise(void *argument)
{
    struct bench *b = argument;
    b->k->dequantise(b->a, b->x, COUNT, 0.1f, 3);
}

static void call_lookup(void *argument)
{
    struct bench *b = argument;
    b->k->lookup(b->a, b->y, COUNT, b->table);
}

static void call_add(void *argument)
{
    struct bench *b = argument;
    b->k->add_s8(b->a, b->b, b->y, COUNT, &b->add);
}

static void call_mul(void *argument)
{
    struct bench *b = argument;
    b->k->mul_s8(b->a, b->b, b->y, COUNT, &b->mul);
}

static void bench(struct context *c)
{
    struct bench b = {.k = c->kernels,
                      .x = take_front(c, COUNT * 4),
                      .a = take_front(c, COUNT),
                      .b = take_front(c, COUNT),
                      .y = take_front(c, COUNT),
                      .table = take_front(c, 256),
                      .add = {1, 2, 20000, 10000, 15, 3, -128, 127},
                      .mul = {1, 2, 3, -128, 127, 0.01f}};
    fill_floats(c, b.x, COUNT);
    fill_bytes(c, b.a, COUNT, FILL_RANDOM);
    fill_bytes(c, b.b, COUNT, FILL_RANDOM);
    fill_bytes(c, b.table, 256, FILL_RANDOM);
    report_rate(c, "quantise", 5 * COUNT, "bytes", c->limit_bytes, time_call(call_quantise, &b));
    report_rate(c, "dequantise", 5 * COUNT, "bytes", c->limit_bytes, time_call(call_dequantise, &b));
    report_rate(c, "lookup", 2 * COUNT, "bytes", c->limit_bytes, time_call(call_lookup, &b));
    report_rate(c, "add_s8", 3 * COUNT, "bytes", c->limit_bytes, time_call(call_add, &b));
    report_rate(c, "mul_s8", 3 * COUNT, "bytes", c->limit_bytes, time_call(call_mul, &b));
    release();
}

const struct family family_elementwise = {"elementwise", check, bench};
