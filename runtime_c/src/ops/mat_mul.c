/* SPDX-License-Identifier: Apache-2.0
 *
 * MatMul of two activations: a [..., M, K], b [..., K, N] or [..., N, K] with transpose_b; leading dimensions broadcast.
 *   float: y = clamp(fma chain over k ascending from 0).
 *   int8:  acc = sum over k of (a - z_a) * (b - z_b), exact in int32 because K <= 32768 and 255 * 255 * 32768 < 2^31;
 *          y = clamp(rne(float32(acc) * ((s_a * s_b) / s_y)) + z_y, low, high), low and high as in linear.h.
 *   int16: acc = fma chain over k ascending from 0 of the codes as floats; y = rne(clamp(acc * ((s_a * s_b) / s_y), low, high)).
 *          Products of two int16 codes need more than the 24 bits of a float from the 256th on; what is rounded off then lies far
 *          below the step of an int16 output.
 * b is packed like weights, a panel of columns at a time, in each thread's scratch. The int8 kernel multiplies bare codes; with
 *   sum (a - z_a)(b - z_b) = sum a b - z_a sum b - z_b sum a + K z_a z_b
 * the second and last term start the accumulators of a column, the third is added per row. */
#include "../numeric.h"
#include "../real.h"

enum { MAX_DEPTH = 32768, PANEL_BYTES = 128 * 1024, MAX_COLUMNS = 256, ROWS = 16 };

struct mat_mul {
    struct tensor a, b, y;
    int32_t lead[E8_MAX_RANK], a_lead[E8_MAX_RANK], b_lead[E8_MAX_RANK]; /* leading dimensions, aligned right, 1 where absent */
    size_t m, n, k, batch;
    bool transpose_b, int8, int16;
    float act_min, act_max;
};

/* Leading dimensions in the first six of eight slots. */
static void lead_dims(const struct tensor *t, int32_t out[E8_MAX_RANK])
{
    tensor_dims8(t, out);
    out[E8_MAX_RANK - 1] = out[E8_MAX_RANK - 2] = 1;
}

/* Sizes from tensors whose ranks are at least 2. */
static void find_sizes(const struct op *op, struct mat_mul *p)
{
    const struct tensor *a = &p->a, *b = &p->b, *y = &p->y;
    p->transpose_b = flat_byte(op->params, MatMul_transpose_b, 0) != 0;
    p->act_min = flat_float(op->params, MatMul_act_min, -__builtin_inff());
    p->act_max = flat_float(op->params, MatMul_act_max, __builtin_inff());
    lead_dims(a, p->a_lead);
    lead_dims(b, p->b_lead);
    lead_dims(y, p->lead);
    p->m = (size_t)a->dims[a->rank - 2];
    p->k = (size_t)a->dims[a->rank - 1];
    p->n = (size_t)b->dims[b->rank - (p->transpose_b ? 2 : 1)];
    p->batch = (size_t)(y->elements / (p->m * p->n));
    p->int8 = a->type == Type_INT8;
    p->int16 = E8_HAS(MatMul, E8_FORM_INT16) && a->type == Type_INT16;
}

static e8_status check_shapes(struct check *c, const struct mat_mul *p)
{
    const struct tensor *a = &p->a, *b = &p->b, *y = &p->y;
    uint32_t rank = a->rank > b->rank ? a->rank : b->rank;
    REQUIRE(c, "mat_mul.output", y->rank == rank);
    REQUIRE(c, "mat_mul.depth", (size_t)b->dims[b->rank - (p->transpose_b ? 1 : 2)] == p->k);
    REQUIRE(c, "mat_mul.output", (size_t)y->dims[rank - 2] == p->m && (size_t)y->dims[rank - 1] == p->n);
    for (int i = 0; i < E8_MAX_RANK; i++) {
        bool fits = p->a_lead[i] == p->b_lead[i] || p->a_lead[i] == 1 || p->b_lead[i] == 1;
        REQUIRE(c, "mat_mul.output", fits && p->lead[i] == max_int(p->a_lead[i], p->b_lead[i]));
    }
    return E8_OK;
}

/* Columns that a thread packs at a time, a multiple of 16. */
static size_t panel_columns(const struct mat_mul *p)
{
    size_t columns = PANEL_BYTES / ((p->int8 ? 1 : 4) * ((p->k + 3) / 4 * 4)) / E8_NR * E8_NR;
    size_t all = (p->n + E8_NR - 1) / E8_NR * E8_NR;
    if (columns < E8_NR) columns = E8_NR;
    if (columns > MAX_COLUMNS) columns = MAX_COLUMNS;
    return columns < all ? columns : all;
}

struct parts {
    size_t init, sum, sums, kernel; /* int8 */
    size_t rows, result;            /* int16: rows of a and of the result as floats */
    uint64_t total;
};

static struct parts thread_parts(const struct mat_mul *p)
{
    struct parts s = {0};
    uint64_t columns = panel_columns(p), depth = size_align(p->k, 4);
    uint64_t total = size_align(size_mul(columns, size_mul(depth, p->int8 ? 1 : 4)), 64);
    if (p->int8) {
        s.init = (size_t)total;
        s.sum = s.init + (size_t)columns * 4;
        s.sums = s.sum + (size_t)columns * 4;
        s.kernel = s.sums + (size_t)columns * ROWS * 4;
        total = size_add(s.kernel, E8_GEMM_S8_SCRATCH((uint64_t)p->k));
    }
    if (p->int16) {
        s.rows = (size_t)total;
        s.result = (size_t)size_add(total, size_mul(size_mul(p->k, ROWS), sizeof(float)));
        total = size_add(s.result, columns * ROWS * sizeof(float));
    }
    s.total = total;
    return s;
}

static e8_status check(struct check *c)
{
    struct mat_mul p;
    TRY(check_counts(c, 2, 2, 1));
    (void)op_input(&c->op, 0, &p.a);
    (void)op_input(&c->op, 1, &p.b);
    op_output(&c->op, 0, &p.y);
    REQUIRE(c, "mat_mul.rank", p.a.rank >= 2 && p.b.rank >= 2 && p.y.rank >= 2);
    find_sizes(&c->op, &p);
    TRY(check_shapes(c, &p));
    REQUIRE(c, "mat_mul.type", p.a.type == p.b.type && p.a.type == p.y.type);
    SUPPORTED(c, "mat_mul.type", p.a.type == Type_FLOAT32 || p.int8 || p.int16);
    if (p.int8 || p.int16) {
        REQUIRE(c, "mat_mul.scale", tensor_is_quantised(&p.a) && tensor_is_quantised(&p.b) && tensor_is_quantised(&p.y));
        SUPPORTED(c, "mat_mul.depth", p.int16 || p.k <= MAX_DEPTH);
    }
    REQUIRE(c, "mat_mul.activation", p.act_min <= p.act_max);
    c->scratch_thread = thread_parts(&p).total;
    c->macs = size_mul(p.y.elements, p.k);
    return E8_OK;
}

struct job {
    const struct run *run;
    const struct mat_mul *p;
    struct e8_requant_row requant;
    size_t row_units; /* tiles of ROWS rows per matrix */
    uint32_t tasks;
};

/* Offset of matrix number `batch` in an operand with leading dimensions `own`, in matrices. */
static size_t operand_matrix(const struct mat_mul *p, const int32_t own[E8_MAX_RANK], size_t batch)
{
    size_t at = 0, step = 1;
    for (int i = E8_MAX_RANK - 3; i >= 0; i--) {
        size_t position = batch % (size_t)p->lead[i];
        batch /= (size_t)p->lead[i];
        if (own[i] > 1) at += position * step;
        step *= (size_t)own[i];
    }
    return at;
}

/* Pack columns [first, first + columns) of one matrix b and sum them. */
static void pack_int8(const struct mat_mul *p, const int8_t *b, size_t first, size_t columns, int8_t *panel, int32_t *init, int32_t *sum)
{
    size_t depth = (p->k + 3) / 4 * 4, padded = (columns + E8_NR - 1) / E8_NR * E8_NR;
    size_t column_step = p->transpose_b ? p->k : 1, depth_step = p->transpose_b ? 1 : p->n;
    memset(panel, 0, padded * depth);
    memset(init, 0, padded * sizeof *init);
    memset(sum, 0, padded * sizeof *sum);
    for (size_t c = 0; c < columns; c++) {
        const int8_t *from = b + (first + c) * column_step;
        int8_t *to = panel + c / E8_NR * (depth * E8_NR) + c % E8_NR * 4;
        int32_t total = 0;
        for (size_t k = 0; k < p->k; k++) {
            int8_t value = from[k * depth_step];
            to[k / 4 * (4 * E8_NR) + k % 4] = value;
            total += value;
        }
        sum[c] = total;
        init[c] = p->a.zero_point * (p->b.zero_point * (int32_t)p->k - total);
    }
}

static void pack_float(const struct mat_mul *p, const float *b, size_t first, size_t columns, float *panel)
{
    size_t column_step = p->transpose_b ? p->k : 1, depth_step = p->transpose_b ? 1 : p->n;
    memset(panel, 0, (columns + E8_NR - 1) / E8_NR * E8_NR * p->k * sizeof *panel);
    for (size_t c = 0; c < columns; c++) {
        const float *from = b + (first + c) * column_step;
        float *to = panel + c / E8_NR * (p->k * E8_NR) + c % E8_NR;
        for (size_t k = 0; k < p->k; k++) to[k * E8_NR] = from[k * depth_step];
    }
}

static void pack_int16(const struct mat_mul *p, const int16_t *b, size_t first, size_t columns, float *panel)
{
    size_t column_step = p->transpose_b ? p->k : 1, depth_step = p->transpose_b ? 1 : p->n;
    memset(panel, 0, (columns + E8_NR - 1) / E8_NR * E8_NR * p->k * sizeof *panel);
    for (size_t c = 0; c < columns; c++) {
        const int16_t *from = b + (first + c) * column_step;
        float *to = panel + c / E8_NR * (p->k * E8_NR) + c % E8_NR;
        for (size_t k = 0; k < p->k; k++) to[k * E8_NR] = from[k * depth_step];
    }
}

static int32_t row_sum(const int8_t *row, size_t count)
{
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += row[i];
    return sum;
}

/* Rows of one matrix a against the packed columns. */
static void rows_int8(const struct job *job, uint8_t *scratch, const void *const *rows, size_t count, size_t columns, int8_t *out)
{
    const struct mat_mul *p = job->p;
    struct parts s = thread_parts(p);
    int32_t *sums = (int32_t *)(void *)(scratch + s.sums);
    struct e8_gemm_s8s32 g = {
        .m = count,
        .n = columns,
        .taps = 1,
        .segment = p->k,
        .a = rows,
        .a_stride = ROWS,
        .w = (const int8_t *)scratch,
        .init = (const int32_t *)(const void *)(scratch + s.init),
        .weight_sum = (const int32_t *)(const void *)(scratch + s.sum),
        .out = sums,
        .out_stride = panel_columns(p),
        .scratch = scratch + s.kernel,
    };
    job->run->kernels->gemm_s8s32(&g);
    for (size_t i = 0; i < count; i++) {
        int32_t add = p->b.zero_point ? -p->b.zero_point * row_sum(rows[i], p->k) : 0;
        job->run->kernels->requantise(sums + i * g.out_stride, out + i * p->n, columns, add, &job->requant);
    }
}

static void rows_float(const struct job *job, const uint8_t *scratch, const void *const *rows, size_t count, size_t columns, float *out)
{
    const struct mat_mul *p = job->p;
    struct e8_gemm_f32 g = {
        .m = count,
        .n = columns,
        .taps = 1,
        .segment = p->k,
        .a = rows,
        .a_stride = ROWS,
        .w = (const float *)(const void *)scratch,
        .out = out,
        .out_stride = p->n,
        .low = p->act_min,
        .high = p->act_max,
    };
    job->run->kernels->gemm_f32(&g);
}

/* Rows of int16 codes through the float kernel. */
static void rows_int16(const struct job *job, uint8_t *scratch, const void *const *rows, size_t count, size_t columns, int16_t *out)
{
    const struct mat_mul *p = job->p;
    const struct e8_kernels *k = job->run->kernels;
    struct parts s = thread_parts(p);
    float *a = (float *)(void *)(scratch + s.rows), *result = (float *)(void *)(scratch + s.result);
    const void *pointers[ROWS];
    struct e8_gemm_f32 g = {
        .m = count,
        .n = columns,
        .taps = 1,
        .segment = p->k,
        .a = pointers,
        .a_stride = ROWS,
        .w = (const float *)(const void *)scratch,
        .out = result,
        .out_stride = columns,
        .low = -__builtin_inff(),
        .high = __builtin_inff(),
    };
    for (size_t i = 0; i < count; i++) {
        pointers[i] = a + i * p->k;
        k->dequantise_s16(rows[i], a + i * p->k, p->k, 1.0f);
    }
    k->gemm_f32(&g);
    for (size_t i = 0; i < count; i++)
        k->quantise_s16(result + i * columns, out + i * p->n, columns, job->requant.multiplier, (float)job->requant.low,
                        (float)job->requant.high);
}

/* Rows [begin, end) of matrix number `batch`. */
static void run_matrix(const struct job *job, uint8_t *scratch, size_t batch, size_t begin, size_t end)
{
    const struct mat_mul *p = job->p;
    struct parts s = thread_parts(p);
    size_t width = type_bytes(p->a.type), each = panel_columns(p);
    const uint8_t *a = (const uint8_t *)p->a.address + operand_matrix(p, p->a_lead, batch) * (p->m * p->k) * width;
    const uint8_t *b = (const uint8_t *)p->b.address + operand_matrix(p, p->b_lead, batch) * (p->k * p->n) * width;
    uint8_t *y = (uint8_t *)p->y.address + batch * (p->m * p->n) * width;
    for (size_t n = 0; n < p->n; n += each) {
        size_t columns = p->n - n < each ? p->n - n : each;
        if (p->int8)
            pack_int8(p, (const int8_t *)b, n, columns, (int8_t *)scratch, (int32_t *)(void *)(scratch + s.init),
                      (int32_t *)(void *)(scratch + s.sum));
        else if (p->int16)
            pack_int16(p, (const int16_t *)(const void *)b, n, columns, (float *)(void *)scratch);
        else
            pack_float(p, (const float *)(const void *)b, n, columns, (float *)(void *)scratch);
        for (size_t row = begin; row < end; row += ROWS) {
            const void *rows[ROWS];
            size_t count = end - row < ROWS ? end - row : ROWS;
            for (size_t i = 0; i < count; i++) rows[i] = a + (row + i) * p->k * width;
            uint8_t *out = y + (row * p->n + n) * width;
            if (p->int8)
                rows_int8(job, scratch, rows, count, columns, (int8_t *)out);
            else if (p->int16)
                rows_int16(job, scratch, rows, count, columns, (int16_t *)(void *)out);
            else
                rows_float(job, scratch, rows, count, columns, (float *)(void *)out);
        }
    }
}

static void task(void *argument, uint32_t index)
{
    const struct job *job = argument;
    size_t begin, end, per = job->row_units;
    run_share(job->p->batch * per, 1, index, job->tasks, &begin, &end);
    while (begin < end) {
        size_t batch = begin / per, first = begin % per, last = first + (end - begin) < per ? first + (end - begin) : per;
        size_t end_row = last * ROWS < job->p->m ? last * ROWS : job->p->m;
        run_matrix(job, job->run->thread + index * job->run->thread_bytes, batch, first * ROWS, end_row);
        begin += last - first;
    }
}

static e8_status run(const struct run *r)
{
    struct mat_mul p;
    (void)run_input(r, 0, &p.a);
    (void)run_input(r, 1, &p.b);
    run_output(r, 0, &p.y);
    find_sizes(&r->op, &p);
    struct job job = {.run = r, .p = &p, .row_units = (p.m + ROWS - 1) / ROWS};
    if (p.int8 || p.int16) {
        job.requant.multiplier = p.a.scale * p.b.scale / p.y.scale;
        job.requant.zero_point = p.y.zero_point;
        job.requant.low = tensor_code(&p.y, p.act_min);
        job.requant.high = tensor_code(&p.y, p.act_max);
    }
    job.tasks = run_tasks(r, size_mul(p.y.elements, p.k), p.batch * job.row_units);
    run_parallel(r, task, &job, job.tasks);
    return E8_OK;
}

const struct op_type e8_op_mat_mul = {.check = check, .run = run};
