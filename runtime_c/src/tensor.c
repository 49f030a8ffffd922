/* SPDX-License-Identifier: Apache-2.0 */
#include "op.h"

#include "numeric.h"

/* Scales outside this range would under- or overflow when three of them are multiplied. */
static const float SMALLEST_SCALE = 0x1p-40f, LARGEST_SCALE = 0x1p40f;

size_t type_bytes(uint32_t type)
{
    static const uint8_t width[Type_COUNT] = {4, 1, 2, 4, 8, 1, 1};
    return type < Type_COUNT ? width[type] : 0;
}

void tensor_decode(const struct model *model, uint32_t index, struct tensor *t)
{
    const uint8_t *table = flat_element_table(model->tensors, index);
    struct flat_vector shape = flat_vector_at(table, Tensor_shape);
    memset(t, 0, sizeof *t);
    t->index = index;
    t->type = flat_byte(table, Tensor_type, 0);
    t->rank = shape.count;
    t->elements = 1;
    for (uint32_t i = 0; i < shape.count; i++) {
        t->dims[i] = flat_element_int(shape, i);
        t->elements *= (uint64_t)t->dims[i];
    }
    t->scales = flat_vector_at(table, Tensor_scale);
    t->zero_point = flat_int(table, Tensor_zero_point, 0);
    if (t->scales.count != 0) t->scale = flat_element_float(t->scales, 0);
    t->data = flat_vector_at(table, Tensor_data);
    t->constant = t->data.bytes != NULL;
    if (t->constant) {
        t->bits = flat_byte(table, Tensor_bits, 0);
        t->group = flat_uint(table, Tensor_group, 0);
        if (t->bits == 0) t->bits = 8 * (uint32_t)type_bytes(t->type);
        uint32_t decoded = flat_uint(table, Tensor_decoded, 0);
        if (decoded && t->data.count) {
            t->offset = flat_ulong(table, Tensor_offset, 0);
            t->coded = t->data;
            t->data = (struct flat_vector){NULL, decoded};
        }
    } else {
        t->offset = flat_ulong(table, Tensor_offset, 0) * model->widen;
        t->first = flat_uint(table, Tensor_first, 0);
        t->last = flat_uint(table, Tensor_last, 0);
        if (t->scales.count != 0 && t->scale == 0.0f) t->type = Type_FLOAT32;
    }
    t->bytes = t->elements * type_bytes(t->type);
}

/* The product is at most INT32_MAX, so that byte counts cannot overflow. */
static bool shape_is_sound(struct flat_vector shape)
{
    uint64_t elements = 1;
    if (shape.count > E8_MAX_RANK) return false;
    for (uint32_t i = 0; i < shape.count; i++) {
        int32_t dim = flat_element_int(shape, i);
        if (dim < 1) return false;
        elements = size_mul(elements, (uint64_t)dim);
    }
    return elements <= INT32_MAX;
}

/* Scales are all positive and in range, or there is exactly one and it is 0 (an activation before calibration). */
static bool scales_are_sound(const uint8_t *table, uint32_t type, bool constant)
{
    struct flat_vector scales = flat_vector_at(table, Tensor_scale);
    int32_t zero_point = flat_int(table, Tensor_zero_point, 0);
    if (scales.count == 0) return zero_point == 0;
    if (type != Type_INT8 && type != Type_INT16) return false;
    /* int16 is symmetric. */
    int32_t most = type == Type_INT8 ? 127 : 0;
    if (zero_point > most || zero_point < (most ? -128 : 0)) return false;
    if (scales.count == 1 && flat_element_float(scales, 0) == 0.0f) return !constant;
    for (uint32_t i = 0; i < scales.count; i++) {
        float scale = flat_element_float(scales, i);
        if (!(scale >= SMALLEST_SCALE && scale <= LARGEST_SCALE)) return false;
    }
    return constant || scales.count == 1;
}

static bool constant_is_sound(const struct tensor *t)
{
    if (t->bits > 16 && t->bits != 8 * type_bytes(t->type)) return false;
    if (t->coded.count) return t->bits <= 8 && t->data.count % t->bits == 0 && ((uintptr_t)t->coded.bytes & 63u) == 0;
    /* 64-byte alignment lets kernels use aligned loads on the mapped file. */
    return t->data.count > 0 && ((uintptr_t)t->data.bytes & 63u) == 0;
}

static bool activation_is_sound(const struct model *model, const uint8_t *table, const struct tensor *t)
{
    uint64_t offset = flat_ulong(table, Tensor_offset, 0);
    if (offset > SIZE_CAP / 4 || (offset & 63u)) return false;
    return t->first <= t->last && t->last <= model->ops.count;
}

bool tensor_is_sound(const struct model *model, uint32_t index, const char **rule)
{
    struct tensor t;
    const uint8_t *table = flat_element_table(model->tensors, index);
    uint32_t type = flat_byte(table, Tensor_type, 0);
    bool constant = flat_field_at(table, Tensor_data) != NULL;
    *rule = "tensor.type";
    if (type >= Type_COUNT) return false;
    *rule = "tensor.shape";
    if (!shape_is_sound(flat_vector_at(table, Tensor_shape))) return false;
    *rule = "tensor.scale";
    if (!scales_are_sound(table, type, constant)) return false;
    *rule = constant ? "tensor.data" : "tensor.place";
    tensor_decode(model, index, &t);
    return constant ? constant_is_sound(&t) : activation_is_sound(model, table, &t);
}

const uint8_t *tensor_bytes(const struct model *model, const uint8_t *arena, const struct tensor *t)
{
    return t->coded.count ? arena + size_align(model->activation_bytes, 64) + t->offset : t->data.bytes;
}

bool op_input(const struct op *op, uint32_t i, struct tensor *t)
{
    uint32_t index = i < op->inputs.count ? flat_load32(op->inputs.bytes + 4 * (size_t)i) : E8_ABSENT;
    if (index == E8_ABSENT) {
        memset(t, 0, sizeof *t);
        return false;
    }
    tensor_decode(op->model, index, t);
    return true;
}

void op_output(const struct op *op, uint32_t i, struct tensor *t)
{
    tensor_decode(op->model, flat_load32(op->outputs.bytes + 4 * (size_t)i), t);
}

/* Where session.c leaves the swapped copy of constant input `i`: after those of the constants before it. */
static uint8_t *swapped_address(const struct run *r, uint32_t i)
{
    size_t offset = 0;
    struct tensor t;
    for (uint32_t k = 0; k < i; k++)
        if (op_input(&r->op, k, &t) && t.constant) offset += (size_t)size_align(t.data.count, 64);
    return r->swapped + offset;
}

void run_locate(const struct run *r, uint32_t i, struct tensor *t)
{
    if (!t->constant) {
        t->address = r->arena + t->offset;
        return;
    }
    /* Constants are read-only; operators never write through an input's address. */
    t->data.bytes = tensor_bytes(r->op.model, r->arena, t);
    t->address = r->swapped ? swapped_address(r, i) : (void *)(uintptr_t)t->data.bytes;
}

bool run_input(const struct run *r, uint32_t i, struct tensor *t)
{
    if (!op_input(&r->op, i, t)) return false;
    run_locate(r, i, t);
    return true;
}

void run_output(const struct run *r, uint32_t i, struct tensor *t)
{
    op_output(&r->op, i, t);
    run_locate(r, i, t);
}

bool tensor_is_quantised(const struct tensor *t)
{
    return (t->type == Type_INT8 || t->type == Type_INT16) && t->scale > 0.0f;
}

bool tensor_is_float(const struct tensor *t)
{
    return t->type == Type_FLOAT32;
}

int32_t tensor_code(const struct tensor *t, float real)
{
    bool int16 = t->type == Type_INT16;
    float lowest = (float)((int16 ? -32767 : -128) - t->zero_point), highest = (float)((int16 ? 32767 : 127) - t->zero_point);
    return rne_int32(min_float(max_float(real / t->scale, lowest), highest)) + t->zero_point;
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    if (a->rank != b->rank) return false;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

void tensor_dims8(const struct tensor *t, int32_t dims[E8_MAX_RANK])
{
    for (uint32_t i = 0; i < E8_MAX_RANK; i++) {
        uint32_t lead = E8_MAX_RANK - t->rank;
        dims[i] = i < lead ? 1 : t->dims[i - lead];
    }
}
