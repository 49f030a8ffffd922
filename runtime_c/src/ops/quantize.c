/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantize: y = clamp(rne(x * (1 / scale)) + zero_point), float32 to INT8 or INT16; int16 has no zero point and is clamped to
 * -32767..32767. Codes get another type or scale: y = clamp(rne((x - zero_x) * (scale_x / scale_y)) + zero_y). In a model whose
 * activations wait for calibration x and y are float32, and the elements are copied. */
#include "../real.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    REQUIRE(c, "quantize.type", tensor_is_quantised(&y) || (tensor_is_float(&x) && tensor_is_float(&y)));
    REQUIRE(c, "quantize.type", tensor_is_float(&x) || tensor_is_quantised(&x));
    REQUIRE(c, "quantize.scale", x.scales.count <= 1);
    REQUIRE(c, "quantize.shape", tensor_same_shape(&x, &y));
    c->macs = y.elements;
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor x, y;
    uint32_t tasks;
};

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    const struct e8_kernels *k = j->run->kernels;
    size_t begin, end;
    run_share((size_t)j->y.elements, 64, index, j->tasks, &begin, &end);
    if (tensor_is_float(&j->x)) {
        real_to_codes(k, &j->y, begin, (const float *)j->x.address + begin, end - begin);
        return;
    }
    float block[REAL_BLOCK];
    for (size_t i = begin; i < end; i += REAL_BLOCK) {
        size_t count = end - i < REAL_BLOCK ? end - i : REAL_BLOCK;
        codes_to_real(k, &j->x, i, block, count);
        real_to_codes(k, &j->y, i, block, count);
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    run_input(r, 0, &j.x);
    run_output(r, 0, &j.y);
    if (tensor_is_float(&j.y)) {
        if (j.x.address != j.y.address) memcpy(j.y.address, j.x.address, (size_t)j.y.bytes);
        return E8_OK;
    }
    if (!tensor_is_float(&j.x)) { /* in units of y's scale */
        j.x.scale /= j.y.scale;
        j.y.scale = 1.0f;
    }
    j.tasks = run_tasks(r, j.y.elements, j.y.elements / 64);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_quantize = {.check = check, .run = run};
