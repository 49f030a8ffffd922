/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax and LogSoftmax over the last axis, row by row; m = max x.
 *   float: e = exp(x - m); the sum s of e goes into 8 lanes (element i to lane i mod 8), lanes added as in row_loops.h;
 *     softmax y = e * (1 / s), log y = (x - m) - log(s)
 *   int8: d = max q - q, T = table[d] (uint16, round(32768 * exp(-scale * d))), S = sum of T, exact in uint32;
 *     softmax y = requantise(float(T) * (256 / float(S))) with scale 1/256 and zero point -128
 *     log     y = requantise((float(-d) * s_in - log(float(S) * 2^-15)) * (1 / s_out))
 *   int16: Dequantize, the float form and Quantize */
#include "../math.h"
#include "../numeric.h"
#include "../real.h"

enum { TABLE_BYTES = 512, MOST = 65536 };
/* A thread's scratch: the table backwards, and the kernel's. */
enum { FALLING_BYTES = 256 * 2, THREAD_BYTES = FALLING_BYTES + 256 };

static e8_status check(struct check *c)
{
    struct tensor in, out;
    TRY(check_counts(c, 1, 1, 1));
    (void)op_input(&c->op, 0, &in);
    op_output(&c->op, 0, &out);
    REQUIRE(c, "softmax.shape", in.rank >= 1 && tensor_same_shape(&in, &out));
    REQUIRE(c, "softmax.type", in.type == out.type);
    SUPPORTED(c, "softmax.type", in.type == Type_FLOAT32 || in.type == Type_INT8 || in.type == Type_INT16);
    c->macs = size_mul(in.elements, 4);
    if (in.type == Type_FLOAT32) return E8_OK;
    if (in.type == Type_INT16) {
        REQUIRE(c, "softmax.scale", tensor_is_quantised(&in) && tensor_is_quantised(&out));
        c->scratch_thread = size_mul((uint64_t)in.dims[in.rank - 1], sizeof(float));
        return E8_OK;
    }
    bool logarithm = flat_byte(c->op.params, Softmax_log, 0) != 0;
    struct flat_vector table = flat_vector_at(c->op.params, Softmax_table);
    REQUIRE(c, "softmax.scale", tensor_is_quantised(&in) && tensor_is_quantised(&out));
    REQUIRE(c, "softmax.scale", logarithm || (out.scale == 0x1p-8f && out.zero_point == -128));
    REQUIRE(c, "softmax.table", table.count == TABLE_BYTES);
    /* The sum fits in uint32 and is not 0: the largest element of a row adds table[0]. */
    REQUIRE(c, "softmax.table", flat_load16(table.bytes) == 32768);
    for (uint32_t i = 0; i < 256; i++) REQUIRE(c, "softmax.table", flat_load16(table.bytes + 2 * i) <= 32768);
    SUPPORTED(c, "softmax.length", in.dims[in.rank - 1] <= MOST);
    c->scratch_thread = THREAD_BYTES;
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor in, out;
    const uint8_t *table;
    size_t length, rows;
    bool logarithm;
    uint32_t tasks;
};

static void log_row_s8(const struct job *j, const int8_t *x, int8_t *y)
{
    int32_t largest = -128;
    uint32_t sum = 0;
    for (size_t i = 0; i < j->length; i++) largest = max_int(largest, x[i]);
    for (size_t i = 0; i < j->length; i++) sum += flat_load16(j->table + 2 * (size_t)(largest - x[i]));
    float log_sum = log_float((float)sum * 0x1p-15f), inverse = 1.0f / j->out.scale;
    for (size_t i = 0; i < j->length; i++) {
        float real = (float)(x[i] - largest) * j->in.scale - log_sum;
        y[i] = (int8_t)requantise(real * inverse, j->out.zero_point, -128, 127);
    }
}

static void row_int16(const struct job *j, float *row, size_t at)
{
    const struct e8_kernels *k = j->run->kernels;
    codes_to_real(k, &j->in, at, row, j->length);
    k->softmax_f32(row, row, j->length, j->logarithm);
    real_to_codes(k, &j->out, at, row, j->length);
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    uint8_t *scratch = j->run->thread + index * j->run->thread_bytes;
    uint16_t *falling = (uint16_t *)(void *)scratch;
    size_t begin, end;
    for (uint32_t d = 0; j->in.type == Type_INT8 && d < 256; d++) falling[255 - d] = flat_load16(j->table + 2 * d);
    run_share(j->rows, 1, index, j->tasks, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        size_t at = row * j->length;
        const int8_t *x = (const int8_t *)j->in.address + at;
        int8_t *y = (int8_t *)j->out.address + at;
        if (E8_HAS(Softmax, E8_FORM_INT16) && j->in.type == Type_INT16)
            row_int16(j, (float *)(void *)scratch, at);
        else if (E8_HAS(Softmax, E8_FORM_FLOAT) && j->in.type == Type_FLOAT32)
            j->run->kernels->softmax_f32((const float *)j->in.address + at, (float *)j->out.address + at, j->length, j->logarithm);
        else if (j->logarithm)
            log_row_s8(j, x, y);
        else
            j->run->kernels->softmax_s8(x, y, j->length, falling, (int8_t *)scratch + FALLING_BYTES);
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    (void)run_input(r, 0, &j.in);
    run_output(r, 0, &j.out);
    j.logarithm = flat_byte(r->op.params, Softmax_log, 0) != 0;
    j.table = flat_vector_at(r->op.params, Softmax_table).bytes;
    j.length = (size_t)j.in.dims[j.in.rank - 1];
    j.rows = (size_t)j.in.elements / j.length;
    j.tasks = run_tasks(r, 8 * j.in.elements, j.rows);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_softmax = {.check = check, .run = run, .in_place = 1};
