/* SPDX-License-Identifier: Apache-2.0
 *
 * int16 kernels. */
#include "check.h"

enum { MOST_ROWS = 5, MOST_POINTERS = 64, LONGEST = 700 };

static size_t padded(size_t n)
{
    return (n + E8_NR - 1) / E8_NR * E8_NR;
}

/* Codes of all sizes, or one end of the range everywhere. */
static void fill_codes(struct context *c, int16_t *p, size_t count)
{
    static const int16_t ends[] = {-32768, -32767, 32767, 0};
    size_t fill = between(c, 0, 6);
    for (size_t i = 0; i < count; i++) p[i] = fill < 4 ? ends[fill] : (int16_t)draw(c);
}

static const struct e8_kernels *side(const struct context *c, int i)
{
    return i ? c->kernels : c->reference;
}

static void check_conversions(struct context *c)
{
    size_t count = between(c, 1, 100);
    int16_t *codes = take(c, count * 2), *back[2] = {take(c, count * 2), take(c, count * 2)};
    float *real = take(c, count * 4), *y[2] = {take(c, count * 4), take(c, count * 4)}, scale = draw_float(c);
    fill_codes(c, codes, count);
    fill_floats(c, real, count);
    /* Ties, numbers out of range, and what is no number. */
    for (size_t i = 0; i < count; i++) real[i] = i % 3 ? real[i] * 300.0f : (float)draw_int(c, -40000, 40000) + 0.5f;
    float high = draw(c) >> 63 ? 32767.0f : 1000.0f;
    if (draw(c) >> 63) real[between(c, 0, count - 1)] = __builtin_nanf("");
    for (int i = 0; i < 2; i++) {
        side(c, i)->dequantise_s16(codes, y[i], count, scale);
        side(c, i)->quantise_s16(real, back[i], count, 1.0f, -32767.0f, high);
    }
    char what[60];
    snprintf(what, sizeof what, "count %zu scale %g", count, (double)scale);
    expect_same(c, "dequantise_s16", y[0], y[1], count * 4, what);
    expect_same(c, "quantise_s16", back[0], back[1], count * 2, what);
    release();
}

static void check_finish(struct context *c)
{
    size_t count = between(c, 1, 100);
    double *sums = take(c, count * 8), *init = take(c, count * 8);
    float *multiplier = take(c, count * 4), *factor = take(c, count * 4);
    int16_t *residual = take(c, count * 2), *y[2] = {take(c, count * 2), take(c, count * 2)};
    bool added = draw(c) >> 63, in_place = added && draw(c) >> 63;
    fill_codes(c, residual, count);
    for (size_t i = 0; i < count; i++) {
        int shift = draw_int(c, 14, 50);
        sums[i] = (double)((int64_t)draw(c) >> shift);
        init[i] = (double)((int64_t)draw(c) >> (shift < 13 ? 13 : shift));
        multiplier[i] = draw(c) >> 63 ? 0.5f : (float)(1 << 30) / (float)((uint64_t)1 << (63 - shift));
        factor[i] = draw(c) >> 63 ? 0.5f : draw_float(c) * 1e6f;
    }
    struct e8_requant_s16 q = {.init = init, .multiplier = multiplier, .residual_multiplier = factor, .high = 32767.0f};
    q.low = draw(c) >> 63 ? 0.0f : -32767.0f;
    for (int i = 0; i < 2; i++) {
        memcpy(y[i], residual, count * 2);
        side(c, i)->finish_s16(sums, !added ? NULL : in_place ? y[i] : residual, y[i], count, &q);
    }
    char what[60];
    snprintf(what, sizeof what, "count %zu residual %d in place %d", count, added, in_place);
    expect_same(c, "finish_s16", y[0], y[1], count * 2, what);
    release();
}

/* The first rows end or begin at an unreadable page. */
static void draw_rows(struct context *c, const void **rows, size_t count, size_t segment)
{
    int16_t *shared = take(c, segment * 2 * count);
    for (size_t i = 0; i < count; i++) {
        int16_t *p = i >= 4 ? shared + i * segment : i % 2 ? take(c, segment * 2) : take_front(c, segment * 2);
        fill_codes(c, p, segment);
        rows[i] = p;
    }
}

static void check_gemm(struct context *c)
{
    const void *rows[MOST_POINTERS];
    size_t m = between(c, 1, MOST_ROWS), n = between(c, 1, 40), taps = draw(c) >> 63 ? 1 : between(c, 2, 9);
    size_t segment = taps == 1 ? between(c, 1, draw(c) >> 62 ? 70 : LONGEST) : 4 * between(c, 1, 40), a_stride = m + between(c, 0, 2);
    size_t bytes = padded(n) * ((taps * segment + 3) / 4 * 4), stride = padded(n) + 16 * between(c, 0, 2);
    size_t size = ((m - 1) * stride + padded(n)) * sizeof(double);
    int8_t *w = (int8_t *)(((uintptr_t)take(c, bytes + 64) + 63) / 64 * 64);
    double *out[2] = {take(c, size), take(c, size)};
    enum fill fill = (enum fill)between(c, 0, FILL_COUNT - 1);
    fill_bytes(c, w, bytes, fill);
    draw_rows(c, rows, taps * m, segment);
    for (size_t t = taps; t-- > 0;) memmove(rows + t * a_stride, rows + t * m, m * sizeof *rows);
    for (int i = 0; i < 2; i++) {
        memset(out[i], 0x55, size);
        struct e8_gemm_s16 g = {m, n, taps, segment, rows, a_stride, w, out[i], stride};
        side(c, i)->gemm_s16(&g);
    }
    char what[90];
    snprintf(what, sizeof what, "m %zu n %zu taps %zu segment %zu fill %d", m, n, taps, segment, (int)fill);
    expect_same(c, "gemm_s16", out[0], out[1], size, what);
    release();
}

static void check_depthwise(struct context *c)
{
    const void *rows[MOST_POINTERS];
    size_t channels = between(c, 1, 70), taps = between(c, 1, MOST_POINTERS), size = padded(channels) * sizeof(double);
    int8_t *w = take(c, padded(channels) * taps);
    double *out[2] = {take(c, size), take(c, size)};
    fill_bytes(c, w, padded(channels) * taps, (enum fill)between(c, 0, FILL_COUNT - 1));
    draw_rows(c, rows, taps, channels);
    for (int i = 0; i < 2; i++) {
        struct e8_depthwise_s16 g = {.channels = channels, .taps = taps, .a = rows, .a_stride = 1, .w = w, .out = out[i]};
        g.w_stride = padded(channels);
        side(c, i)->depthwise_s16(&g);
    }
    char what[60];
    snprintf(what, sizeof what, "channels %zu taps %zu", channels, taps);
    expect_same(c, "depthwise_s16", out[0], out[1], channels * sizeof(double), what);
    release();
}

static void check(struct context *c)
{
    for (uint64_t i = 0; i < c->cases; i++) {
        if (WANTED(c, quantise_s16) || WANTED(c, dequantise_s16)) check_conversions(c);
        if (WANTED(c, finish_s16)) check_finish(c);
        if (WANTED(c, gemm_s16)) check_gemm(c);
        if (WANTED(c, depthwise_s16)) check_depthwise(c);
    }
}

/* One matrix product: 48 rows of 576 values, 128 outputs. */
struct product {
    const struct e8_kernels *kernels;
    struct e8_gemm_s16 g;
};

static void multiply(void *argument)
{
    struct product *p = argument;
    p->kernels->gemm_s16(&p->g);
}

static void bench(struct context *c)
{
    static int16_t a[48 * 576];
    static double out[48 * 128];
    static _Alignas(64) int8_t w[128 * 576];
    const void *rows[48];
    for (size_t i = 0; i < 48; i++) rows[i] = a + i * 576;
    struct product p = {c->kernels, {48, 128, 1, 576, rows, 48, w, out, 128}};
    report_rate(c, "gemm_s16", 48.0 * 576 * 128, "MACs", c->limit_s8 / 2, time_call(multiply, &p));
}

const struct family family_int16 = {"int16", check, bench};
