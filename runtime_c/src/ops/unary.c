/* SPDX-License-Identifier: Apache-2.0
 *
 * Unary: y = f(x). Float32 by the functions of unary_map.c; int8 by a table of 256 codes (e8_unary_table); int16 as Dequantize, the
 * float32 function and Quantize; NOT on BOOL; IDENTITY, ABS, NEG and SIGN on plain integers, modulo the type's width. */
#include "../integer.h"
#include "../real.h"
#include "../unary_map.h"

static bool has_integer_form(uint32_t kind)
{
    return kind == UnaryKind_IDENTITY || kind == UnaryKind_ABS || kind == UnaryKind_NEG || kind == UnaryKind_SIGN;
}

static e8_status check_type(struct check *c, const struct tensor *x, const struct tensor *y, uint32_t kind)
{
    REQUIRE(c, "unary.type", x->type == y->type && tensor_is_quantised(x) == tensor_is_quantised(y));
    if (kind == UnaryKind_NOT) {
        REQUIRE(c, "unary.type", x->type == Type_BOOL);
    } else if (tensor_is_quantised(x) && x->type == Type_INT16) {
        REQUIRE(c, "unary.scale", x->scales.count == 1);
    } else if (tensor_is_quantised(x)) {
        REQUIRE(c, "unary.table", flat_vector_at(c->op.params, Unary_table).count == 256);
    } else if (!tensor_is_float(x)) {
        SUPPORTED(c, "unary.type", has_integer_form(kind) && (x->type != Type_BOOL || kind == UnaryKind_IDENTITY));
    }
    return E8_OK;
}

static e8_status check(struct check *c)
{
    struct tensor x, y;
    uint32_t kind = flat_byte(c->op.params, Unary_kind, 0);
    TRY(check_counts(c, 1, 1, 1));
    op_input(&c->op, 0, &x);
    op_output(&c->op, 0, &y);
    SUPPORTED(c, "unary.kind", kind < UnaryKind_COUNT);
    REQUIRE(c, "unary.shape", tensor_same_shape(&x, &y));
    TRY(check_type(c, &x, &y, kind));
    c->macs = y.elements;
    return E8_OK;
}

struct job {
    const struct run *run;
    struct tensor x, y;
    uint32_t kind, tasks;
};

static void integers(const struct job *j, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        int64_t value = load_integer(j->x.address, j->x.type, i);
        int64_t negated = (int64_t)(0u - (uint64_t)value);
        if (j->kind == UnaryKind_NOT)
            value = !value;
        else if (j->kind == UnaryKind_NEG || (j->kind == UnaryKind_ABS && value < 0))
            value = negated;
        else if (j->kind == UnaryKind_SIGN)
            value = (value > 0) - (value < 0);
        store_integer(j->y.address, j->y.type, i, value);
    }
}

static void codes_int16(const struct job *j, size_t begin, size_t end)
{
    const struct e8_kernels *k = j->run->kernels;
    float alpha = flat_float(j->run->op.params, Unary_alpha, 0.0f), beta = flat_float(j->run->op.params, Unary_beta, 0.0f);
    float block[REAL_BLOCK];
    for (size_t i = begin; i < end; i += REAL_BLOCK) {
        size_t count = end - i < REAL_BLOCK ? end - i : REAL_BLOCK;
        codes_to_real(k, &j->x, i, block, count);
        k->unary_f32(j->kind, alpha, beta, block, block, count);
        real_to_codes(k, &j->y, i, block, count);
    }
}

static void task(void *argument, uint32_t index)
{
    const struct job *j = argument;
    const uint8_t *params = j->run->op.params;
    size_t begin, end;
    run_share((size_t)j->y.elements, 64, index, j->tasks, &begin, &end);
    if (E8_HAS(Unary, E8_FORM_INT16) && tensor_is_quantised(&j->x) && j->x.type == Type_INT16) {
        codes_int16(j, begin, end);
    } else if (E8_HAS(Unary, E8_FORM_INT8) && tensor_is_quantised(&j->x)) {
        const int8_t *table = (const int8_t *)flat_vector_at(params, Unary_table).bytes;
        j->run->kernels->lookup((const int8_t *)j->x.address + begin, (int8_t *)j->y.address + begin, end - begin, table);
    } else if (E8_HAS(Unary, E8_FORM_FLOAT) && tensor_is_float(&j->x)) {
        j->run->kernels->unary_f32(j->kind, flat_float(params, Unary_alpha, 0.0f), flat_float(params, Unary_beta, 0.0f),
                                   (const float *)j->x.address + begin, (float *)j->y.address + begin, end - begin);
    } else if (E8_HAS(Unary, E8_FORM_INTEGER)) {
        integers(j, begin, end);
    }
}

static e8_status run(const struct run *r)
{
    struct job j = {.run = r, .kind = flat_byte(r->op.params, Unary_kind, 0)};
    run_input(r, 0, &j.x);
    run_output(r, 0, &j.y);
    /* A function takes longer than a copy: about ten operations an element. */
    uint64_t work = tensor_is_float(&j.y) || j.y.type == Type_INT16 ? 10 * j.y.elements : j.y.elements;
    j.tasks = run_tasks(r, work, j.y.elements / 64);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_unary = {.check = check, .run = run, .in_place = 1};
