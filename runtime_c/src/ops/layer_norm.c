/* SPDX-License-Identifier: Apache-2.0
 *
 * LayerNorm over the last axis of n elements, row by row, each float operation rounded on its own; without gamma and beta
 * they are 1 and 0:
 *   float: mean = sum x / n; var = sum (x - mean)^2 / n; r = 1 / sqrt(var + epsilon); y = ((x - mean) * r) * gamma + beta.
 *     Sums go into 8 lanes (element i to lane i mod 8), lanes added as in row_loops.h.
 *   int8: S = sum q, D = n * sum q^2 - S^2, exact integers; r = s / sqrt(s*s * float(D) + epsilon * (n*n));
 *     y = requantise((float(n*q - S) * r) * (gamma / s_out) + beta / s_out). The zero point cancels out.
 *   int16: Dequantize, the float form and Quantize. */
#include "../real.h"

enum { MOST = 65536 };

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
    SUPPORTED(c, "layer_norm.type", in.type == Type_FLOAT32 || in.type == Type_INT8 || in.type == Type_INT16);
    float epsilon = flat_float(c->op.params, LayerNorm_epsilon, 0.00001f);
    REQUIRE(c, "layer_norm.epsilon", epsilon >= 0.0f && epsilon <= 1e6f);
    c->macs = size_mul(in.elements, 4);
    if (in.type == Type_FLOAT32) return E8_OK;
    REQUIRE(c, "layer_norm.scale", tensor_is_quantised(&in) && tensor_is_quantised(&out));
    if (in.type == Type_INT16) {
        c->scratch_thread = size_mul(n, sizeof(float));
        return E8_OK;
    }
    SUPPORTED(c, "layer_norm.length", n <= MOST); /* n*q - S fits in int32, D in int64 */
    c->scratch_shared = size_mul(n, 2 * sizeof(float));
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor in, out;
    struct e8_layer_norm p;
    size_t length, rows;
    uint32_t tasks;
};

static void row_int16(const struct job *j, float *row, size_t at)
{
    const struct e8_kernels *k = j->run->kernels;
    codes_to_real(k, &j->in, at, row, j->length);
    k->layer_norm_f32(row, row, j->length, &j->p);
    real_to_codes(k, &j->out, at, row, j->length);
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    size_t begin, end;
    run_share(j->rows, 1, index, j->tasks, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        size_t at = row * j->length;
        if (E8_HAS(LayerNorm, E8_FORM_INT16) && j->in.type == Type_INT16)
            row_int16(j, (float *)(void *)(j->run->thread + index * j->run->thread_bytes), at);
        else if (j->in.type == Type_FLOAT32)
            j->run->kernels->layer_norm_f32((const float *)j->in.address + at, (float *)j->out.address + at, j->length, &j->p);
        else
            j->run->kernels->layer_norm_s8((const int8_t *)j->in.address + at, (int8_t *)j->out.address + at, j->length, &j->p);
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    struct tensor gamma, beta;
    (void)run_input(r, 0, &j.in);
    bool scaled = run_input(r, 1, &gamma), shifted = run_input(r, 2, &beta);
    run_output(r, 0, &j.out);
    j.length = (size_t)j.in.dims[j.in.rank - 1];
    j.rows = (size_t)j.in.elements / j.length;
    j.p = (struct e8_layer_norm){
        .gamma = scaled ? gamma.address : NULL,
        .beta = shifted ? beta.address : NULL,
        .epsilon = flat_float(r->op.params, LayerNorm_epsilon, 0.00001f),
        .scale = j.in.scale,
        .zero_point = j.out.zero_point,
    };
    if (j.in.type == Type_INT8) {
        float *factor = (float *)(void *)r->shared, *addend = factor + j.length;
        for (size_t i = 0; i < j.length; i++) {
            factor[i] = (scaled ? j.p.gamma[i] : 1.0f) / j.out.scale;
            addend[i] = (shifted ? j.p.beta[i] : 0.0f) / j.out.scale;
        }
        j.p.gamma = factor;
        j.p.beta = addend;
    }
    j.tasks = run_tasks(r, 4 * j.in.elements, j.rows);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_layer_norm = {.check = check, .run = run, .in_place = 1};
