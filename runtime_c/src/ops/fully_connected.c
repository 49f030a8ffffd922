/* SPDX-License-Identifier: Apache-2.0
 *
 * FullyConnected: x [..., K], weights [O,K] packed,
 *     y[i,o] = clamp(sum over k of x[i,k] * w[o,k] + bias[o] + residual[i,o], act_min, act_max).
 * Numbers and forms: linear.h. The dynamic form quantises each float32 row to int8 by itself:
 *     low = min(0, x[i,k]...);  high = max(0, x[i,k]...);  s = (high - low) / 255;  inverse = 255 / (high - low)
 *     z = rne(-128 - low * inverse);  code = clamp(rne(x * inverse) + z)
 *     y = clamp(fma(float32(sum over k of (code - z) * w), s * s_w[o], bias[o]) + residual[i,o])
 * Magnitudes of 2^29 and more (mask constants such as -3.4e38) and NaN take no part in low and high: they saturate (NaN as the lowest). A
 * row that holds nothing else but values below 2^-100 is measured again with those below 2^126; if that finds nothing, s = 0 and all codes
 * are z. */
#include "linear.h"

#include "../numeric.h"

static e8_status check_shapes(struct check *c, const struct linear *l)
{
    REQUIRE(c, "fully_connected.rank", l->w.rank == 2 && l->x.rank >= 1 && l->y.rank == l->x.rank);
    uint32_t last = l->x.rank - 1;
    REQUIRE(c, "fully_connected.depth", l->x.dims[last] == l->w.dims[1]);
    REQUIRE(c, "fully_connected.output", l->y.dims[last] == l->w.dims[0]);
    for (uint32_t i = 0; i < last; i++) REQUIRE(c, "fully_connected.output", l->y.dims[i] == l->x.dims[i]);
    return E8_OK;
}

static void set_sizes(struct linear *l)
{
    l->groups = 1;
    l->channels = (size_t)l->w.dims[0];
    l->padded = (l->channels + E8_NR - 1) / E8_NR * E8_NR;
    l->depth = (size_t)l->w.dims[1];
}

enum { DYNAMIC_ROWS = 8, DYNAMIC_COLUMNS = 256 };

/* A thread's scratch in the dynamic form. */
struct parts {
    size_t rows, sums, kernel, total;
};

static struct parts dynamic_parts(const struct linear *l)
{
    struct parts p = {0};
    uint64_t depth = size_align(l->depth, 64);
    p.sums = (size_t)(depth * DYNAMIC_ROWS);
    p.kernel = p.sums + DYNAMIC_ROWS * DYNAMIC_COLUMNS * sizeof(int32_t);
    p.total = p.kernel + (size_t)size_align(E8_GEMM_S8_SCRATCH((uint64_t)l->depth), 64);
    return p;
}

static e8_status check(struct check *c)
{
    struct linear l;
    TRY(check_counts(c, 2, 5, 1));
    linear_decode(&c->op, &l);
    TRY(check_shapes(c, &l));
    set_sizes(&l);
    TRY(linear_check(c, &l, false));
    c->kept = c->scratch_shared = linear_scratch_layout(&l, 0, 0).total;
    struct linear_rows job = {.l = &l, .taps = 1, .segment = l.depth};
    c->scratch_thread = linear_is(&l, LINEAR_DYNAMIC) ? dynamic_parts(&l).total : linear_thread_bytes(&job);
    c->macs = size_mul(l.y.elements, l.depth);
    return E8_OK;
}

struct dynamic {
    const struct run *run;
    const struct linear *l;
    const float *bias, *scale;
    const int32_t *weight_sum;
    size_t rows;
    uint32_t tasks;
};

enum { LANES = 16 };

struct extremes {
    float low, high;
};

/* Of 0 and the values below `limit` in magnitude. Lanes let compilers use vector instructions; order does not matter to extremes. */
static struct extremes row_extremes(const float *x, size_t count, float limit)
{
    float low[LANES] = {0}, high[LANES] = {0};
    struct extremes e = {0.0f, 0.0f};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            float v = x[i + k] < limit ? x[i + k] : 0.0f;
            v = v > -limit ? v : 0.0f;
            low[k] = min_float(v, low[k]);
            high[k] = max_float(v, high[k]);
        }
    }
    for (; i < count; i++) {
        if (!(x[i] < limit && x[i] > -limit)) continue;
        low[0] = min_float(x[i], low[0]);
        high[0] = max_float(x[i], high[0]);
    }
    for (size_t k = 0; k < LANES; k++) {
        e.low = min_float(low[k], e.low);
        e.high = max_float(high[k], e.high);
    }
    return e;
}

/* Quantise a row; its scale. */
static float quantise_row(const struct e8_kernels *k, const float *x, int8_t *codes, size_t count, int32_t *zero_point)
{
    struct extremes e = row_extremes(x, count, 0x1p29f);
    if (!(e.high - e.low >= 0x1p-100f)) e = row_extremes(x, count, 0x1p126f);
    float range = e.high - e.low;
    *zero_point = 0;
    if (!(range >= 0x1p-100f)) {
        memset(codes, 0, count);
        return 0.0f;
    }
    float inverse = 255.0f / range;
    *zero_point = rne_int32(-128.0f - e.low * inverse);
    k->quantise(x, codes, count, inverse, *zero_point);
    return range / 255.0f;
}

static void dynamic_tile(const struct dynamic *job, uint8_t *scratch, size_t row, size_t rows)
{
    const struct linear *l = job->l;
    const struct e8_kernels *k = job->run->kernels;
    struct parts p = dynamic_parts(l);
    const void *pointers[DYNAMIC_ROWS];
    float scales[DYNAMIC_ROWS];
    int32_t zeros[DYNAMIC_ROWS];
    int32_t *sums = (int32_t *)(void *)(scratch + p.sums);
    for (size_t i = 0; i < rows; i++) {
        int8_t *codes = (int8_t *)scratch + i * (size_t)size_align(l->depth, 64);
        scales[i] = quantise_row(k, (const float *)l->x.address + (row + i) * l->depth, codes, l->depth, &zeros[i]);
        pointers[i] = codes;
    }
    for (size_t n = 0; n < l->channels; n += DYNAMIC_COLUMNS) {
        size_t columns = l->channels - n < DYNAMIC_COLUMNS ? l->channels - n : DYNAMIC_COLUMNS;
        struct e8_gemm_s8s32 g = {
            .m = rows,
            .n = columns,
            .taps = 1,
            .segment = l->depth,
            .a = pointers,
            .a_stride = DYNAMIC_ROWS,
            .w = (const int8_t *)l->w.data.bytes + n * ((l->depth + 3) / 4 * 4),
            .weight_sum = job->weight_sum + n,
            .out = sums,
            .out_stride = DYNAMIC_COLUMNS,
            .scratch = scratch + p.kernel,
            .weights = 1,
        };
        k->gemm_s8s32(&g);
        for (size_t i = 0; i < rows; i++) {
            size_t at = (row + i) * l->channels + n;
            struct e8_dequant_row d = {
                .weight_sum = job->weight_sum + n,
                .zero_point = zeros[i],
                .scale = job->scale + n,
                .bias = l->has_bias ? job->bias + n : NULL,
                .residual = l->has_residual ? (const float *)l->residual.address + at : NULL,
                .low = l->act_min,
                .high = l->act_max,
            };
            k->dequantise_sums(sums + i * DYNAMIC_COLUMNS, (float *)l->y.address + at, columns, scales[i], &d);
        }
    }
}

static void dynamic_task(void *argument, uint32_t index)
{
    const struct dynamic *job = argument;
    size_t begin, end;
    run_share(job->rows, 1, index, job->tasks, &begin, &end);
    for (size_t row = begin; row < end; row += DYNAMIC_ROWS)
        dynamic_tile(job, job->run->thread + index * job->run->thread_bytes, row, end - row < DYNAMIC_ROWS ? end - row : DYNAMIC_ROWS);
}

static void run_dynamic(const struct run *r, const struct linear *l, const float *bias, const float *scale, const int32_t *weight_sum)
{
    struct dynamic job = {
        .run = r,
        .l = l,
        .bias = bias,
        .scale = scale,
        .weight_sum = weight_sum,
        .rows = (size_t)(l->x.elements / l->depth),
    };
    job.tasks = run_tasks(r, (uint64_t)job.rows * l->channels * l->depth, job.rows);
    run_parallel(r, dynamic_task, &job, job.tasks);
}

static struct linear_scratch open_rows(const struct run *r, struct linear *l, struct linear_rows *job)
{
    linear_open(r, l);
    set_sizes(l);
    *job = (struct linear_rows){
        .run = r,
        .l = l,
        .rows = (size_t)(l->x.elements / l->depth),
        .row_bytes = l->depth * type_bytes(l->x.type),
        .taps = 1,
        .segment = l->depth,
    };
    return linear_scratch_layout(l, 0, 0);
}

static e8_status run(const struct run *r)
{
    struct linear l;
    struct linear_rows job;
    struct linear_scratch s = open_rows(r, &l, &job);
    uint8_t *arrays = linear_prepare(r, &l, &s, &job.q);
    job.bias = (const float *)(const void *)(arrays + s.bias);
    job.scale = (const float *)(const void *)(arrays + s.scale);
    job.limits = arrays + s.limits;
    if (linear_is(&l, LINEAR_DYNAMIC))
        run_dynamic(r, &l, job.bias, job.scale, job.q.int8.weight_sum);
    else
        linear_run_rows(&job);
    return E8_OK;
}

static size_t keep(const struct run *r)
{
    struct linear l;
    struct linear_rows job;
    struct linear_scratch s = open_rows(r, &l, &job);
    job.limits = r->kept + s.limits;
    linear_find_limits(&job);
    return linear_keep(r, &l, &s);
}

const struct op_type e8_op_fully_connected = {
    .check = check, .run = run, .keep = keep, .in_place = 1u << LINEAR_RESIDUAL, .packed = 1u << LINEAR_WEIGHTS};
