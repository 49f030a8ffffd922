/* SPDX-License-Identifier: Apache-2.0
 *
 * ConvTranspose2D: input pixel (iy, ix) adds x[iy][ix] . w[o][ky][kx] to output pixel
 * (iy * stride_h - pad_top + ky * dilation_h, ix * stride_w - pad_left + kx * dilation_w) of channel o.
 *
 * Weights are stored, per group and kernel row ky, as one packed matrix [KW * O/group][C/group] (row kx * O/group + o), in
 * order of group, then ky. So a kernel row times an input row is one matrix product whose results are added to an output row.
 *
 *   float: per kernel position a chain over the input channels from 0, t = fma(x[c], w[c], t); positions that meet in a pixel
 *     are added in order of ky, then kx; y = clamp(sum + bias), or clamp(fma(sum, s_w[o], bias)) for coded weights.
 *   int8: acc = clamp(rne(bias / s), -bound, bound) + sum of (q - z_in) * w, exact in int32, with s = s_in * s_w[o] and
 *     bound = (2^31 - 1 - 32385 * K) / 2, K = KH * KW * C/group; y = clamp(rne(float(acc) * (s / s_out)) + z_out, low, high). */
#include "../numeric.h"
#include "../op.h"

enum { MAX_DEPTH = 65536, MOST = 1 << 20 };

struct axis {
    int32_t in, out, kernel, stride, dilation, before, after, extra;
};

struct shape {
    struct axis y, x;
    int32_t batch, channels, outputs, group;
    float act_min, act_max;
    /* Of one group: input and output channels, matrix rows of one kernel row, its blocks of 16, bytes of one matrix. */
    size_t depth, width, rows, blocks;
    uint64_t matrix_bytes; /* 64 bits before the check has compared them with the data */
    /* Windows do not meet: the product of an input row and a kernel row is an output row as it lies in memory. */
    bool apart;
};

static void read_params(const struct op *op, const struct tensor *x, const struct tensor *w, const struct tensor *y, struct shape *p)
{
    const uint8_t *t = op->params;
    p->y = (struct axis){
        x->dims[1],
        y->dims[1],
        w->dims[1],
        flat_int(t, ConvTranspose2D_stride_h, 1),
        flat_int(t, ConvTranspose2D_dilation_h, 1),
        flat_int(t, ConvTranspose2D_pad_top, 0),
        flat_int(t, ConvTranspose2D_pad_bottom, 0),
        flat_int(t, ConvTranspose2D_output_pad_h, 0),
    };
    p->x = (struct axis){
        x->dims[2],
        y->dims[2],
        w->dims[2],
        flat_int(t, ConvTranspose2D_stride_w, 1),
        flat_int(t, ConvTranspose2D_dilation_w, 1),
        flat_int(t, ConvTranspose2D_pad_left, 0),
        flat_int(t, ConvTranspose2D_pad_right, 0),
        flat_int(t, ConvTranspose2D_output_pad_w, 0),
    };
    p->batch = x->dims[0];
    p->channels = x->dims[3];
    p->outputs = w->dims[0];
    p->group = flat_int(t, ConvTranspose2D_group, 1);
    p->act_min = flat_float(t, ConvTranspose2D_act_min, -__builtin_inff());
    p->act_max = flat_float(t, ConvTranspose2D_act_max, __builtin_inff());
}

static bool axis_is_sound(const struct axis *a)
{
    if (a->in > MOST || a->kernel > MOST || a->stride < 1 || a->stride > MOST || a->dilation < 1 || a->dilation > MOST) return false;
    if (a->before < 0 || a->before > MOST || a->after < 0 || a->after > MOST || a->extra < 0 || a->extra > MOST) return false;
    int64_t full = (int64_t)(a->in - 1) * a->stride + (int64_t)a->dilation * (a->kernel - 1) + 1;
    return full <= 1 << 30 && full - a->before - a->after + a->extra == a->out;
}

/* Derived sizes; group, kernel and channels are positive. */
static void find_sizes(const struct tensor *w, struct shape *p)
{
    p->depth = (size_t)p->channels / (size_t)p->group;
    p->width = (size_t)p->outputs / (size_t)p->group;
    p->rows = (size_t)p->x.kernel * p->width;
    p->blocks = (p->rows + E8_NR - 1) / E8_NR;
    uint64_t depth = p->depth, coded = size_mul(size_div_up(depth, 4), 8 * (uint64_t)w->bits);
    p->matrix_bytes = size_mul(p->blocks, w->type == Type_FLOAT32 ? size_mul(depth, E8_NR * sizeof(float)) : coded);
    bool columns = p->x.stride == p->x.kernel && p->x.dilation == 1 && p->x.before == 0 && p->x.after == 0 && p->x.extra == 0;
    p->apart = columns && p->group == 1 && p->y.stride >= p->y.kernel && p->y.dilation == 1;
}

static bool is_coded(const struct tensor *x, const struct tensor *w)
{
    return x->type == Type_FLOAT32 && w->type != Type_FLOAT32;
}

/* Place of the per-channel and per-row arrays in the shared scratch. */
struct scratch {
    uint64_t bias, multiplier, init, sums, tiled, total;
};

static struct scratch shared_scratch(const struct tensor *x, const struct shape *p)
{
    struct scratch s = {0};
    uint64_t outputs = size_align(size_mul((uint64_t)p->outputs, 4), 64);
    uint64_t rows = size_mul(size_mul((uint64_t)p->group * (uint64_t)p->y.kernel, p->blocks), E8_NR * 4);
    if (x->type != Type_INT8) rows = 0;
    s.multiplier = outputs;
    s.init = size_mul(2, outputs);
    s.sums = size_add(s.init, rows);
    s.tiled = size_add(s.sums, rows);
    s.total = size_add(s.tiled, p->apart && rows ? size_mul(p->blocks, E8_NR * sizeof(float)) : 0);
    return s;
}

struct thread_scratch {
    uint64_t pointers, product, acc, kernel, total;
};

static struct thread_scratch thread_scratch(const struct tensor *x, const struct tensor *w, const struct shape *p)
{
    struct thread_scratch s = {0};
    uint64_t pixels = (uint64_t)p->x.in, acc = 0, kernel = 0;
    if (x->type == Type_INT8) {
        acc = size_mul(size_mul((uint64_t)p->x.out, p->width), 4);
        kernel = E8_GEMM_S8_SCRATCH((uint64_t)p->depth);
    } else if (is_coded(x, w)) {
        kernel = size_mul(p->depth, E8_NR * sizeof(float));
    }
    s.product = size_align(size_mul(pixels, sizeof(void *)), 64);
    s.acc = size_add(s.product, size_align(size_mul(size_mul(pixels, p->rows), 4), 64));
    s.kernel = size_add(s.acc, size_align(acc, 64));
    s.total = size_add(s.kernel, kernel);
    return s;
}

static e8_status check_types(struct check *c, const struct tensor *x, const struct tensor *w, const struct tensor *y)
{
    REQUIRE(c, "conv_transpose2d.type", x->type == y->type);
    SUPPORTED(c, "conv_transpose2d.type", x->type == Type_FLOAT32 || x->type == Type_INT8);
    REQUIRE(c, "conv_transpose2d.weights", w->type == Type_FLOAT32 || w->type == Type_INT8 || w->type == Type_INT16);
    if (w->type != Type_FLOAT32) {
        REQUIRE(c, "conv_transpose2d.scale", w->scales.count == 1 || w->scales.count == (uint32_t)w->dims[0]);
        SUPPORTED(c, "conv_transpose2d.group_scale", w->group == 0);
    }
    if (x->type == Type_INT8) {
        REQUIRE(c, "conv_transpose2d.scale", tensor_is_quantised(x) && tensor_is_quantised(y));
        SUPPORTED(c, "conv_transpose2d.bits", w->type == Type_INT8 && w->bits == 8);
    }
    return E8_OK;
}

static e8_status check(struct check *c)
{
    struct tensor x, w, bias, y;
    struct shape p;
    TRY(check_counts(c, 2, 3, 1));
    (void)op_input(&c->op, 0, &x);
    (void)op_input(&c->op, 1, &w);
    bool biased = op_input(&c->op, 2, &bias);
    op_output(&c->op, 0, &y);
    REQUIRE(c, "conv_transpose2d.rank", x.rank == 4 && w.rank == 4 && y.rank == 4);
    REQUIRE(c, "conv_transpose2d.weights", w.constant);
    TRY(check_types(c, &x, &w, &y));
    read_params(&c->op, &x, &w, &y, &p);
    REQUIRE(c, "conv_transpose2d.group", p.group >= 1 && p.channels % p.group == 0 && p.outputs % p.group == 0);
    REQUIRE(c, "conv_transpose2d.shape", w.dims[3] == p.channels / p.group && y.dims[3] == p.outputs && y.dims[0] == x.dims[0]);
    REQUIRE(c, "conv_transpose2d.shape", axis_is_sound(&p.y) && axis_is_sound(&p.x));
    REQUIRE(c, "conv_transpose2d.bias", !biased || (bias.type == Type_FLOAT32 && bias.constant && bias.elements == (uint64_t)p.outputs));
    REQUIRE(c, "conv_transpose2d.activation", p.act_min <= p.act_max);
    find_sizes(&w, &p);
    uint64_t matrices = (uint64_t)p.group * (uint64_t)p.y.kernel;
    REQUIRE(c, "conv_transpose2d.data", w.data.count == size_mul(matrices, p.matrix_bytes));
    uint64_t depth = size_mul((uint64_t)p.y.kernel, size_mul((uint64_t)p.x.kernel, p.depth));
    SUPPORTED(c, "conv_transpose2d.depth", depth <= MAX_DEPTH || x.type == Type_FLOAT32);
    c->scratch_shared = shared_scratch(&x, &p).total;
    c->scratch_thread = thread_scratch(&x, &w, &p).total;
    c->macs = size_mul(x.elements, size_mul((uint64_t)p.y.kernel, p.rows));
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor x, w, y;
    struct shape p;
    struct scratch s;
    const float *bias;       /* float and coded: [O] */
    const float *multiplier; /* int8: s / s_out, coded: s_w, [O]; float: NULL */
    const int32_t *start;    /* int8: bias codes [O] */
    const int32_t *init, *sums;
    const float *tiled; /* int8, windows apart: the multiplier of each matrix row */
    int32_t low, high;
    uint32_t tasks;
};

static float weight_scale(const struct tensor *w, size_t channel)
{
    return flat_element_float(w->scales, w->scales.count == 1 ? 0 : (uint32_t)channel);
}

/* Codes of act_min and act_max on the output's scale. */
static int32_t code_bound(const struct tensor *y, float bound)
{
    float low = (float)(-128 - y->zero_point), high = (float)(127 - y->zero_point), value = bound / y->scale;
    value = value > low ? value : low;
    value = value < high ? value : high;
    return (int32_t)rne_small(value) + y->zero_point;
}

/* Sum of each matrix row, and what the input's zero point adds to it. */
static void sum_rows(const struct job *j, int32_t *init, int32_t *sums)
{
    const int8_t *w = j->w.address;
    size_t columns = (j->p.depth + 3) / 4, blocks = (size_t)j->p.group * (size_t)j->p.y.kernel * j->p.blocks;
    for (size_t b = 0; b < blocks; b++, init += E8_NR, sums += E8_NR) {
        for (size_t c = 0; c < E8_NR; c++) sums[c] = 0;
        for (size_t k = 0; k < columns; k++, w += 4 * E8_NR)
            for (size_t c = 0; c < E8_NR; c++) sums[c] += w[4 * c] + w[4 * c + 1] + w[4 * c + 2] + w[4 * c + 3];
        for (size_t c = 0; c < E8_NR; c++) init[c] = -j->x.zero_point * sums[c];
    }
}

/* Windows apart: each matrix row finishes an output of its own, with the bias and the multiplier of its channel. */
static void spread_rows(const struct job *j, int32_t *init, float *tiled)
{
    size_t padded = j->p.blocks * E8_NR;
    for (size_t row = 0; row < padded; row++) {
        bool used = row < j->p.rows;
        tiled[row] = used ? j->multiplier[row % j->p.width] : 0.0f;
        for (size_t ky = 0; used && ky < (size_t)j->p.y.kernel; ky++) init[ky * padded + row] += j->start[row % j->p.width];
    }
}

static void prepare(struct job *j, const struct tensor *bias, bool biased)
{
    size_t outputs = (size_t)j->p.outputs, depth = (size_t)j->p.y.kernel * (size_t)j->p.x.kernel * j->p.depth;
    float *floats = (float *)(void *)j->run->shared, *multiplier = (float *)(void *)(j->run->shared + j->s.multiplier);
    int32_t *codes = (int32_t *)(void *)j->run->shared;
    bool quantised = j->x.type == Type_INT8;
    int32_t bound = quantised ? (int32_t)((INT32_MAX - 32385 * (int64_t)depth) / 2) : 0;
    for (size_t o = 0; o < outputs; o++) {
        float b = biased ? ((const float *)bias->address)[o] : 0.0f;
        if (!quantised) {
            floats[o] = b;
            if (is_coded(&j->x, &j->w)) multiplier[o] = weight_scale(&j->w, o);
            continue;
        }
        float s = j->x.scale * weight_scale(&j->w, o);
        codes[o] = max_int(-bound, min_int(bound, rne_int32(b / s)));
        multiplier[o] = s / j->y.scale;
    }
    j->bias = floats;
    j->start = codes;
    j->multiplier = quantised || is_coded(&j->x, &j->w) ? multiplier : NULL;
    if (!quantised) return;
    j->init = (const int32_t *)(void *)(j->run->shared + j->s.init);
    j->sums = (const int32_t *)(void *)(j->run->shared + j->s.sums);
    sum_rows(j, (int32_t *)(void *)(j->run->shared + j->s.init), (int32_t *)(void *)(j->run->shared + j->s.sums));
    if (j->p.apart) spread_rows(j, (int32_t *)(void *)(j->run->shared + j->s.init), (float *)(void *)(j->run->shared + j->s.tiled));
    j->tiled = (const float *)(void *)(j->run->shared + j->s.tiled);
    j->low = code_bound(&j->y, j->p.act_min);
    j->high = code_bound(&j->y, j->p.act_max);
}

/* The input row that kernel row `ky` brings to output row `oy`, or -1. */
static int32_t source_row(const struct axis *a, int32_t oy, int32_t ky)
{
    int32_t at = oy + a->before - ky * a->dilation;
    if (at < 0 || at % a->stride != 0 || at / a->stride >= a->in) return -1;
    return at / a->stride;
}

static void point_at_row(const struct job *j, size_t image, int32_t iy, size_t group, const void **pointers)
{
    size_t pixel = (size_t)j->p.channels * type_bytes(j->x.type), pixels = (size_t)j->p.x.in;
    const uint8_t *row = (const uint8_t *)j->x.address + (image * (size_t)j->p.y.in + (size_t)iy) * pixels * pixel;
    row += group * j->p.depth * type_bytes(j->x.type);
    for (size_t i = 0; i < pixels; i++) pointers[i] = row + i * pixel;
}

/* The input pixels [*begin, *end) that kernel column `kx` brings inside the output row. */
static void source_columns(const struct axis *a, int32_t kx, int32_t *begin, int32_t *end)
{
    int32_t shift = kx * a->dilation - a->before;
    *begin = shift >= 0 ? 0 : (-shift + a->stride - 1) / a->stride;
    *end = shift >= a->out ? 0 : min_int(a->in, (a->out - 1 - shift) / a->stride + 1);
}

/* Add columns [from, from + n) of the product of one input row to the output row; product row stride n. */
static void scatter_f32(const struct job *j, const float *product, size_t from, size_t n, float *y)
{
    size_t width = j->p.width, stride = (size_t)j->p.outputs;
    for (size_t column = from; column < from + n;) {
        size_t o = column % width, count = width - o < from + n - column ? width - o : from + n - column;
        int32_t kx = (int32_t)(column / width), begin, end;
        source_columns(&j->p.x, kx, &begin, &end);
        for (int32_t ix = begin; ix < end; ix++) {
            const float *t = product + (size_t)ix * n + (column - from);
            float *to = y + (size_t)(ix * j->p.x.stride - j->p.x.before + kx * j->p.x.dilation) * stride + o;
            for (size_t c = 0; c < count; c++) to[c] += t[c];
        }
        column += count;
    }
}

static void scatter_s32(const struct job *j, const int32_t *product, int32_t *acc)
{
    size_t width = j->p.width, n = j->p.rows;
    for (int32_t kx = 0; kx < j->p.x.kernel; kx++) {
        int32_t begin, end;
        source_columns(&j->p.x, kx, &begin, &end);
        for (int32_t ix = begin; ix < end; ix++) {
            const int32_t *t = product + (size_t)ix * n + (size_t)kx * width;
            int32_t *to = acc + (size_t)(ix * j->p.x.stride - j->p.x.before + kx * j->p.x.dilation) * width;
            for (size_t c = 0; c < width; c++) to[c] = (int32_t)((uint32_t)to[c] + (uint32_t)t[c]);
        }
    }
}

/* Windows apart: an output row has one source at most. False when it has none. */
static bool row_apart_s8(const struct job *j, uint8_t *thread, const struct thread_scratch *s, size_t row)
{
    const struct shape *p = &j->p;
    const void **pointers = (const void **)(void *)thread;
    int32_t oy = (int32_t)(row % (size_t)p->y.out), ky = 0, iy = -1;
    while (ky < p->y.kernel && (iy = source_row(&p->y, oy, ky)) < 0) ky++;
    if (iy < 0) return false;
    size_t at = (size_t)ky * p->blocks * E8_NR;
    point_at_row(j, row / (size_t)p->y.out, iy, 0, pointers);
    struct e8_requant q = {
        .init = j->init + at,
        .multiplier = j->tiled,
        .weight_sum = j->sums + at,
        .zero_point = j->y.zero_point,
        .low = j->low,
        .high = j->high,
    };
    struct e8_gemm_s8 g = {
        .m = (size_t)p->x.in,
        .n = p->rows,
        .taps = 1,
        .segment = p->depth,
        .a = pointers,
        .a_stride = (size_t)p->x.in,
        .w = (const int8_t *)j->w.address + (size_t)ky * p->matrix_bytes,
        .out = (int8_t *)j->y.address + row * (size_t)p->x.out * (size_t)p->outputs,
        .out_stride = p->rows,
        .scratch = thread + s->kernel,
    };
    j->run->kernels->gemm_s8(&g, &q);
    return true;
}

static void row_s8(const struct job *j, uint8_t *thread, const struct thread_scratch *s, size_t row, size_t group)
{
    const struct shape *p = &j->p;
    const void **pointers = (const void **)(void *)thread;
    int32_t *product = (int32_t *)(void *)(thread + s->product), *acc = (int32_t *)(void *)(thread + s->acc);
    size_t width = p->width, first = group * width, out = (size_t)p->x.out;
    int32_t oy = (int32_t)(row % (size_t)p->y.out);
    for (size_t i = 0; i < out; i++) memcpy(acc + i * width, j->start + first, width * sizeof *acc);
    for (int32_t ky = 0; ky < p->y.kernel; ky++) {
        int32_t iy = source_row(&p->y, oy, ky);
        size_t matrix = group * (size_t)p->y.kernel + (size_t)ky, at = matrix * p->blocks * E8_NR;
        if (iy < 0) continue;
        point_at_row(j, row / (size_t)p->y.out, iy, group, pointers);
        struct e8_gemm_s8s32 g = {
            .m = (size_t)p->x.in,
            .n = p->rows,
            .taps = 1,
            .segment = p->depth,
            .a = pointers,
            .a_stride = (size_t)p->x.in,
            .w = (const int8_t *)j->w.address + matrix * p->matrix_bytes,
            .init = j->init + at,
            .weight_sum = j->sums + at,
            .out = product,
            .out_stride = p->rows,
            .scratch = thread + s->kernel,
            .weights = 1,
        };
        j->run->kernels->gemm_s8s32(&g);
        scatter_s32(j, product, acc);
    }
    int8_t *y = (int8_t *)j->y.address + row * out * (size_t)p->outputs + first;
    struct e8_requant_row q = {.zero_point = j->y.zero_point, .low = j->low, .high = j->high};
    for (size_t i = 0; i < out; i++, y += p->outputs)
        j->run->kernels->requantise_channels(acc + i * width, y, width, j->multiplier + first, &q);
}

/* Add kernel row `ky`, columns [from, from + n) of its matrix, to all output rows of the share. `w` is a float panel. */
static void rows_f32(const struct job *j, uint8_t *thread, const struct thread_scratch *s, size_t begin, size_t end, size_t group,
                     int32_t ky, const float *w, size_t from, size_t n)
{
    const struct shape *p = &j->p;
    const void **pointers = (const void **)(void *)thread;
    float *product = (float *)(void *)(thread + s->product);
    for (size_t row = begin; row < end; row++) {
        int32_t iy = source_row(&p->y, (int32_t)(row % (size_t)p->y.out), ky);
        if (iy < 0) continue;
        point_at_row(j, row / (size_t)p->y.out, iy, group, pointers);
        struct e8_gemm_f32 g = {
            .m = (size_t)p->x.in,
            .n = n,
            .taps = 1,
            .segment = p->depth,
            .a = pointers,
            .a_stride = (size_t)p->x.in,
            .w = w,
            .out = product,
            .out_stride = n,
            .low = -__builtin_inff(),
            .high = __builtin_inff(),
        };
        j->run->kernels->gemm_f32(&g);
        scatter_f32(j, product, from, n, (float *)j->y.address + row * (size_t)p->x.out * (size_t)p->outputs + group * p->width);
    }
}

/* One kernel row of one group: float weights in one product, coded ones a decoded block at a time. */
static void kernel_row_f32(const struct job *j, uint8_t *thread, const struct thread_scratch *s, size_t begin, size_t end, size_t group,
                           int32_t ky)
{
    const struct shape *p = &j->p;
    const uint8_t *w = (const uint8_t *)j->w.address + (group * (size_t)p->y.kernel + (size_t)ky) * p->matrix_bytes;
    if (j->w.type == Type_FLOAT32) {
        rows_f32(j, thread, s, begin, end, group, ky, (const float *)(const void *)w, 0, p->rows);
        return;
    }
    float *panel = (float *)(void *)(thread + s->kernel);
    for (size_t b = 0; b < p->blocks; b++) {
        struct e8_decode d = {
            .codes = w + b * (p->matrix_bytes / p->blocks), .bits = j->w.bits, .k = p->depth, .group = MAX_DEPTH, .panel = panel};
        size_t from = b * E8_NR, n = p->rows - from < E8_NR ? p->rows - from : E8_NR;
        j->run->kernels->decode(&d);
        rows_f32(j, thread, s, begin, end, group, ky, panel, from, n);
    }
}

static void finish_f32(const struct job *j, size_t begin, size_t end)
{
    size_t outputs = (size_t)j->p.outputs, row = (size_t)j->p.x.out * outputs;
    for (float *y = (float *)j->y.address + begin * row, *last = (float *)j->y.address + end * row; y < last; y += outputs)
        for (size_t o = 0; o < outputs; o++) {
            float value = j->multiplier ? fma_float(y[o], j->multiplier[o], j->bias[o]) : y[o] + j->bias[o];
            y[o] = min_float(j->p.act_max, max_float(j->p.act_min, value));
        }
}

/* A task takes a share of the output rows of all images. */
static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    uint8_t *thread = j->run->thread + (size_t)index * j->run->thread_bytes;
    struct thread_scratch s = thread_scratch(&j->x, &j->w, &j->p);
    size_t begin, end, row = (size_t)j->p.x.out * (size_t)j->p.outputs;
    run_share((size_t)j->p.batch * (size_t)j->p.y.out, 1, index, j->tasks, &begin, &end);
    if (j->x.type == Type_INT8) {
        for (size_t group = 0; group < (size_t)j->p.group; group++)
            for (size_t i = begin; i < end; i++)
                if (!j->p.apart || !row_apart_s8(j, thread, &s, i)) row_s8(j, thread, &s, i, group);
        return;
    }
    memset((float *)j->y.address + begin * row, 0, (end - begin) * row * sizeof(float));
    for (size_t group = 0; group < (size_t)j->p.group; group++)
        for (int32_t ky = 0; ky < j->p.y.kernel; ky++) kernel_row_f32(j, thread, &s, begin, end, group, ky);
    finish_f32(j, begin, end);
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    struct tensor bias;
    (void)run_input(r, 0, &j.x);
    (void)run_input(r, 1, &j.w);
    bool biased = run_input(r, 2, &bias);
    run_output(r, 0, &j.y);
    read_params(&r->op, &j.x, &j.w, &j.y, &j.p);
    find_sizes(&j.w, &j.p);
    j.s = shared_scratch(&j.x, &j.p);
    prepare(&j, &bias, biased);
    uint64_t work = j.x.elements * (uint64_t)j.p.y.kernel * j.p.rows;
    j.tasks = run_tasks(r, work, (uint64_t)j.p.batch * (uint64_t)j.p.y.out);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_conv_transpose2d = {.check = check, .run = run, .packed = 2};
