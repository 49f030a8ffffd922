/* SPDX-License-Identifier: Apache-2.0
 *
 * NormalizePicture: UINT8 pictures, channels last, to v = (x - mean[c]) / std[c] in float32, or to INT8 codes of it:
 * clamp(rne(v * (1 / scale)) + zero_point), exactly what Quantize makes of v. A byte has 256 values, so the codes come from a
 * table per channel. */
#include "../numeric.h"
#include "../op.h"

enum { BYTE_VALUES = 256 };

static e8_status check_numbers(struct check *c, struct flat_vector numbers, uint32_t channels, bool divisor)
{
    REQUIRE(c, "normalize_picture.channels", numbers.count == channels);
    for (uint32_t i = 0; i < channels; i++) {
        float value = flat_element_float(numbers, i);
        REQUIRE(c, "normalize_picture.finite", value - value == 0.0f);
        REQUIRE(c, "normalize_picture.std", !divisor || value != 0.0f);
    }
    return E8_OK;
}

static e8_status check(struct check *c)
{
    struct tensor x, y;
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    REQUIRE(c, "normalize_picture.type", x.type == Type_UINT8 && (y.type == Type_INT8 || tensor_is_float(&y)));
    REQUIRE(c, "normalize_picture.type", tensor_is_float(&y) || tensor_is_quantised(&y));
    REQUIRE(c, "normalize_picture.shape", x.rank >= 1 && tensor_same_shape(&x, &y));
    uint32_t channels = (uint32_t)x.dims[x.rank - 1];
    TRY(check_numbers(c, flat_vector_at(c->op.params, NormalizePicture_mean), channels, false));
    TRY(check_numbers(c, flat_vector_at(c->op.params, NormalizePicture_std), channels, true));
    if (y.type == Type_INT8) c->scratch_shared = (uint64_t)channels * BYTE_VALUES;
    c->macs = y.elements;
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor x, y;
    struct flat_vector mean, std;
    size_t channels;
    uint32_t tasks;
};

static float normalised(const struct job *j, uint32_t value, uint32_t channel)
{
    return ((float)value - flat_element_float(j->mean, channel)) / flat_element_float(j->std, channel);
}

/* table[value * channels + channel]: a pixel's three look-ups of a grey picture lie side by side. */
static void make_table(const struct job *j, int8_t *table)
{
    float inverse = 1.0f / j->y.scale;
    for (uint32_t value = 0; value < BYTE_VALUES; value++)
        for (uint32_t channel = 0; channel < j->channels; channel++)
            *table++ = (int8_t)requantise(normalised(j, value, channel) * inverse, j->y.zero_point, INT8_MIN, INT8_MAX);
}

static void to_codes(const struct job *j, size_t begin, size_t end)
{
    const uint8_t *x = j->x.address;
    int8_t *y = j->y.address;
    const int8_t *table = (const int8_t *)j->run->shared;
    size_t channels = j->channels;
    if (channels == 3) { /* the usual picture: no inner loop */
        for (size_t i = begin * 3; i < end * 3; i += 3) {
            y[i] = table[x[i] * 3u];
            y[i + 1] = table[x[i + 1] * 3u + 1];
            y[i + 2] = table[x[i + 2] * 3u + 2];
        }
        return;
    }
    for (size_t pixel = begin; pixel < end; pixel++)
        for (size_t channel = 0; channel < channels; channel++) {
            size_t i = pixel * channels + channel;
            y[i] = table[x[i] * channels + channel];
        }
}

static void to_float(const struct job *j, size_t begin, size_t end)
{
    const uint8_t *x = j->x.address;
    float *y = j->y.address;
    for (size_t pixel = begin; pixel < end; pixel++)
        for (uint32_t channel = 0; channel < j->channels; channel++) {
            size_t i = pixel * j->channels + channel;
            y[i] = normalised(j, x[i], channel);
        }
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    size_t begin, end;
    run_share((size_t)j->y.elements / j->channels, 64, index, j->tasks, &begin, &end);
    if (j->y.type == Type_INT8)
        to_codes(j, begin, end);
    else
        to_float(j, begin, end);
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r};
    run_input(r, 0, &j.x);
    run_output(r, 0, &j.y);
    j.mean = flat_vector_at(r->op.params, NormalizePicture_mean);
    j.std = flat_vector_at(r->op.params, NormalizePicture_std);
    j.channels = (size_t)j.x.dims[j.x.rank - 1];
    if (j.y.type == Type_INT8) make_table(&j, (int8_t *)r->shared);
    j.tasks = run_tasks(r, j.y.elements, j.y.elements / (j.channels * 64));
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_normalize_picture = {.check = check, .run = run};
