/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels over rows: functions of one variable, softmax, layer normalisation, pooling, the two passes of a resize,
 * requantisation per channel. */
#include "check.h"

#include "schema_generated.h"

enum { LONGEST = 700, MOST_TAPS = 4, MOST_POSITIONS = 9 };

/* Which NaN an invalid operation gives is the processor's business. */
static void same_nan(float *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (p[i] != p[i]) p[i] = __builtin_nanf("");
}

static void expect_same_floats(struct context *c, const char *kernel, float *expected, float *got, size_t count, const char *what)
{
    same_nan(expected, count);
    same_nan(got, count);
    expect_same(c, kernel, expected, got, count * 4, what);
}

/* Mostly usual numbers; now and then the ends of the format. */
static void fill_wild(struct context *c, float *p, size_t count)
{
    static const float ends[] = {0.0f, -0.0f, 1e-40f, -1e-40f, 3.4e38f, -3.4e38f, 1.0f, -1.0f, 0.5f, 2.5f, 88.8f, -103.9f};
    bool wild = draw(c) >> 62 == 0;
    fill_floats(c, p, count);
    for (size_t i = 0; i < count && wild; i++) {
        if (between(c, 0, 9)) continue;
        size_t k = between(c, 0, 14);
        p[i] = k < 12 ? ends[k] : (float[]){__builtin_inff(), -__builtin_inff(), __builtin_nanf("")}[k - 12];
    }
}

static size_t draw_length(struct context *c)
{
    return between(c, 1, draw(c) >> 62 ? 70 : LONGEST);
}

static void check_unary(struct context *c)
{
    size_t count = between(c, 1, 100);
    float *x = take(c, count * 4), *y[2] = {take(c, count * 4), take(c, count * 4)}, alpha = draw_float(c), beta = draw_float(c);
    uint32_t kind = (uint32_t)between(c, 0, UnaryKind_COUNT - 1);
    bool in_place = draw(c) >> 63;
    if (kind == UnaryKind_NOT) kind = UnaryKind_ABS; /* no float form */
    fill_wild(c, x, count);
    for (int i = 0; i < 2; i++) {
        memcpy(y[i], x, count * 4);
        (i ? c->kernels : c->reference)->unary_f32(kind, alpha, beta, in_place ? y[i] : x, y[i], count);
    }
    char what[100];
    snprintf(what, sizeof what, "kind %u alpha %g beta %g count %zu", (unsigned)kind, (double)alpha, (double)beta, count);
    expect_same_floats(c, "unary_f32", y[0], y[1], count, what);
    release();
}

static void check_softmax_f32(struct context *c)
{
    size_t n = draw_length(c);
    float *x = take(c, n * 4), *y[2] = {take(c, n * 4), take(c, n * 4)};
    bool logarithm = draw(c) >> 63, in_place = draw(c) >> 63;
    fill_wild(c, x, n);
    for (int i = 0; i < 2; i++) {
        memcpy(y[i], x, n * 4);
        (i ? c->kernels : c->reference)->softmax_f32(in_place ? y[i] : x, y[i], n, logarithm);
    }
    char what[100];
    snprintf(what, sizeof what, "n %zu logarithm %d in place %d", n, logarithm, in_place);
    expect_same_floats(c, "softmax_f32", y[0], y[1], n, what);
    release();
}

static void check_softmax_s8(struct context *c)
{
    size_t n = draw_length(c);
    int8_t *x = take(c, n), *y[2] = {take(c, n), take(c, n)}, *table = take(c, 256);
    uint16_t *falling = take(c, 512);
    bool in_place = draw(c) >> 63;
    enum fill fill = (enum fill)between(c, 0, FILL_COUNT - 1);
    fill_bytes(c, x, n, fill);
    /* Falls like an exponential: half after so many codes. */
    uint32_t half = (uint32_t)between(c, 1, 60);
    for (uint32_t d = 0; d < 256; d++) falling[255 - d] = (uint16_t)(d / half > 15 ? 0 : 32768u >> d / half);
    for (int i = 0; i < 2; i++) {
        memcpy(y[i], x, n);
        (i ? c->kernels : c->reference)->softmax_s8(in_place ? y[i] : x, y[i], n, falling, table);
    }
    char what[100];
    snprintf(what, sizeof what, "n %zu fill %d half %u in place %d", n, (int)fill, (unsigned)half, in_place);
    expect_same(c, "softmax_s8", y[0], y[1], n, what);
    release();
}

static void check_layer_norm(struct context *c)
{
    size_t n = draw_length(c);
    float *x = take(c, n * 4), *y[2] = {take(c, n * 4), take(c, n * 4)}, *gamma = take(c, n * 4), *beta = take(c, n * 4);
    int8_t *codes = take(c, n), *z[2] = {take(c, n), take(c, n)};
    unsigned form = (unsigned)between(c, 0, 3);
    bool in_place = draw(c) >> 63;
    enum fill fill = (enum fill)between(c, 0, FILL_COUNT - 1);
    fill_wild(c, x, n);
    fill_floats(c, gamma, n);
    fill_floats(c, beta, n);
    fill_bytes(c, codes, n, fill);
    struct e8_layer_norm f = {.gamma = form & 1 ? gamma : NULL, .beta = form & 2 ? beta : NULL, .epsilon = 1e-5f};
    struct e8_layer_norm s = {gamma, beta, draw(c) >> 63 ? 1e-5f : 0.0f, 0.5f / (float)between(c, 1, 100), draw_int(c, -128, 127)};
    for (int i = 0; i < 2; i++) {
        const struct e8_kernels *k = i ? c->kernels : c->reference;
        memcpy(y[i], x, n * 4);
        memcpy(z[i], codes, n);
        k->layer_norm_f32(in_place ? y[i] : x, y[i], n, &f);
        k->layer_norm_s8(in_place ? z[i] : codes, z[i], n, &s);
    }
    char what[100];
    snprintf(what, sizeof what, "n %zu form %u fill %d in place %d", n, form, (int)fill, in_place);
    expect_same_floats(c, "layer_norm_f32", y[0], y[1], n, what);
    expect_same(c, "layer_norm_s8", z[0], z[1], n, what);
    release();
}

static void check_requantise_channels(struct context *c)
{
    size_t count = between(c, 1, 100);
    int32_t *x = take(c, count * 4);
    float *multiplier = take(c, count * 4);
    int8_t *y[2] = {take(c, count), take(c, count)};
    struct e8_requant_row p = {0.0f, draw_int(c, -128, 127), draw_int(c, -128, 0), draw_int(c, 1, 127)};
    for (size_t i = 0; i < count; i++) {
        x[i] = draw(c) >> 61 ? draw_int(c, -60000, 60000) : (draw(c) >> 63 ? INT32_MAX : INT32_MIN);
        multiplier[i] = draw(c) >> 63 ? 1.0f / 256 : (float)between(c, 1, 1000) * 1e-5f;
    }
    for (int i = 0; i < 2; i++) (i ? c->kernels : c->reference)->requantise_channels(x, y[i], count, multiplier, &p);
    char what[100];
    snprintf(what, sizeof what, "count %zu zero %d", count, (int)p.zero_point);
    expect_same(c, "requantise_channels", y[0], y[1], count, what);
    release();
}

/* Weights of a position: they add up to 1, in the integer form to 2048. */
static void draw_columns(struct context *c, struct e8_resize *p, size_t pixels)
{
    size_t entries = p->out * p->taps;
    int32_t *offset = take(c, entries * 4);
    float *weight = take(c, entries * 4);
    int16_t *fixed = take(c, p->out * 4);
    for (size_t i = 0; i < entries; i++) {
        offset[i] = (int32_t)(between(c, 0, pixels - 1) * p->channels);
        weight[i] = draw_float(c);
    }
    for (size_t o = 0; o < p->out; o++) {
        fixed[2 * o] = (int16_t)draw_int(c, 0, 2048);
        fixed[2 * o + 1] = (int16_t)(2048 - fixed[2 * o]);
    }
    p->offset = offset;
    p->weight = weight;
    p->fixed = fixed;
}

static void check_resize_columns(struct context *c)
{
    struct e8_resize p = {.out = between(c, 1, 20), .channels = between(c, 1, 40), .taps = between(c, 2, MOST_TAPS)};
    size_t pixels = between(c, 1, 12), in = pixels * p.channels, out = p.out * p.channels;
    float *x = take(c, in * 4), *y[2] = {take(c, out * 4), take(c, out * 4)};
    int8_t *codes = take(c, in);
    int32_t *z[2] = {take(c, out * 4), take(c, out * 4)};
    enum fill fill = (enum fill)between(c, 0, FILL_COUNT - 1);
    p.zero_point = draw_int(c, -128, 127);
    draw_columns(c, &p, pixels);
    fill_floats(c, x, in);
    fill_bytes(c, codes, in, fill);
    for (int i = 0; i < 2; i++) (i ? c->kernels : c->reference)->resize_columns_f32(x, y[i], &p);
    char what[100];
    snprintf(what, sizeof what, "out %zu channels %zu taps %zu fill %d", p.out, p.channels, p.taps, (int)fill);
    expect_same(c, "resize_columns_f32", y[0], y[1], out * 4, what);
    p.taps = 2;
    for (size_t o = 0; o < 2 * p.out; o++) ((int32_t *)(uintptr_t)p.offset)[o] = (int32_t)(between(c, 0, pixels - 1) * p.channels);
    for (int i = 0; i < 2; i++) (i ? c->kernels : c->reference)->resize_columns_s8(codes, z[i], &p);
    expect_same(c, "resize_columns_s8", z[0], z[1], out * 4, what);
    release();
}

static void check_resize_rows(struct context *c)
{
    size_t count = between(c, 1, 100), taps = between(c, 2, MOST_TAPS);
    const float *rows[MOST_TAPS];
    float w[MOST_TAPS], *y[2] = {take(c, count * 4), take(c, count * 4)};
    int32_t *sums[2] = {take(c, count * 4), take(c, count * 4)}, w0 = draw_int(c, 0, 2048), zero = draw_int(c, -128, 127);
    int8_t *z[2] = {take(c, count), take(c, count)};
    for (size_t t = 0; t < taps; t++) {
        float *row = take(c, count * 4);
        fill_floats(c, row, count);
        rows[t] = row;
        w[t] = draw_float(c);
    }
    bool ends = draw(c) >> 62 == 0;
    for (size_t i = 0; i < count; i++) {
        sums[0][i] = ends ? (draw(c) >> 63 ? 255 : -255) * 2048 : draw_int(c, -255 * 2048, 255 * 2048);
        sums[1][i] = ends ? sums[0][i] : draw_int(c, -255 * 2048, 255 * 2048);
    }
    for (int i = 0; i < 2; i++) {
        const struct e8_kernels *k = i ? c->kernels : c->reference;
        k->resize_rows_f32(rows, w, taps, y[i], count);
        k->resize_rows_s8(sums[0], sums[1], w0, 2048 - w0, z[i], count, zero);
    }
    char what[100];
    snprintf(what, sizeof what, "taps %zu count %zu", taps, count);
    expect_same(c, "resize_rows_f32", y[0], y[1], count * 4, what);
    expect_same(c, "resize_rows_s8", z[0], z[1], count, what);
    release();
}

static void check_pool(struct context *c)
{
    size_t count = between(c, 1, 100), taps = between(c, 0, MOST_POSITIONS);
    const float *rows[MOST_POSITIONS];
    float *y[2] = {take(c, count * 4), take(c, count * 4)}, divisor = draw(c) >> 63 ? (float)between(c, 1, 9) : 0.0f;
    for (size_t t = 0; t < taps; t++) {
        float *row = take(c, count * 4);
        fill_wild(c, row, count);
        rows[t] = row;
    }
    for (int i = 0; i < 2; i++) (i ? c->kernels : c->reference)->pool_f32(rows, taps, count, divisor, y[i]);
    char what[100];
    snprintf(what, sizeof what, "taps %zu count %zu divisor %g", taps, count, (double)divisor);
    expect_same_floats(c, "pool_f32", y[0], y[1], count, what);
    release();
}

static void check(struct context *c)
{
    for (uint64_t i = 0; i < c->cases; i++) {
        if (WANTED(c, unary_f32)) check_unary(c);
        if (WANTED(c, softmax_f32)) check_softmax_f32(c);
        if (WANTED(c, softmax_s8)) check_softmax_s8(c);
        if (WANTED(c, layer_norm_f32) || WANTED(c, layer_norm_s8)) check_layer_norm(c);
        if (WANTED(c, requantise_channels)) check_requantise_channels(c);
        if (WANTED(c, pool_f32)) check_pool(c);
        if (WANTED(c, resize_columns_f32) || WANTED(c, resize_columns_s8)) check_resize_columns(c);
        if (WANTED(c, resize_rows_f32) || WANTED(c, resize_rows_s8)) check_resize_rows(c);
    }
}

/* Lengths of a transformer's rows and of a picture's. */
enum { ATTENTION = 128, MODEL = 384, ROW = 8192 };

struct bench {
    const struct e8_kernels *k;
    uint32_t kind;
    float *x, *y, *weight;
    const float *rows[2], *positions[MOST_POSITIONS];
    int8_t *a, *b, *table;
    int32_t *sums;
    uint16_t *falling;
    struct e8_layer_norm norm;
    struct e8_requant_row row;
    struct e8_resize resize;
};

#define CALL(name, ...)                                                                                                                    \
    static void call_##name(void *argument)                                                                                                \
    {                                                                                                                                      \
        struct bench *b = argument;                                                                                                        \
        b->k->name(__VA_ARGS__);                                                                                                           \
    }
CALL(unary_f32, b->kind, 0.1f, 0.5f, b->x, b->y, ROW)
CALL(softmax_f32, b->x, b->y, ATTENTION, 0)
CALL(softmax_s8, b->a, b->b, ATTENTION, b->falling, b->table)
CALL(layer_norm_f32, b->x, b->y, MODEL, &b->norm)
CALL(layer_norm_s8, b->a, b->b, MODEL, &b->norm)
CALL(requantise_channels, b->sums, b->b, ROW, b->x, &b->row)
CALL(pool_f32, b->positions, MOST_POSITIONS, MODEL, 0.0f, b->y)
CALL(resize_columns_f32, b->x, b->y, &b->resize)
CALL(resize_columns_s8, b->a, b->sums, &b->resize)
CALL(resize_rows_f32, b->rows, b->weight, 2, b->y, ROW)
CALL(resize_rows_s8, b->sums, b->sums, 1000, 1048, b->b, ROW, 3)

static void bench(struct context *c)
{
    struct bench b = {.k = c->kernels, .norm = {.epsilon = 1e-5f, .scale = 0.1f}, .row = {0.0f, 3, -128, 127}};
    b.x = take_front(c, ROW * 4);
    b.y = take_front(c, ROW * 4);
    b.weight = take_front(c, ROW * 4);
    b.a = take_front(c, ROW);
    b.b = take_front(c, ROW);
    b.table = take_front(c, 256);
    b.sums = take_front(c, ROW * 4);
    b.falling = take_front(c, 512);
    fill_floats(c, b.x, ROW);
    fill_floats(c, b.weight, ROW);
    fill_bytes(c, b.a, ROW, FILL_RANDOM);
    for (int i = 0; i < ROW; i++) b.sums[i] = i - ROW / 2;
    for (uint32_t d = 0; d < 256; d++) b.falling[255 - d] = (uint16_t)(32768u >> (d / 20));
    b.norm.gamma = b.norm.beta = b.rows[0] = b.x;
    b.rows[1] = b.weight;
    for (size_t i = 0; i < MOST_POSITIONS; i++) b.positions[i] = b.x + i * MODEL;
    b.resize = (struct e8_resize){.out = 32, .channels = 64, .taps = 2};
    draw_columns(c, &b.resize, 16);
    static const struct {
        uint32_t kind;
        const char *name;
    } FUNCTIONS[] = {{UnaryKind_CLIP, "clip"}, {UnaryKind_SIGMOID, "sigmoid"}, {UnaryKind_TANH, "tanh"}, {UnaryKind_GELU, "gelu"}};
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof FUNCTIONS[0]; i++) {
        char name[40];
        b.kind = FUNCTIONS[i].kind;
        snprintf(name, sizeof name, "unary_f32 %s", FUNCTIONS[i].name);
        report_rate(c, name, 8 * ROW, "bytes", c->limit_bytes, time_call(call_unary_f32, &b));
    }
    report_rate(c, "softmax_f32 128", 8 * ATTENTION, "bytes", c->limit_bytes, time_call(call_softmax_f32, &b));
    report_rate(c, "softmax_s8 128", 2 * ATTENTION, "bytes", c->limit_bytes, time_call(call_softmax_s8, &b));
    report_rate(c, "layer_norm_f32 384", 8 * MODEL, "bytes", c->limit_bytes, time_call(call_layer_norm_f32, &b));
    report_rate(c, "layer_norm_s8 384", 2 * MODEL, "bytes", c->limit_bytes, time_call(call_layer_norm_s8, &b));
    report_rate(c, "requantise_channels", 9 * ROW, "bytes", c->limit_bytes, time_call(call_requantise_channels, &b));
    report_rate(c, "pool_f32 9x384", 4 * 10 * MODEL, "bytes", c->limit_bytes, time_call(call_pool_f32, &b));
    report_rate(c, "resize_columns_f32 32x64", 12 * 32 * 64, "bytes", c->limit_bytes, time_call(call_resize_columns_f32, &b));
    report_rate(c, "resize_columns_s8 32x64", 6 * 32 * 64, "bytes", c->limit_bytes, time_call(call_resize_columns_s8, &b));
    report_rate(c, "resize_rows_f32", 12 * ROW, "bytes", c->limit_bytes, time_call(call_resize_rows_f32, &b));
    report_rate(c, "resize_rows_s8", 9 * ROW, "bytes", c->limit_bytes, time_call(call_resize_rows_s8, &b));
    release();
}

const struct family family_rows = {"rows", check, bench};
