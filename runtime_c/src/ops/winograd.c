/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd.h"

#include "../numeric.h"

enum {
    POINTS = 16,
    LINE = 4,   /* points of a row of the 4x4 */
    CENTRE = 5, /* the point (1, 1) */
    APART = 16, /* floats between the arrays of points, which would meet in the same sets of the cache */
    /* Transformed weights that are made once for all tiles of a layer, with so many tiles and blocks of output channels at a time. */
    KEPT_BYTES = E8_GEMM_ROWS > 16 ? 1 << 20 : 1 << 15, /* less where memory is dear */
    KEPT_TILES = 24,
    KEPT_BLOCKS = 4,
    /* Where they would be more, those of a row of points and so many blocks are made for so many tiles; one block when two are more. */
    LINE_BYTES = E8_GEMM_ROWS > 16 ? 1 << 17 : 1 << 14,
    LINE_TILES = E8_GEMM_ROWS > 16 ? 56 : 16,
    LINE_BLOCKS = 2
};

static int64_t tiles_across(int32_t outputs)
{
    return ((int64_t)outputs + 1) / 2;
}

static uint64_t tile_count(const struct window *w)
{
    return size_mul((uint64_t)w->batch, (uint64_t)(tiles_across(w->oh) * tiles_across(w->ow)));
}

/* Work in multiply-accumulates, as measured: a tile takes 16 per channel and output, its transforms and stores as long as 75 per
 * channel, 155 per output and 1500 besides; the transform of the weights takes 64 per channel and output. */
bool winograd_fits(const struct linear *l, const struct window *w)
{
    bool form = linear_is(l, LINEAR_FLOAT) || (linear_is(l, LINEAR_CODED) && l->w.scales.count <= l->channels);
    if (!form || l->groups != 1 || w->kh != 3 || w->kw != 3) return false;
    if (l->x.dims[3] % 8 != 0 || l->channels % 8 != 0) return false;
    if (w->sh != 1 || w->sw != 1 || w->dh != 1 || w->dw != 1) return false;
    uint64_t in = (uint64_t)l->x.dims[3], out = (uint64_t)l->channels, pairs = size_mul(in, out);
    uint64_t tile = size_add(size_mul(POINTS, pairs), size_add(75 * in, 155 * out) + 1500);
    uint64_t pixels = size_mul((uint64_t)w->batch, (uint64_t)w->oh * (uint64_t)w->ow);
    return size_add(size_mul(tile_count(w), tile), size_mul(64, pairs)) < size_mul(size_mul(9, pixels), pairs);
}

/* A thread's scratch. Strides are in floats, from one point to the next. */
struct parts {
    size_t rows, v, u, m, outside, zeros, panel;
    size_t v_stride, u_stride, m_stride, tiles, blocks;
    bool kept;
    uint64_t total;
};

static size_t place(uint64_t *total, uint64_t floats)
{
    uint64_t at = *total;
    *total = size_align(size_add(*total, size_mul(floats, sizeof(float))), 64);
    return (size_t)at;
}

static struct parts thread_parts(const struct linear *l, const struct window *w)
{
    struct parts p = {0};
    uint64_t total = 0, tiles = tile_count(w), all = l->padded / E8_NR, block = size_mul((uint64_t)l->x.dims[3], E8_NR);
    p.kept = size_mul(block, POINTS * all) <= KEPT_BYTES / sizeof(float);
    uint64_t blocks = p.kept ? KEPT_BLOCKS : LINE_BLOCKS * LINE * block <= LINE_BYTES / sizeof(float) ? LINE_BLOCKS : 1;
    p.blocks = (size_t)(blocks < all ? blocks : all);
    p.tiles = (size_t)size_div_up(tiles, size_div_up(tiles, p.kept ? KEPT_TILES : LINE_TILES));
    p.v_stride = (size_t)size_add(p.tiles * (uint64_t)l->x.dims[3], APART);
    p.u_stride = (size_t)size_add(size_mul(block, p.kept ? all : p.blocks), APART);
    p.m_stride = p.tiles * p.blocks * E8_NR + APART;
    p.rows = place(&total, p.tiles * (sizeof(void *) / sizeof(float)));
    p.v = place(&total, size_mul(p.v_stride, POINTS));
    p.u = place(&total, size_mul(p.u_stride, p.kept ? POINTS : LINE));
    p.m = place(&total, p.m_stride * POINTS);
    p.outside = place(&total, p.blocks * E8_NR);
    p.zeros = place(&total, p.blocks * E8_NR);
    p.panel = place(&total, linear_is(l, LINEAR_CODED) ? size_mul(l->depth, E8_NR) : 0);
    p.total = total;
    return p;
}

uint64_t winograd_thread_bytes(const struct linear *l, const struct window *w)
{
    return thread_parts(l, w).total;
}

/* What one task works on: tiles [tile, tile + tiles) and output channels of blocks [block, block + blocks). */
struct work {
    const struct linear_rows *job;
    uint8_t *scratch;
    struct parts parts;
    size_t tile, tiles, first, block, blocks;
};

static float *floats_at(const struct work *k, size_t part)
{
    return (float *)(void *)(k->scratch + part);
}

/* Top left output of a tile. */
struct corner {
    size_t picture;
    int32_t y, x;
};

static struct corner first_corner(const struct window *w, size_t tile)
{
    size_t across = (size_t)tiles_across(w->ow), each = across * (size_t)tiles_across(w->oh), at = tile % each;
    return (struct corner){tile / each, (int32_t)(2 * (at / across)), (int32_t)(2 * (at % across))};
}

static void next_corner(const struct window *w, struct corner *at)
{
    at->x += 2;
    if (at->x < w->ow) return;
    at->x = 0;
    at->y += 2;
    if (at->y < w->oh) return;
    at->y = 0;
    at->picture++;
}

static void transform_input(const struct work *k)
{
    const struct linear_rows *job = k->job;
    const struct window *w = job->window;
    size_t channels = (size_t)job->l->x.dims[3], width = (size_t)w->iw;
    const float *pixels[POINTS], *zeros = job->zeros;
    struct corner at = first_corner(w, k->tile);
    for (size_t i = 0; i < k->tiles; i++, next_corner(w, &at)) {
        const float *picture = (const float *)job->l->x.address + at.picture * (size_t)w->ih * width * channels;
        for (int32_t p = 0; p < POINTS; p++) {
            int32_t y = at.y - w->pt + p / 4, x = at.x - w->pl + p % 4;
            bool inside = y >= 0 && y < w->ih && x >= 0 && x < w->iw;
            pixels[p] = inside ? picture + ((size_t)y * width + (size_t)x) * channels : zeros;
        }
        job->run->kernels->winograd_input(pixels, floats_at(k, k->parts.v) + i * channels, k->parts.v_stride, channels);
    }
}

/* Weights of block `block` as floats [9][channels][16]. */
static const float *block_weights(const struct work *k, size_t block)
{
    const struct linear *l = k->job->l;
    if (linear_is(l, LINEAR_FLOAT)) return (const float *)l->w.address + block * E8_NR * l->depth;
    struct e8_decode d = {
        .codes = l->w.data.bytes + block * ((l->depth + 3) / 4 * 8 * l->w.bits),
        .bits = l->w.bits,
        .k = l->depth,
        .group = (l->depth + 3) / 4 * 4,
        .scale = k->job->scale + block * E8_NR,
        .panel = floats_at(k, k->parts.panel),
    };
    k->job->run->kernels->decode(&d);
    return d.panel;
}

/* Transformed weights of the blocks at work for the points of a row: where they begin. They are made where they are not there yet. */
static const float *row_weights(const struct work *k, size_t row, bool made)
{
    size_t count = (size_t)k->job->l->x.dims[3] * E8_NR, stride = k->parts.u_stride;
    float *u = floats_at(k, k->parts.u) + (k->parts.kept ? row * LINE * stride + (k->block - k->first) * count : 0);
    for (size_t b = 0; b < k->blocks && !made; b++)
        k->job->run->kernels->winograd_weights(block_weights(k, k->block + b), u + b * count, stride, count, row);
    return u;
}

static void multiply(const struct work *k, bool made)
{
    const struct linear *l = k->job->l;
    size_t channels = (size_t)l->x.dims[3];
    const void **rows = (const void **)(void *)(k->scratch + k->parts.rows);
    struct e8_gemm_f32 g = {
        .m = k->tiles,
        .n = k->blocks * E8_NR,
        .taps = 1,
        .segment = channels,
        .a = rows,
        .a_stride = k->tiles,
        .out_stride = k->blocks * E8_NR,
        .low = -__builtin_inff(),
        .high = __builtin_inff(),
    };
    for (size_t p = 0; p < POINTS; p++, g.w += k->parts.u_stride) {
        const float *v = floats_at(k, k->parts.v) + p * k->parts.v_stride;
        if (p % LINE == 0) g.w = row_weights(k, p / LINE, made);
        for (size_t i = 0; i < k->tiles; i++) rows[i] = v + i * channels;
        g.out = floats_at(k, k->parts.m) + p * k->parts.m_stride;
        g.bias = p == CENTRE && l->has_bias ? k->job->bias + k->block * E8_NR : NULL;
        k->job->run->kernels->gemm_f32(&g);
    }
}

/* Outputs beyond the picture's end go to scratch. */
static void transform_output(const struct work *k)
{
    const struct linear *l = k->job->l;
    const struct window *w = k->job->window;
    size_t first = k->block * E8_NR, columns = k->blocks * E8_NR;
    struct e8_winograd_output g = {
        .m = floats_at(k, k->parts.m),
        .stride = k->parts.m_stride,
        .channels = l->channels - first < columns ? l->channels - first : columns,
        .low = l->act_min,
        .high = l->act_max,
    };
    struct corner at = first_corner(w, k->tile);
    for (size_t i = 0; i < k->tiles; i++, g.m += columns, next_corner(w, &at)) {
        for (int32_t p = 0; p < 4; p++) {
            int32_t y = at.y + p / 2, x = at.x + p % 2;
            bool inside = y < w->oh && x < w->ow;
            size_t pixel = (at.picture * (size_t)w->oh + (size_t)y) * (size_t)w->ow + (size_t)x, from = pixel * l->channels + first;
            g.out[p] = inside ? (float *)l->y.address + from : floats_at(k, k->parts.outside);
            g.residual[p] = inside && l->has_residual ? (const float *)l->residual.address + from : floats_at(k, k->parts.zeros);
        }
        k->job->run->kernels->winograd_output(&g);
    }
}

/* Tiles are shared out where there are many, output channels where there are few. */
static void task(void *argument, uint32_t index)
{
    const struct linear_rows *job = argument;
    struct work k = {
        .job = job,
        .scratch = job->run->thread + index * job->run->thread_bytes,
        .parts = thread_parts(job->l, job->window),
    };
    size_t tiles = (size_t)tile_count(job->window), end = tiles, begin = 0, last = job->l->padded / E8_NR;
    if (tiles < k.parts.tiles * job->tasks && last >= job->tasks)
        run_share(last, 1, index, job->tasks, &k.first, &last);
    else
        run_share(tiles, 1, index, job->tasks, &begin, &end);
    memset(k.scratch + k.parts.zeros, 0, k.parts.blocks * E8_NR * sizeof(float));
    for (k.tile = begin; k.tile < end; k.tile += k.tiles) {
        k.tiles = end - k.tile < k.parts.tiles ? end - k.tile : k.parts.tiles;
        transform_input(&k);
        for (k.block = k.first; k.block < last; k.block += k.blocks) {
            k.blocks = last - k.block < k.parts.blocks ? last - k.block : k.parts.blocks;
            multiply(&k, k.parts.kept && k.tile > begin);
            transform_output(&k);
        }
    }
}

void winograd_run(struct linear_rows *job)
{
    const struct linear *l = job->l;
    uint64_t tiles = tile_count(job->window);
    job->tasks =
        run_tasks(job->run, size_mul(size_mul(tiles, POINTS * (uint64_t)l->channels), (uint64_t)l->x.dims[3]), tiles + l->padded / E8_NR);
    run_parallel(job->run, task, job, job->tasks);
}
