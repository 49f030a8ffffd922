/* SPDX-License-Identifier: Apache-2.0
 *
 * LayerNorm over the last axis of n elements, row by row, each float operation rounded on its own; without gamma and beta
 * they are 1 and 0:
 *   float: mean = sum x / n; var = sum (x - mean)^2 / n; r = 1 / sqrt(var + epsilon); y = ((x - mean) * r) * gamma + beta.
 *     Sums go into 8 lanes (element i to lane i mod 8), lanes added as in `lane_sum`.
 *   int8: S = sum q, D = n * sum q^2 - S^2, exact integers; r = s / sqrt(s*s * float(D) + epsilon * (n*n));
 *     y = requantise((float(n*q - S) * r) * (gamma / s_out) + beta / s_out). The zero point cancels out. */
#include "../math.h"
#include "../numeric.h"
#include "../op.h"

enum { LANES = 8, MOST = 65536 };

static e8_status check(struct check *c)
{
    struct tensor in, gamma, beta, out;
    TRY(check_counts(c, 1, 3, 1));
    (void)op_input(&c->op, 0, &in);
    bool scaled = op_input(&c->op, 1, &gamma), shifted = op_input(&c->op, 2, &beta);
    op_output(&c->op, 0, &out);
    REQUIRE(c, "layer_norm.shape", in.rank >= 1 && tensor_same_shape(&in, &out));
    uint64_t n = (uint64_t)in.dims[in.rank - 1];
    REQUIRE(c, "layer_norm.gamma", !scaled || (gamma.type == Type_FLOAT32 && gamma.elements == n));
    REQUIRE(c, "layer_norm.beta", !shifted || (beta.type == Type_FLOAT32 && beta.elements == n));
    REQUIRE(c, "layer_norm.type", in.type == out.type);
    SUPPORTED(c, "layer_norm.type", in.type == Type_FLOAT32 || in.type == Type_INT8);
    float epsilon = flat_float(c->op.params, LayerNorm_epsilon, 0.00001f);
    REQUIRE(c, "layer_norm.epsilon", epsilon >= 0.0f && epsilon <= 1e6f);
    c->macs = size_mul(in.elements, 4);
    if (in.type == Type_FLOAT32) return E8_OK;
    REQUIRE(c, "layer_norm.scale", tensor_is_quantised(&in) && tensor_is_quantised(&out));
    SUPPORTED(c, "layer_norm.length", n <= MOST); /* n*q - S fits in int32, D in int64 */
    c->scratch_shared = size_mul(n, 2 * sizeof(float));
    return E8_OK;
}

struct job {
    struct tensor in, out;
    const float *gamma, *beta; /* float: NULL where absent; int8: divided by the output's scale */
    float epsilon;
    size_t length, rows;
    uint32_t tasks;
};

static float lane_sum(const float *s)
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static void row_f32(const struct job *j, const float *x, float *y)
{
    size_t n = j->length;
    float sums[LANES] = {0}, squares[LANES] = {0};
    for (size_t i = 0; i < n; i++) sums[i % LANES] += x[i];
    float mean = lane_sum(sums) / (float)n;
    for (size_t i = 0; i < n; i++) squares[i % LANES] += (x[i] - mean) * (x[i] - mean);
    float variance = lane_sum(squares) / (float)n;
    float r = 1.0f / sqrt_float(variance + j->epsilon);
    for (size_t i = 0; i < n; i++) {
        float value = (x[i] - mean) * r;
        if (j->gamma) value *= j->gamma[i];
        y[i] = j->beta ? value + j->beta[i] : value;
    }
}

static void row_s8(const struct job *j, const int8_t *x, int8_t *y)
{
    int32_t n = (int32_t)j->length, sum = 0, zero = j->out.zero_point;
    int64_t squares = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    float spread = (float)(n * squares - (int64_t)sum * sum), count = (float)n, scale = j->in.scale;
    float root = sqrt_float((scale * scale) * spread + j->epsilon * (count * count));
    float r = root > 0.0f ? scale / root : 0.0f;
    for (int32_t i = 0; i < n; i++) {
        float value = ((float)(n * x[i] - sum) * r) * j->gamma[i] + j->beta[i];
        y[i] = (int8_t)requantise(value, zero, -128, 127);
    }
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    size_t begin, end;
    run_share(j->rows, 1, index, j->tasks, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        size_t at = row * j->length;
        if (j->in.type == Type_FLOAT32)
            row_f32(j, (const float *)j->in.address + at, (float *)j->out.address + at);
        else
            row_s8(j, (const int8_t *)j->in.address + at, (int8_t *)j->out.address + at);
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.epsilon = flat_float(r->op.params, LayerNorm_epsilon, 0.00001f)};
    struct tensor gamma, beta;
    (void)run_input(r, 0, &j.in);
    bool scaled = run_input(r, 1, &gamma), shifted = run_input(r, 2, &beta);
    run_output(r, 0, &j.out);
    j.length = (size_t)j.in.dims[j.in.rank - 1];
    j.rows = (size_t)j.in.elements / j.length;
    j.gamma = scaled ? gamma.address : NULL;
    j.beta = shifted ? beta.address : NULL;
    if (j.in.type == Type_INT8) {
        float *factor = (float *)(void *)r->shared, *addend = factor + j.length;
        for (size_t i = 0; i < j.length; i++) {
            factor[i] = (scaled ? j.gamma[i] : 1.0f) / j.out.scale;
            addend[i] = (shifted ? j.beta[i] : 0.0f) / j.out.scale;
        }
        j.gamma = factor;
        j.beta = addend;
    }
    j.tasks = run_tasks(r, 4 * j.in.elements, j.rows);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_layer_norm = {.check = check, .run = run, .in_place = 1};
