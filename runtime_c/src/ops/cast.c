/* SPDX-License-Identifier: Apache-2.0
 *
 * Cast: plain numbers to another type. Float to integer truncates toward zero, saturates at the ends of the type and takes NaN
 * to 0; integer to a narrower integer wraps; to BOOL: whether the number is not 0. */
#include "../integer.h"

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    REQUIRE(c, "cast.shape", tensor_same_shape(&x, &y));
    SUPPORTED(c, "cast.quantised", !tensor_is_quantised(&x) && !tensor_is_quantised(&y));
    c->macs = y.elements;
    return E8_OK;
}

struct job {
    struct tensor x, y;
    uint32_t tasks;
};

static int64_t saturate(int64_t value, uint32_t type)
{
    static const int64_t low[Type_COUNT] = {0, INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN, 0, 0};
    static const int64_t high[Type_COUNT] = {0, INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX, 1, UINT8_MAX};
    return value < low[type] ? low[type] : value > high[type] ? high[type] : value;
}

static void from_float(const struct job *j, size_t begin, size_t end)
{
    const float *x = j->x.address;
    for (size_t i = begin; i < end; i++) {
        int64_t value = j->y.type == Type_BOOL ? x[i] != 0.0f : saturate(integer_of_float(x[i]), j->y.type);
        store_integer(j->y.address, j->y.type, i, value);
    }
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    size_t begin, end;
    run_share((size_t)j->y.elements, 64, index, j->tasks, &begin, &end);
    if (j->x.type == j->y.type) {
        size_t width = type_bytes(j->x.type);
        memcpy((uint8_t *)j->y.address + begin * width, (const uint8_t *)j->x.address + begin * width, (end - begin) * width);
    } else if (j->x.type == Type_FLOAT32) {
        from_float(j, begin, end);
    } else if (j->y.type == Type_FLOAT32) {
        for (size_t i = begin; i < end; i++) ((float *)j->y.address)[i] = (float)load_integer(j->x.address, j->x.type, i);
    } else {
        for (size_t i = begin; i < end; i++) store_integer(j->y.address, j->y.type, i, load_integer(j->x.address, j->x.type, i));
    }
}

static e8_status run(const struct run *r)
{
    struct job j;
    run_input(r, 0, &j.x);
    run_output(r, 0, &j.y);
    j.tasks = run_tasks(r, j.y.elements, j.y.elements / 64);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_cast = {.check = check, .run = run};
