/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix kernels: rows by pointer, int8 and float, decoding of coded weights, and the epilogues of sums. */
#include "check.h"

#include "edge8.h"

enum { MAX_ROWS = 50 };

/* Sizes and buffers of one case. */
struct matrix {
    size_t m, n, taps, segment, k, blocks, a_stride;
    const void *rows[(MAX_ROWS + 3) * 9];
    int8_t *w;
    int32_t *init, *weight_sum;
    float *multiplier, *residual_multiplier;
    int8_t *residual, *out[2], table[256];
    struct e8_requant q;
    void *scratch;
    char what[120];
};

static size_t padded(size_t n)
{
    return (n + E8_NR - 1) / E8_NR * E8_NR;
}

/* Kernel sizes that occur, and every tail. */
static void draw_sizes(struct context *c, struct matrix *x)
{
    bool one_tap = draw(c) >> 63;
    x->m = between(c, 1, draw(c) >> 62 ? 13 : MAX_ROWS);
    x->n = between(c, 1, draw(c) >> 62 ? 40 : 100);
    x->taps = one_tap ? 1 : between(c, 1, 9);
    x->segment = one_tap ? between(c, 1, draw(c) >> 62 ? 70 : 600) : 4 * between(c, 1, 20);
    if (c->small) {
        x->m = (x->m - 1) % 13 + 1;
        x->n = (x->n - 1) % 20 + 1;
        x->taps = (x->taps - 1) % 2 + 1;
        x->segment = one_tap ? (x->segment - 1) % 37 + 1 : (x->segment - 1) / 4 % 9 * 4 + 4;
    }
    x->k = x->taps * x->segment;
    x->blocks = padded(x->n) / E8_NR;
    x->a_stride = x->m + between(c, 0, 3);
}

/* Every segment gets a buffer end of its own: one region holds one segment at its very end. */
static void draw_rows(struct context *c, struct matrix *x, size_t width, enum fill fill)
{
    size_t count = x->taps * x->m, own = count < 6 ? count : 6, bytes = x->segment * width;
    uint8_t *shared = take(c, bytes * count);
    for (size_t t = 0, i = 0; t < x->taps; t++) {
        for (size_t r = 0; r < x->m; r++, i++) {
            uint8_t *p = i < own ? (i % 2 ? take(c, bytes) : take_front(c, bytes)) : shared + (count - 1 - i) * bytes;
            if (width == 1)
                fill_bytes(c, (int8_t *)p, bytes, fill);
            else
                fill_floats(c, (float *)(void *)p, x->segment);
            x->rows[t * x->a_stride + r] = p;
        }
    }
}

/* Packed int8 weights with zeros in the padding, and their sums. */
static void draw_weights(struct context *c, struct matrix *x, bool any_code, enum fill fill)
{
    size_t k4 = (x->k + 3) / 4, bytes = x->blocks * k4 * 64;
    x->w = take(c, bytes);
    x->weight_sum = take(c, padded(x->n) * 4);
    memset(x->weight_sum, 0, padded(x->n) * 4);
    if (any_code)
        fill_bytes(c, x->w, bytes, fill);
    else
        fill_weights(c, x->w, bytes, fill);
    for (size_t i = 0; i < bytes; i++) {
        size_t column = i / (k4 * 64) * E8_NR + i % 64 / 4, k = i % (k4 * 64) / 64 * 4 + i % 4;
        if (column >= x->n || k >= x->k) x->w[i] = 0;
        x->weight_sum[column] += x->w[i];
    }
}

static void draw_requant(struct context *c, struct matrix *x, bool residual)
{
    size_t p = padded(x->n);
    x->init = take(c, p * 4);
    x->multiplier = take(c, p * 4);
    x->residual_multiplier = take(c, p * 4);
    int32_t zero = draw_int(c, -128, 127), reach = (int32_t)x->k * 30 + 5;
    for (size_t i = 0; i < p; i++) {
        x->init[i] = i < x->n ? draw_int(c, -reach, reach) : 0;
        /* A third of the outputs exact halves, to meet the ties. */
        x->multiplier[i] = draw(c) >> 62 ? 0.5f / (float)between(c, 1, 8) : 200.0f / (float)(reach * draw_int(c, 1, 10));
        x->residual_multiplier[i] = draw_float(c) * 100.0f;
    }
    x->q = (struct e8_requant){
        .init = x->init,
        .multiplier = x->multiplier,
        .weight_sum = x->weight_sum,
        .residual_multiplier = residual ? x->residual_multiplier : NULL,
        .zero_point = draw_int(c, -128, 127),
        .low = draw(c) >> 63 ? -128 : zero,
        .high = 127,
        .residual_zero = draw_int(c, -128, 127),
    };
    fill_bytes(c, x->table, sizeof x->table, FILL_RANDOM);
    if (between(c, 0, 7) == 0) x->q.table = x->table;
}

/* Sums of positive (sign 1) or negative (-1) weights in one int16 of a step: pair p of channel j. */
static int32_t pair_sum(const int8_t *w, size_t step, size_t j, size_t p, int sign)
{
    int32_t sum = 0;
    for (size_t i = 0; i < 2; i++) {
        int32_t v = sign * w[64 * step + 4 * j + 2 * p + i];
        if (v > 0) sum += v;
    }
    return sum;
}

static uint8_t largest_input(int32_t sum)
{
    return (uint8_t)(sum == 0 || 32767 / sum > 255 ? 255 : 32767 / sum);
}

/* What x86_avx2_bounded.c derives from the `steps` steps of a block: the largest input whose products with each step fit int16, then
 * that for each two neighbours added together. */
static void limits_of_block(const int8_t *w, size_t steps, uint8_t *limits)
{
    int32_t before[64] = {0};
    for (size_t step = 0; step < steps; step++) {
        int32_t one = 0, two = 0;
        for (size_t i = 0; i < 16 * 2 * 2; i++) {
            int32_t sum = pair_sum(w, step, i / 4, i / 2 % 2, i % 2 ? -1 : 1);
            if (sum > one) one = sum;
            if (sum + before[i] > two) two = sum + before[i];
            before[i] = sum;
        }
        limits[step] = largest_input(one);
        if (step % 2) limits[steps + step / 2] = largest_input(two);
    }
}

/* The level derives what its gemm_s8 reads; the reference has no use for it. */
static void check_limits_of_weights(struct context *c)
{
    struct matrix x;
    if (!c->kernels->weight_limits) return;
    draw_sizes(c, &x);
    draw_weights(c, &x, false, (enum fill)between(c, 0, FILL_COUNT - 1));
    size_t bytes = x.blocks * E8_GEMM_LIMITS(x.k), k4 = (x.k + 3) / 4;
    uint8_t *expected = take(c, bytes), *got = take(c, bytes), *to = expected;
    for (size_t b = 0; b < x.blocks; b++, to += E8_GEMM_LIMITS(x.k)) limits_of_block(x.w + b * k4 * 64, k4, to);
    memset(got, 0, bytes);
    c->kernels->weight_limits(x.w, x.blocks, x.k, got);
    snprintf(x.what, sizeof x.what, "n %zu k %zu", x.n, x.k);
    expect_same(c, "weight_limits", expected, got, bytes, x.what);
    release();
}

static void check_gemm_s8(struct context *c)
{
    struct matrix x;
    enum fill fill = (enum fill)between(c, 0, FILL_COUNT - 1);
    bool residual = draw(c) >> 62 == 0;
    draw_sizes(c, &x);
    draw_rows(c, &x, 1, fill);
    draw_weights(c, &x, false, (enum fill)between(c, 0, FILL_COUNT - 1));
    draw_requant(c, &x, residual);
    size_t stride = x.n + between(c, 0, 5), bytes = (x.m - 1) * stride + x.n;
    x.scratch = (void *)(((uintptr_t)take(c, E8_GEMM_S8_SCRATCH(x.k) + 64) + 63) / 64 * 64);
    x.residual = take(c, bytes);
    fill_bytes(c, x.residual, bytes, FILL_RANDOM);
    bool in_place = residual && draw(c) >> 63;
    for (int i = 0; i < 2; i++) {
        x.out[i] = take(c, bytes);
        if (in_place)
            memcpy(x.out[i], x.residual, bytes);
        else
            memset(x.out[i], 0x55, bytes);
    }
    uint8_t *limits = NULL;
    if (c->kernels->weight_limits && draw(c) >> 62) {
        limits = take(c, x.blocks * E8_GEMM_LIMITS(x.k) + E8_GEMM_LIMITS_SLACK);
        c->kernels->weight_limits(x.w, x.blocks, x.k, limits);
    }
    snprintf(x.what, sizeof x.what, "m %zu n %zu taps %zu segment %zu fill %d residual %d limits %d", x.m, x.n, x.taps, x.segment,
             (int)fill, residual, limits != NULL);
    for (int i = 0; i < 2; i++) {
        struct e8_gemm_s8 g = {x.m, x.n, x.taps, x.segment, x.rows, x.a_stride, x.w, NULL, stride, x.out[i], stride, x.scratch, limits};
        if (residual) g.residual = in_place ? x.out[i] : x.residual;
        (i ? c->kernels : c->reference)->gemm_s8(&g, &x.q);
    }
    expect_same(c, "gemm_s8", x.out[0], x.out[1], bytes, x.what);
    release();
}

static void check_gemm_s8s32(struct context *c)
{
    struct matrix x;
    enum fill fill = (enum fill)between(c, 0, FILL_COUNT - 1);
    draw_sizes(c, &x);
    draw_rows(c, &x, 1, fill);
    int weights = draw(c) >> 63;
    draw_weights(c, &x, !weights, (enum fill)between(c, 0, FILL_COUNT - 1));
    draw_requant(c, &x, false);
    size_t stride = x.n + between(c, 0, 5), count = (x.m - 1) * stride + x.n;
    x.scratch = (void *)(((uintptr_t)take(c, E8_GEMM_S8_SCRATCH(x.k) + 64) + 63) / 64 * 64);
    int32_t *out[2] = {take(c, count * 4), take(c, count * 4)};
    snprintf(x.what, sizeof x.what, "m %zu n %zu taps %zu segment %zu fill %d weights %d", x.m, x.n, x.taps, x.segment, (int)fill, weights);
    for (int i = 0; i < 2; i++) {
        memset(out[i], 0x55, count * 4);
        struct e8_gemm_s8s32 g = {x.m,          x.n,    x.taps, x.segment, x.rows, x.a_stride, x.w, draw(c) ? x.init : NULL,
                                  x.weight_sum, out[i], stride, x.scratch, weights};
        (i ? c->kernels : c->reference)->gemm_s8s32(&g);
    }
    expect_same(c, "gemm_s8s32", out[0], out[1], count * 4, x.what);
    release();
}

static void check_gemm_f32(struct context *c)
{
    struct matrix x;
    draw_sizes(c, &x);
    if (x.taps > 1) x.segment = between(c, 1, 30);
    x.k = x.taps * x.segment;
    draw_rows(c, &x, 4, FILL_RANDOM);
    size_t p = padded(x.n), stride = x.n + between(c, 0, 5), count = (x.m - 1) * stride + x.n;
    float *w = take(c, p * x.k * 4), *bias = take(c, p * 4), *scale = take(c, p * 4), *residual = take(c, count * 4);
    fill_floats(c, w, p * x.k);
    fill_floats(c, bias, p);
    fill_floats(c, scale, p);
    fill_floats(c, residual, count);
    unsigned form = (unsigned)between(c, 0, 15);
    float *out[2] = {take(c, count * 4), take(c, count * 4)};
    snprintf(x.what, sizeof x.what, "m %zu n %zu taps %zu segment %zu form %u", x.m, x.n, x.taps, x.segment, form);
    for (int i = 0; i < 2; i++) {
        memset(out[i], 0x55, count * 4);
        struct e8_gemm_f32 g = {
            .m = x.m,
            .n = x.n,
            .taps = x.taps,
            .segment = x.segment,
            .a = x.rows,
            .a_stride = x.a_stride,
            .w = w,
            .bias = form & 1 ? bias : NULL,
            .scale = form & 2 ? scale : NULL,
            .residual = form & 4 ? residual : NULL,
            .residual_stride = stride,
            .out = out[i],
            .out_stride = stride,
            .low = form & 8 ? 0.0f : -__builtin_inff(),
            .high = form & 8 ? 6.0f : __builtin_inff(),
        };
        (i ? c->kernels : c->reference)->gemm_f32(&g);
    }
    expect_same(c, "gemm_f32", out[0], out[1], count * 4, x.what);
    release();
}

static void check_decode(struct context *c)
{
    uint32_t bits = (uint32_t)between(c, 1, 16);
    size_t k = between(c, 1, 200), bytes = (k + 3) / 4 * 8 * bits, group = 4 * between(c, 1, 20), groups = (k + group - 1) / group;
    uint8_t *codes = take(c, bytes);
    float *scale = take(c, groups * E8_NR * 4), *panel[2] = {take(c, k * E8_NR * 4), take(c, k * E8_NR * 4)};
    fill_bytes(c, (int8_t *)codes, bytes, FILL_RANDOM);
    fill_floats(c, scale, groups * E8_NR);
    char what[100];
    snprintf(what, sizeof what, "bits %u k %zu group %zu", bits, k, group);
    bool scaled = draw(c) >> 63;
    for (int i = 0; i < 2; i++) {
        struct e8_decode d = {codes, bits, k, group, scaled ? scale : NULL, panel[i]};
        (i ? c->kernels : c->reference)->decode(&d);
    }
    expect_same(c, "decode", panel[0], panel[1], k * E8_NR * 4, what);
    release();
}

static void check_sums(struct context *c)
{
    size_t count = between(c, 1, 70);
    int32_t *x = take(c, count * 4), *sums = take(c, count * 4), add = draw_int(c, -100000, 100000);
    int8_t *y[2] = {take(c, count), take(c, count)};
    float *z[2] = {take(c, count * 4), take(c, count * 4)}, *scale = take(c, count * 4), *bias = take(c, count * 4),
          *residual = take(c, count * 4);
    for (size_t i = 0; i < count; i++) x[i] = draw_int(c, -2000000, 2000000);
    fill_floats(c, scale, count);
    fill_floats(c, bias, count);
    fill_floats(c, residual, count);
    struct e8_requant_row p = {draw(c) >> 63 ? 0.5f / (float)between(c, 1, 20000) : 1e-4f, draw_int(c, -128, 127), -128, 127};
    for (size_t i = 0; i < count; i++) sums[i] = draw_int(c, -100000, 100000);
    struct e8_dequant_row d = {sums,
                               draw_int(c, -128, 127),
                               scale,
                               draw(c) >> 63 ? bias : NULL,
                               draw(c) >> 63 ? residual : NULL,
                               -__builtin_inff(),
                               __builtin_inff()};
    float row_scale = draw_float(c);
    char what[100];
    snprintf(what, sizeof what, "count %zu", count);
    for (int i = 0; i < 2; i++) {
        const struct e8_kernels *k = i ? c->kernels : c->reference;
        k->requantise(x, y[i], count, add, &p);
        k->dequantise_sums(x, z[i], count, row_scale, &d);
    }
    expect_same(c, "requantise", y[0], y[1], count, what);
    expect_same(c, "dequantise_sums", z[0], z[1], count * 4, what);
    release();
}

static void check(struct context *c)
{
    for (uint64_t i = 0; i < c->cases; i++) {
        if (WANTED(c, gemm_s8)) check_gemm_s8(c);
        if (WANTED(c, gemm_s8)) check_limits_of_weights(c);
        if (WANTED(c, conv_picture_s8)) check_picture(c);
        if (WANTED(c, gemm_s8s32)) check_gemm_s8s32(c);
        if (WANTED(c, gemm_f32)) check_gemm_f32(c);
        if (WANTED(c, decode)) check_decode(c);
        if (WANTED(c, requantise) || WANTED(c, dequantise_sums)) check_sums(c);
    }
}

/* Sizes of real layers: rows of one call, channels, taps, input channels. */
static const struct {
    size_t m, n, taps, segment;
    const char *name;
} LAYERS[] = {
    {48, 64, 9, 64, "3x3 64->64"},       {48, 256, 9, 256, "3x3 256->256"},   {49, 512, 9, 512, "3x3 512->512"},
    {48, 96, 1, 16, "1x1 16->96"},       {48, 24, 1, 144, "1x1 144->24"},     {48, 16, 1, 32, "1x1 32->16"},
    {48, 384, 1, 64, "1x1 64->384"},     {48, 64, 1, 384, "1x1 384->64"},     {49, 960, 1, 160, "1x1 160->960"},
    {48, 64, 1, 64, "1x1 64->64"},       {48, 8, 1, 8, "1x1 8->8"},           {48, 32, 1, 28, "first layer 3x3x3->32"},
    {1, 1000, 1, 1280, "FC 1280->1000"}, {48, 1536, 1, 384, "FFN 384->1536"},
};

/* A benchmark case; the rows of int8 are like those behind a ReLU or not. */
struct bench {
    const struct e8_kernels *k;
    struct matrix x;
    struct e8_gemm_s8 g;
    struct e8_gemm_s8s32 g32;
    struct e8_gemm_f32 gf;
};

static void call_s8(void *argument)
{
    const struct bench *b = argument;
    b->k->gemm_s8(&b->g, &b->x.q);
}

static void call_limits(void *argument)
{
    const struct bench *b = argument;
    b->k->weight_limits(b->x.w, b->x.blocks, b->x.k, (uint8_t *)(uintptr_t)b->g.limits);
}

static void call_s8s32(void *argument)
{
    const struct bench *b = argument;
    b->k->gemm_s8s32(&b->g32);
}

static void call_f32(void *argument)
{
    const struct bench *b = argument;
    b->k->gemm_f32(&b->gf);
}

/* Codes like a normal distribution's, of 256 steps; `relu` cuts the lower half off. */
static void fill_natural(struct context *c, int8_t *p, size_t count, double deviation, bool relu)
{
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (int k = 0; k < 12; k++) sum += (double)(draw(c) >> 40) / 16777216.0;
        double v = (sum - 6.0) * deviation;
        if (relu) v = v > 0 ? v - 128 : -128;
        p[i] = (int8_t)(v > 127 ? 127 : v < -127 ? (relu ? -128 : -127) : v);
    }
}

static void bench_layer(struct context *c, size_t i, bool relu)
{
    static struct bench b;
    struct matrix *x = &b.x;
    b.k = c->kernels;
    x->m = LAYERS[i].m;
    x->n = LAYERS[i].n;
    x->taps = LAYERS[i].taps;
    x->segment = LAYERS[i].segment;
    x->k = x->taps * x->segment;
    x->blocks = padded(x->n) / E8_NR;
    x->a_stride = x->m;
    size_t pixels = x->m + 60, bytes = x->blocks * ((x->k + 3) / 4) * 64;
    int8_t *picture = malloc(pixels * x->segment);
    x->w = aligned_alloc(64, bytes);
    fill_natural(c, picture, pixels * x->segment, relu ? 60 : 30, relu);
    fill_natural(c, x->w, bytes, 35, false);
    x->weight_sum = take(c, padded(x->n) * 4);
    draw_requant(c, x, false);
    x->q.table = NULL;
    for (size_t t = 0; t < x->taps; t++)
        for (size_t r = 0; r < x->m; r++) x->rows[t * x->a_stride + r] = picture + (r + t / 3 * 20 + t % 3) * x->segment;
    x->scratch = aligned_alloc(64, (E8_GEMM_S8_SCRATCH(x->k) + 63) / 64 * 64);
    int32_t *out = malloc(x->m * x->n * 4);
    b.g = (struct e8_gemm_s8){x->m, x->n, x->taps, x->segment, x->rows, x->a_stride, x->w, NULL, 0, (int8_t *)out, x->n, x->scratch, NULL};
    b.g32 =
        (struct e8_gemm_s8s32){x->m, x->n, x->taps, x->segment, x->rows, x->a_stride, x->w, x->init, x->weight_sum, out, x->n, x->scratch};
    double macs = (double)x->m * (double)x->n * (double)x->k;
    char name[80];
    snprintf(name, sizeof name, "gemm_s8 %s%s", LAYERS[i].name, relu ? ", after ReLU" : "");
    report_rate(c, name, macs, "MACs", c->limit_s8, time_call(call_s8, &b));
    if (b.k->weight_limits) {
        uint8_t *limits = malloc(x->blocks * E8_GEMM_LIMITS(x->k) + E8_GEMM_LIMITS_SLACK);
        b.k->weight_limits(x->w, x->blocks, x->k, limits);
        b.g.limits = limits;
        snprintf(name, sizeof name, "gemm_s8 %s%s, limits", LAYERS[i].name, relu ? ", after ReLU" : "");
        report_rate(c, name, macs, "MACs", c->limit_s8, time_call(call_s8, &b));
        snprintf(name, sizeof name, "weight_limits %s", LAYERS[i].name);
        if (relu) report_rate(c, name, (double)bytes, "bytes", c->limit_bytes, time_call(call_limits, &b));
        free(limits);
    }
    if (!relu) {
        snprintf(name, sizeof name, "gemm_s8s32 %s", LAYERS[i].name);
        report_rate(c, name, macs, "MACs", c->limit_s8, time_call(call_s8s32, &b));
        float *w = aligned_alloc(64, padded(x->n) * x->k * 4), *rows = malloc(pixels * x->segment * 4);
        fill_floats(c, w, padded(x->n) * x->k);
        fill_floats(c, rows, pixels * x->segment);
        for (size_t t = 0; t < x->taps; t++)
            for (size_t r = 0; r < x->m; r++) x->rows[t * x->a_stride + r] = rows + (r + t / 3 * 20 + t % 3) * x->segment;
        b.gf = (struct e8_gemm_f32){.m = x->m,
                                    .n = x->n,
                                    .taps = x->taps,
                                    .segment = x->segment,
                                    .a = x->rows,
                                    .a_stride = x->a_stride,
                                    .w = w,
                                    .out = (float *)(void *)out,
                                    .out_stride = x->n,
                                    .low = -1e30f,
                                    .high = 1e30f};
        snprintf(name, sizeof name, "gemm_f32 %s", LAYERS[i].name);
        report_rate(c, name, macs, "MACs", c->limit_f32, time_call(call_f32, &b));
        free(w);
        free(rows);
    }
    free(out);
    free(x->scratch);
    free(picture);
    free(x->w);
    release();
}

static void bench(struct context *c)
{
    for (size_t i = 0; i < sizeof LAYERS / sizeof LAYERS[0]; i++) {
        bench_layer(c, i, true);
        bench_layer(c, i, false);
    }
    bench_picture(c);
}

const struct family family_gemm = {"gemm", check, bench};
