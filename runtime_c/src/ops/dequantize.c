/* SPDX-License-Identifier: Apache-2.0
 *
 * Dequantize: y = (x - zero_point) * scale, INT8 or INT16 to float32. In a model whose activations wait for calibration x is
 * float32 too, and the elements are copied. */
#include "../real.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    REQUIRE(c, "dequantize.type", tensor_is_float(&y) && (tensor_is_quantised(&x) || tensor_is_float(&x)));
    REQUIRE(c, "dequantize.scale", x.scales.count <= 1);
    REQUIRE(c, "dequantize.shape", tensor_same_shape(&x, &y));
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
    run_share((size_t)j->y.elements, 64, index, j->tasks, &begin, &end);
    codes_to_real(j->run->kernels, &j->x, begin, (float *)j->y.address + begin, end - begin);
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    run_input(r, 0, &j.x);
    run_output(r, 0, &j.y);
    if (tensor_is_float(&j.x)) {
        if (j.x.address != j.y.address) memcpy(j.y.address, j.x.address, (size_t)j.y.bytes);
        return E8_OK;
    }
    j.tasks = run_tasks(r, j.y.elements, j.y.elements / 64);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_dequantize = {.check = check, .run = run};
