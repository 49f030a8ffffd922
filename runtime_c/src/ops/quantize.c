/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantize: y = clamp(rne(x * (1 / scale)) + zero_point), float32 to INT8 or INT16. In a model whose activations wait for
 * calibration y is float32 too, and the elements are copied. */
#include "../numeric.h"
#include "../op.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    REQUIRE(c, "quantize.type", tensor_is_float(&x) && (tensor_is_quantised(&y) || tensor_is_float(&y)));
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
    size_t begin, end;
    float inverse = 1.0f / j->y.scale;
    const float *x = j->x.address;
    run_share((size_t)j->y.elements, 64, index, j->tasks, &begin, &end);
    if (j->y.type == Type_INT8) {
        j->run->kernels->quantise(x + begin, (int8_t *)j->y.address + begin, end - begin, inverse, j->y.zero_point);
        return;
    }
    int16_t *y = j->y.address;
    for (size_t i = begin; i < end; i++) y[i] = (int16_t)requantise(x[i] * inverse, j->y.zero_point, -32768, 32767);
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
    j.tasks = run_tasks(r, j.y.elements, j.y.elements / 64);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_quantize = {.check = check, .run = run};
