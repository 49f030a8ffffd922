/* SPDX-License-Identifier: Apache-2.0 */
#include "linear.h"

#include "../numeric.h"

static size_t blocks_of(size_t n)
{
    return (n + E8_NR - 1) / E8_NR;
}

enum {
#define X(number, table, name) KIND_##table = number,
    E8_OPS(X)
#undef X
};

static void decode_activation(const struct op *op, struct linear *l, uint32_t low, uint32_t high)
{
    l->act_min = flat_float(op->params, low, -__builtin_inff());
    l->act_max = flat_float(op->params, high, __builtin_inff());
}

static enum linear_form form_of(const struct op *op, const struct linear *l)
{
    if (l->x.type != Type_FLOAT32) return l->x.type == Type_INT16 ? LINEAR_INT16 : LINEAR_INT8;
    if (l->w.type == Type_FLOAT32) return LINEAR_FLOAT;
    bool dynamic = op->kind == KIND_FullyConnected && flat_byte(op->params, FullyConnected_dynamic, 0);
    return dynamic ? LINEAR_DYNAMIC : LINEAR_CODED;
}

void linear_decode(const struct op *op, struct linear *l)
{
    memset(l, 0, sizeof *l);
    (void)op_input(op, LINEAR_X, &l->x);
    (void)op_input(op, LINEAR_WEIGHTS, &l->w);
    l->has_bias = op_input(op, LINEAR_BIAS, &l->bias);
    l->has_sum = op_input(op, LINEAR_SUM, &l->sum);
    l->has_residual = op_input(op, LINEAR_RESIDUAL, &l->residual);
    op_output(op, 0, &l->y);
    l->form = form_of(op, l);
    if (op->kind == KIND_FullyConnected)
        decode_activation(op, l, FullyConnected_act_min, FullyConnected_act_max);
    else if (op->kind == KIND_DepthwiseConv2D)
        decode_activation(op, l, DepthwiseConv2D_act_min, DepthwiseConv2D_act_max);
    else
        decode_activation(op, l, Conv2D_act_min, Conv2D_act_max);
}

void linear_open(const struct run *r, struct linear *l)
{
    linear_decode(&r->op, l);
    run_locate(r, LINEAR_X, &l->x);
    run_locate(r, LINEAR_WEIGHTS, &l->w);
    run_locate(r, LINEAR_RESIDUAL, &l->residual);
    run_locate(r, 0, &l->y);
}

/* Stored bytes of the weights in their packed layout. */
static uint64_t stored_bytes(const struct linear *l, bool depthwise)
{
    uint64_t depth = depthwise || l->w.type == Type_FLOAT32 ? l->depth : size_div_up(l->depth, 4) * 4;
    uint64_t values = size_mul(size_mul(l->groups, l->padded), depth);
    return l->w.type == Type_FLOAT32 ? size_mul(values, 4) : size_mul(values / 8, l->w.bits);
}

static e8_status check_form(struct check *c, const struct linear *l)
{
    uint64_t outputs = size_mul(l->groups, l->channels);
    bool codes = (l->w.type == Type_INT8 && l->w.bits <= 8) || (l->w.type == Type_INT16 && l->w.bits <= 16);
    bool grouped = l->w.group != 0 && l->w.group < l->depth;
    bool coded = linear_is(l, LINEAR_INT8) || linear_is(l, LINEAR_INT16), integer = coded || linear_is(l, LINEAR_DYNAMIC);
    c->tensor = l->w.index;
    REQUIRE(c, "linear.weights_constant", l->w.constant);
    REQUIRE(c, "linear.weights_type", codes || l->w.type == Type_FLOAT32);
    REQUIRE(c, "linear.weights_scale", (l->w.scales.count != 0) == codes);
    if (integer) {
        SUPPORTED(c, "linear.weights_bits", l->w.type == Type_INT8 && l->w.bits == 8);
        SUPPORTED(c, "linear.depth", l->depth <= LINEAR_MAX_DEPTH);
    }
    if (linear_is(l, LINEAR_CODED) && grouped) {
        REQUIRE(c, "linear.weights_group", l->w.group % 4 == 0);
        REQUIRE(c, "linear.weights_scale", l->w.scales.count == size_mul(outputs, size_div_up(l->depth, l->w.group)));
    } else if (!linear_is(l, LINEAR_FLOAT)) {
        REQUIRE(c, "linear.weights_scale", (l->w.scales.count == 1 || l->w.scales.count == outputs) && !grouped);
    }
    c->tensor = E8_ABSENT;
    if (coded) {
        uint32_t type = linear_is(l, LINEAR_INT8) ? Type_INT8 : Type_INT16;
        SUPPORTED(c, "linear.type", l->x.type == type && l->y.type == type);
        REQUIRE(c, "linear.scale", tensor_is_quantised(&l->x) && tensor_is_quantised(&l->y));
    } else {
        REQUIRE(c, "linear.type", tensor_is_float(&l->x) && tensor_is_float(&l->y));
    }
    return E8_OK;
}

e8_status linear_check(struct check *c, const struct linear *l, bool depthwise)
{
    uint64_t outputs = size_mul(l->groups, l->channels);
    bool integer = linear_is(l, LINEAR_INT8) || linear_is(l, LINEAR_DYNAMIC);
    REQUIRE(c, "linear.activation", l->act_min <= l->act_max);
    TRY(check_form(c, l));
    c->tensor = l->w.index;
    REQUIRE(c, "linear.weights_data", l->w.data.count == stored_bytes(l, depthwise));
    c->tensor = l->bias.index;
    if (l->has_bias) REQUIRE(c, "linear.bias", l->bias.constant && tensor_is_float(&l->bias) && l->bias.elements == outputs);
    c->tensor = l->sum.index;
    if (l->has_sum) REQUIRE(c, "linear.weight_sum", l->sum.constant && l->sum.type == Type_INT32 && l->sum.elements == outputs);
    REQUIRE(c, "linear.weight_sum", l->has_sum || !integer);
    c->tensor = l->residual.index;
    if (l->has_residual) {
        REQUIRE(c, "linear.residual", !l->residual.constant && tensor_same_shape(&l->residual, &l->y) && l->residual.type == l->y.type);
        REQUIRE(c, "linear.residual", tensor_is_quantised(&l->residual) == tensor_is_quantised(&l->y));
    }
    c->tensor = E8_ABSENT;
    return E8_OK;
}

static size_t place(uint64_t *total, uint64_t bytes)
{
    uint64_t at = *total;
    *total = size_align(size_add(*total, bytes), 64);
    return (size_t)at;
}

struct linear_scratch linear_scratch_layout(const struct linear *l, uint64_t zeros, uint64_t extra)
{
    struct linear_scratch s = {0};
    uint64_t total = 0, array = size_mul(size_mul(l->groups, l->padded), 4);
    bool int8 = linear_is(l, LINEAR_INT8), int16 = linear_is(l, LINEAR_INT16), coded = int8 || int16;
    s.init = place(&total, int16 ? size_mul(array, 2) : int8 ? array : 0);
    s.multiplier = place(&total, coded ? array : 0);
    s.weight_sum = place(&total, int8 || linear_is(l, LINEAR_DYNAMIC) ? array : 0);
    s.residual = place(&total, coded && l->has_residual ? array : 0);
    s.bias = place(&total, !coded && l->has_bias ? array : 0);
    s.scale = place(&total, linear_is(l, LINEAR_CODED) || linear_is(l, LINEAR_DYNAMIC) ? array : 0);
    uint64_t limits = size_mul(l->groups * (l->padded / E8_NR), E8_GEMM_LIMITS((uint64_t)l->depth));
    s.limits = place(&total, int8 ? size_add(limits, E8_GEMM_LIMITS_SLACK) : 0);
    s.zeros = place(&total, size_mul(zeros, type_bytes(l->x.type)));
    s.extra = place(&total, extra);
    s.total = total;
    return s;
}

void linear_code_bounds(const struct linear *l, int32_t *low, int32_t *high)
{
    *low = tensor_code(&l->y, l->act_min);
    *high = tensor_code(&l->y, l->act_max);
}

static float weight_scale(const struct linear *l, size_t channel)
{
    return flat_element_float(l->w.scales, l->w.scales.count == 1 ? 0 : (uint32_t)channel);
}

static int32_t bias_bound(const struct linear *l)
{
    return (INT32_MAX - 32385 * (int32_t)l->depth) / 2;
}

static void prepare_int8(const struct linear *l, const struct linear_scratch *s, uint8_t *shared, size_t channel, size_t slot)
{
    int32_t bound = bias_bound(l);
    float scale = l->x.scale * weight_scale(l, channel);
    float bias = l->has_bias ? flat_load_float(l->bias.data.bytes + 4 * channel) : 0.0f;
    int32_t sum = (int32_t)flat_load32(l->sum.data.bytes + 4 * channel);
    int32_t start = min_int(max_int(rne_int32(bias / scale), -bound), bound);
    ((int32_t *)(void *)(shared + s->weight_sum))[slot] = sum;
    ((int32_t *)(void *)(shared + s->init))[slot] = (int32_t)((uint32_t)start - (uint32_t)l->x.zero_point * (uint32_t)sum);
    ((float *)(void *)(shared + s->multiplier))[slot] = scale / l->y.scale;
    if (l->has_residual) {
        float most = (float)(bound / 256);
        ((float *)(void *)(shared + s->residual))[slot] = min_float(l->residual.scale / scale, most);
    }
}

static void prepare_int16(const struct linear *l, const struct linear_scratch *s, uint8_t *shared, size_t channel, size_t slot)
{
    const double bound = 0x1p50;
    float scale = l->x.scale * weight_scale(l, channel);
    double start = (double)((l->has_bias ? flat_load_float(l->bias.data.bytes + 4 * channel) : 0.0f) / scale);
    start = start > -bound ? start : -bound;
    ((double *)(void *)(shared + s->init))[slot] = rne_double(start < bound ? start : bound);
    ((float *)(void *)(shared + s->multiplier))[slot] = scale / l->y.scale;
    if (l->has_residual) ((float *)(void *)(shared + s->residual))[slot] = min_float(l->residual.scale / scale, 0x1p34f);
}

static void prepare_float(const struct linear *l, const struct linear_scratch *s, uint8_t *shared, size_t channel, size_t slot)
{
    bool grouped = l->w.scales.count > l->groups * l->channels;
    if (l->has_bias) ((float *)(void *)(shared + s->bias))[slot] = flat_load_float(l->bias.data.bytes + 4 * channel);
    if (!linear_is(l, LINEAR_FLOAT) && !grouped) ((float *)(void *)(shared + s->scale))[slot] = weight_scale(l, channel);
    if (linear_is(l, LINEAR_DYNAMIC))
        ((int32_t *)(void *)(shared + s->weight_sum))[slot] = (int32_t)flat_load32(l->sum.data.bytes + 4 * channel);
}

/* Per-channel arrays of a form. */
typedef void (*prepare_channel)(const struct linear *l, const struct linear_scratch *s, uint8_t *shared, size_t channel, size_t slot);

static void requant_int8(const struct linear *l, const struct linear_scratch *s, const uint8_t *shared, struct e8_requant *q)
{
    q->weight_sum = (const int32_t *)(const void *)(shared + s->weight_sum);
    if (!linear_is(l, LINEAR_INT8)) return;
    q->init = (const int32_t *)(const void *)(shared + s->init);
    q->multiplier = (const float *)(const void *)(shared + s->multiplier);
    if (l->has_residual) {
        q->residual_multiplier = (const float *)(const void *)(shared + s->residual);
        q->residual_zero = l->residual.zero_point;
    }
    q->zero_point = l->y.zero_point;
    linear_code_bounds(l, &q->low, &q->high);
}

static void requant_int16(const struct linear *l, const struct linear_scratch *s, const uint8_t *shared, struct e8_requant_s16 *q)
{
    int32_t low, high;
    linear_code_bounds(l, &low, &high);
    *q = (struct e8_requant_s16){
        .init = (const double *)(const void *)(shared + s->init),
        .multiplier = (const float *)(const void *)(shared + s->multiplier),
        .residual_multiplier = (const float *)(const void *)(shared + (l->has_residual ? s->residual : s->multiplier)),
        .low = (float)low,
        .high = (float)high,
    };
}

static void fill_arrays(const struct linear *l, const struct linear_scratch *s, uint8_t *base)
{
    bool int8 = linear_is(l, LINEAR_INT8), int16 = linear_is(l, LINEAR_INT16);
    prepare_channel prepare = int8 ? prepare_int8 : int16 ? prepare_int16 : prepare_float;
    memset(base, 0, s->limits);
    memset(base + s->zeros, int8 ? l->x.zero_point : 0, s->extra - s->zeros);
    for (size_t g = 0; g < l->groups; g++)
        for (size_t c = 0; c < l->channels; c++) prepare(l, s, base, g * l->channels + c, g * l->padded + c);
}

size_t linear_keep(const struct run *r, const struct linear *l, const struct linear_scratch *s)
{
    fill_arrays(l, s, r->kept);
    return s->extra;
}

uint8_t *linear_prepare(const struct run *r, const struct linear *l, const struct linear_scratch *s, struct linear_requant *q)
{
    uint8_t *base = r->kept ? r->kept : r->shared;
    if (!r->kept) fill_arrays(l, s, base);
    memset(q, 0, sizeof *q);
    if (linear_is(l, LINEAR_INT16))
        requant_int16(l, s, base, &q->int16);
    else
        requant_int8(l, s, base, &q->int8);
    return base;
}

struct e8_requant linear_requant_at(const struct e8_requant *q, size_t channel)
{
    struct e8_requant r = *q;
    r.init += channel;
    r.multiplier += channel;
    r.weight_sum += channel;
    if (r.residual_multiplier) r.residual_multiplier += channel;
    return r;
}

size_t linear_rows(size_t taps)
{
    size_t rows = 4096 / taps;
    if (rows > E8_GEMM_ROWS) return E8_GEMM_ROWS;
    return rows < 8 ? 8 : rows;
}

/* Rows of a tile. In float a few more: 7x7 pixels are one tile then, which reads the weights once. */
static size_t tile_rows(const struct linear_rows *job)
{
    size_t rows = linear_rows(job->taps);
    bool real = linear_is(job->l, LINEAR_FLOAT) || linear_is(job->l, LINEAR_CODED);
    return real && rows == 48 ? 54 : rows;
}

enum { PANEL_BYTES = 128 * 1024 };

/* Blocks of decoded weights that a thread holds at a time. */
static size_t panel_blocks(const struct linear *l)
{
    size_t blocks = PANEL_BYTES / (E8_NR * sizeof(float)) / l->depth;
    if (blocks > blocks_of(l->channels)) blocks = blocks_of(l->channels);
    return blocks ? blocks : 1;
}

/* Bytes that a row's last copy may write beyond the row. */
enum { GATHER_SLACK = 16 };

/* Output channels whose int16 sums are held at a time. */
enum { INT16_COLUMNS = 64 };

/* Parts of a thread's scratch. */
struct parts {
    size_t pointers, kernel, sums, rows, edge, panel, scales;
    uint64_t total;
};

static struct parts thread_parts(const struct linear_rows *job)
{
    const struct linear *l = job->l;
    struct parts p = {0};
    uint64_t total = 0, rows = tile_rows(job), depth4 = size_div_up(l->depth, 4) * 4;
    size_t width = type_bytes(l->x.type);
    uint64_t edge = job->lines ? size_mul(window_edge_pixels(job->window, (size_t)rows), size_mul(l->depth, width)) : 0;
    p.pointers = place(&total, size_mul(size_mul(job->taps, rows), sizeof(void *)));
    p.kernel = place(&total, linear_is(l, LINEAR_INT8) ? E8_GEMM_S8_SCRATCH((uint64_t)l->depth) : 0);
    p.sums = place(&total, linear_is(l, LINEAR_INT16) ? rows * INT16_COLUMNS * sizeof(double) : 0);
    p.rows = place(&total, job->gather ? size_add(size_mul(rows, depth4 * width), GATHER_SLACK) : 0);
    p.edge = place(&total, edge);
    p.panel = place(&total, linear_is(l, LINEAR_CODED) ? size_mul(size_mul(panel_blocks(l), l->depth), E8_NR * sizeof(float)) : 0);
    p.scales =
        place(&total, linear_is(l, LINEAR_CODED) && l->w.group ? size_mul(size_div_up(l->depth, l->w.group), E8_NR * sizeof(float)) : 0);
    p.total = total;
    return p;
}

uint64_t linear_thread_bytes(const struct linear_rows *job)
{
    return thread_parts(job).total;
}

/* What one task works on at the moment. */
struct tile {
    const struct linear_rows *job;
    uint8_t *scratch;
    struct parts parts;
    size_t group, first_block, end_block; /* output channels */
    size_t row, rows;
};

static const void **tile_pointers(const struct tile *t)
{
    return (const void **)(void *)(t->scratch + t->parts.pointers);
}

static void point_at_rows(const struct tile *t)
{
    const struct linear_rows *job = t->job;
    const void **out = tile_pointers(t);
    size_t width = type_bytes(job->l->x.type);
    const uint8_t *x = (const uint8_t *)job->l->x.address + t->group * job->segment * width;
    if (job->lines) {
        window_lines(job->window, x, job->row_bytes, job->zeros, t->scratch + t->parts.edge, t->row, t->rows, out, tile_rows(job));
        return;
    }
    if (job->window) {
        window_pointers(job->window, x, job->row_bytes, job->zeros, t->row, t->rows, out, tile_rows(job));
        return;
    }
    for (size_t i = 0; i < t->rows; i++) out[i] = x + (t->row + i) * job->row_bytes;
}

/* Copy the segments of each row to one place, and point there instead. Short segments are copied by 16 bytes where those may be
 * read; what that writes too much is overwritten by the next segment, or lies in the slack. */
static void gather_rows(const struct tile *t)
{
    const struct linear_rows *job = t->job;
    const void **pointers = tile_pointers(t);
    const uint8_t *x = job->l->x.address, *end = x + job->l->x.bytes;
    size_t width = type_bytes(job->l->x.type), row_bytes = (job->l->depth + 3) / 4 * 4 * width, segment = job->segment * width;
    size_t stride = tile_rows(job);
    for (size_t i = 0; i < t->rows; i++) {
        uint8_t *row = t->scratch + t->parts.rows + i * row_bytes, *to = row;
        for (size_t k = 0; k < job->taps; k++, to += segment) {
            const uint8_t *from = pointers[k * stride + i];
            if (segment <= 16 && from >= x && from < end && (size_t)(end - from) >= 16)
                memcpy(to, from, 16);
            else
                memcpy(to, from, segment);
        }
        pointers[i] = row;
    }
}

static void multiply_int8(const struct tile *t)
{
    const struct linear_rows *job = t->job;
    const struct linear *l = job->l;
    size_t first = t->first_block * E8_NR, end = t->end_block * E8_NR;
    size_t depth4 = (l->depth + 3) / 4 * 4, column = t->group * l->channels + first, outputs = l->groups * l->channels;
    if (job->gather) gather_rows(t);
    struct e8_requant q = linear_requant_at(&job->q.int8, t->group * l->padded + first);
    struct e8_gemm_s8 g = {
        .m = t->rows,
        .n = (end < l->channels ? end : l->channels) - first,
        .taps = job->gather ? 1 : job->taps,
        .segment = job->gather ? l->depth : job->segment,
        .a = tile_pointers(t),
        .a_stride = tile_rows(job),
        .w = (const int8_t *)l->w.data.bytes + (t->group * l->padded + first) * depth4,
        .residual = l->has_residual ? (const int8_t *)l->residual.address + t->row * outputs + column : NULL,
        .residual_stride = outputs,
        .out = (int8_t *)l->y.address + t->row * outputs + column,
        .out_stride = outputs,
        .scratch = t->scratch + t->parts.kernel,
        .limits = job->limits ? job->limits + (t->group * l->padded + first) / E8_NR * E8_GEMM_LIMITS(l->depth) : NULL,
    };
    job->run->kernels->gemm_s8(&g, &q);
}

static void multiply_int16(const struct tile *t)
{
    const struct linear_rows *job = t->job;
    const struct linear *l = job->l;
    size_t depth4 = (l->depth + 3) / 4 * 4, outputs = l->groups * l->channels, end = t->end_block * E8_NR;
    double *sums = (double *)(void *)(t->scratch + t->parts.sums);
    if (end > l->channels) end = l->channels;
    if (job->gather) gather_rows(t);
    for (size_t first = t->first_block * E8_NR; first < end; first += INT16_COLUMNS) {
        size_t slot = t->group * l->padded + first, columns = end - first < INT16_COLUMNS ? end - first : INT16_COLUMNS;
        struct e8_requant_s16 q = job->q.int16;
        q.init += slot;
        q.multiplier += slot;
        q.residual_multiplier += slot;
        struct e8_gemm_s16 g = {
            .m = t->rows,
            .n = columns,
            .taps = job->gather ? 1 : job->taps,
            .segment = job->gather ? l->depth : job->segment,
            .a = tile_pointers(t),
            .a_stride = tile_rows(job),
            .w = (const int8_t *)l->w.data.bytes + slot * depth4,
            .out = sums,
            .out_stride = INT16_COLUMNS,
        };
        job->run->kernels->gemm_s16(&g);
        for (size_t i = 0; i < t->rows; i++) {
            size_t at = (t->row + i) * outputs + t->group * l->channels + first;
            const int16_t *residual = l->has_residual ? (const int16_t *)l->residual.address + at : NULL;
            job->run->kernels->finish_s16(sums + i * INT16_COLUMNS, residual, (int16_t *)l->y.address + at, columns, &q);
        }
    }
}

static void multiply_float(const struct tile *t, const float *w)
{
    const struct linear_rows *job = t->job;
    const struct linear *l = job->l;
    size_t first = t->first_block * E8_NR, end = t->end_block * E8_NR;
    size_t column = t->group * l->channels + first, outputs = l->groups * l->channels, slot = t->group * l->padded + first;
    bool scaled = linear_is(l, LINEAR_CODED) && l->w.scales.count <= outputs;
    struct e8_gemm_f32 g = {
        .m = t->rows,
        .n = (end < l->channels ? end : l->channels) - first,
        .taps = job->taps,
        .segment = job->segment,
        .a = tile_pointers(t),
        .a_stride = tile_rows(job),
        .w = w,
        .bias = l->has_bias ? job->bias + slot : NULL,
        .scale = scaled ? job->scale + slot : NULL,
        .residual = l->has_residual ? (const float *)l->residual.address + t->row * outputs + column : NULL,
        .residual_stride = outputs,
        .out = (float *)l->y.address + t->row * outputs + column,
        .out_stride = outputs,
        .low = l->act_min,
        .high = l->act_max,
    };
    job->run->kernels->gemm_f32(&g);
}

/* Decode the blocks of a tile to its panel. */
static const float *decode_panel(const struct tile *t)
{
    const struct linear *l = t->job->l;
    float *panel = (float *)(void *)(t->scratch + t->parts.panel), *scales = (float *)(void *)(t->scratch + t->parts.scales);
    bool grouped = l->w.scales.count > l->groups * l->channels;
    size_t parts = grouped ? (l->depth + l->w.group - 1) / l->w.group : 0;
    size_t block_bytes = (l->depth + 3) / 4 * 8 * l->w.bits, blocks = l->padded / E8_NR;
    for (size_t b = t->first_block; b < t->end_block; b++) {
        for (size_t c = 0; c < E8_NR && grouped; c++) {
            size_t channel = b * E8_NR + c;
            for (size_t p = 0; p < parts; p++)
                scales[p * E8_NR + c] = channel < l->channels
                                            ? flat_element_float(l->w.scales, (uint32_t)((t->group * l->channels + channel) * parts + p))
                                            : 0.0f;
        }
        struct e8_decode d = {
            .codes = l->w.data.bytes + (t->group * blocks + b) * block_bytes,
            .bits = l->w.bits,
            .k = l->depth,
            .group = grouped ? l->w.group : 4,
            .scale = grouped ? scales : NULL,
            .panel = panel + (b - t->first_block) * l->depth * E8_NR,
        };
        t->job->run->kernels->decode(&d);
    }
    return panel;
}

/* Rows of a tile when `count` rows are shared evenly by as many tiles as they need: otherwise a last tile of few rows would be left. */
static size_t even_rows(size_t count, size_t most)
{
    size_t tiles = (count + most - 1) / most, rows = tiles ? (count + tiles - 1) / tiles : most;
    rows = (rows + E8_GEMM_TILE - 1) / E8_GEMM_TILE * E8_GEMM_TILE;
    return rows < most ? rows : most;
}

/* All rows [begin, end) against blocks [first, last) of one group, in tiles. */
static void run_group(struct tile *t, size_t begin, size_t end, size_t first, size_t last)
{
    const struct linear *l = t->job->l;
    size_t each = linear_is(l, LINEAR_CODED) ? panel_blocks(l) : last - first;
    size_t rows = even_rows(end - begin, tile_rows(t->job));
    for (size_t b = first; b < last; b += each) {
        t->first_block = b;
        t->end_block = b + each < last ? b + each : last;
        const float *w = (const float *)l->w.address + (t->group * l->padded + b * E8_NR) * l->depth;
        if (linear_is(l, LINEAR_CODED)) w = decode_panel(t);
        for (t->row = begin; t->row < end; t->row += rows) {
            t->rows = end - t->row < rows ? end - t->row : rows;
            point_at_rows(t);
            if (linear_is(l, LINEAR_INT8))
                multiply_int8(t);
            else if (linear_is(l, LINEAR_INT16))
                multiply_int16(t);
            else
                multiply_float(t, w);
        }
    }
}

/* Coded weights are split by output channel so that each is decoded once; other forms by rows, unless there are few. */
static bool split_by_channel(const struct linear_rows *job)
{
    size_t blocks = blocks_of(job->l->channels);
    if (job->l->groups > 1 || blocks < job->tasks) return false;
    return linear_is(job->l, LINEAR_CODED) || job->rows < tile_rows(job) * job->tasks;
}

static void rows_task(void *argument, uint32_t index)
{
    const struct linear_rows *job = argument;
    const struct linear *l = job->l;
    struct tile t = {
        .job = job,
        .scratch = job->run->thread + index * job->run->thread_bytes,
        .parts = thread_parts(job),
    };
    size_t begin = 0, end = job->rows, first = 0, last = blocks_of(l->channels);
    if (split_by_channel(job))
        run_share(last, 1, index, job->tasks, &first, &last);
    else
        run_share(job->rows, 8, index, job->tasks, &begin, &end);
    for (t.group = 0; t.group < l->groups; t.group++) run_group(&t, begin, end, first, last);
}

/* Bounds of the weights, which some level's kernel derives once for all rows. Worth it for many rows with much work each that lie
 * in one piece, or have many outputs: to gather a window's taps for few costs what the faster sums win. `profits` of
 * converter/quant/bounded_weights.py says the same. */
static bool wants_limits(const struct linear_rows *job)
{
    const struct linear *l = job->l;
    bool much = job->rows >= 32 && l->depth >= 32 && l->channels >= 24 && (job->taps == 1 || linear_is_wide(l));
    return much && linear_is(l, LINEAR_INT8) && job->run->kernels->weight_limits;
}

static void limits_task(void *argument, uint32_t index)
{
    const struct linear_rows *job = argument;
    const struct linear *l = job->l;
    size_t block_bytes = (l->depth + 3) / 4 * (4 * E8_NR), begin, end;
    run_share(l->groups * (l->padded / E8_NR), 1, index, job->tasks, &begin, &end);
    job->run->kernels->weight_limits((const int8_t *)l->w.data.bytes + begin * block_bytes, end - begin, l->depth,
                                     job->limits + begin * E8_GEMM_LIMITS(l->depth));
}

void linear_find_limits(struct linear_rows *job)
{
    const struct linear *l = job->l;
    uint64_t blocks = l->groups * (l->padded / E8_NR);
    if (!wants_limits(job)) return;
    job->tasks = run_tasks(job->run, blocks * l->depth * E8_NR, blocks);
    run_parallel(job->run, limits_task, job, job->tasks);
}

void linear_run_rows(struct linear_rows *job)
{
    const struct linear *l = job->l;
    if (!job->run->kept) linear_find_limits(job);
    if (!wants_limits(job)) job->limits = NULL;
    uint64_t work = (uint64_t)job->rows * l->groups * l->channels * l->depth;
    uint64_t units = blocks_of(job->rows) + blocks_of(l->channels);
    job->tasks = run_tasks(job->run, work, units);
    run_parallel(job->run, rows_task, job, job->tasks);
}
