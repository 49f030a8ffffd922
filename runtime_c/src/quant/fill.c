/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing the result of a calibration into a copy of the model's bytes. All positions come from the opened, verified model;
 * the copy is compared by size and checksum first, and opened as a model at the end. */
#include "../math.h"
#include "../unary_map.h"
#include "calibrate.h"

enum { FILE_CRC = 8, FILE_CHECKED = 12 }; /* the header, see model.c */

/* The place in the copy that corresponds to a place in the model's file. */
static uint8_t *in_copy(const struct model *m, uint8_t *copy, const uint8_t *place)
{
    return copy + (place - m->file);
}

static void put32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> 8 * i);
}

/* Scale and zero point of a waiting tensor. */
static e8_status find_scale(e8_calibration *calibration, const struct model *m, const e8_range_options *options, uint32_t index,
                            float *scale, int32_t *zero_point)
{
    const uint8_t *leader = flat_element_table(m->tensors, calibration_leader(m, index));
    float low, high;
    *scale = flat_float(leader, Tensor_preset_scale, 0.0f);
    *zero_point = flat_int(leader, Tensor_preset_zero_point, 0);
    if (*scale != 0.0f) return E8_OK;
    TRY(e8_calibration_range(calibration, options, index, &low, &high));
    int32_t bits = flat_byte(leader, Tensor_type, 0) == Type_INT16 ? 16 : 8;
    e8_scale_of_range(low, high, bits, options->symmetric, scale, zero_point);
    return E8_OK;
}

/* Tensors that share a scale get it from the one that has it already: leaders are done first. */
static e8_status fill_scales(e8_calibration *calibration, const struct model *m, const e8_range_options *options, uint8_t *copy)
{
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        if (!calibration_waits(m, i) || calibration_leader(m, i) != i) continue;
        const uint8_t *table = flat_element_table(m->tensors, i);
        float scale;
        int32_t zero_point;
        TRY(find_scale(calibration, m, options, i, &scale, &zero_point));
        put32(in_copy(m, copy, flat_vector_at(table, Tensor_scale).bytes), bits_of_float(scale));
        put32(in_copy(m, copy, flat_field_at(table, Tensor_zero_point)), (uint32_t)zero_point);
    }
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        uint32_t leader = calibration_leader(m, i);
        if (!calibration_waits(m, i) || leader == i) continue;
        const uint8_t *table = flat_element_table(m->tensors, i), *from = flat_element_table(m->tensors, leader);
        memcpy(in_copy(m, copy, flat_vector_at(table, Tensor_scale).bytes), in_copy(m, copy, flat_vector_at(from, Tensor_scale).bytes), 4);
        memcpy(in_copy(m, copy, flat_field_at(table, Tensor_zero_point)), in_copy(m, copy, flat_field_at(from, Tensor_zero_point)), 4);
    }
    return E8_OK;
}

struct coded {
    float scale;
    int32_t zero_point;
};

/* What the copy says of an operator's tensor now; false where it is not an int8 activation that was filled in. */
static bool filled(const struct model *m, uint8_t *copy, struct flat_vector list, struct coded *coded)
{
    uint32_t tensor = list.count ? flat_load32(list.bytes) : E8_ABSENT;
    if (tensor == E8_ABSENT || !calibration_waits(m, tensor)) return false;
    const uint8_t *table = flat_element_table(m->tensors, tensor);
    if (flat_byte(table, Tensor_type, 0) != Type_INT8) return false;
    coded->scale = flat_load_float(in_copy(m, copy, flat_vector_at(table, Tensor_scale).bytes));
    coded->zero_point = (int32_t)flat_load32(in_copy(m, copy, flat_field_at(table, Tensor_zero_point)));
    return true;
}

/* 256 times round(32768 * exp(-scale * d)). Distances beyond 2^24 / scale are 0 anyway. */
static void softmax_table(float scale, uint8_t *table)
{
    for (uint32_t d = 0; d < 256; d++) {
        int32_t weight = rne_int32(32768.0f * exp_float(-scale * (float)d));
        table[2 * d] = (uint8_t)weight;
        table[2 * d + 1] = (uint8_t)(weight >> 8);
    }
}

static void fill_table(const struct model *m, uint8_t *copy, const struct op *op)
{
    struct coded in, out;
    uint32_t field = op->kind == Params_Unary ? (uint32_t)Unary_table : (uint32_t)Softmax_table;
    struct flat_vector table = flat_vector_at(op->params, field);
    if (!filled(m, copy, op->inputs, &in) || !filled(m, copy, op->outputs, &out)) return;
    if (op->kind == Params_Softmax) {
        if (table.count == 512) softmax_table(in.scale, in_copy(m, copy, table.bytes));
        return;
    }
    uint32_t kind = flat_byte(op->params, Unary_kind, 0);
    if (table.count != 256 || kind >= UnaryKind_COUNT || kind == UnaryKind_NOT) return;
    struct e8_unary_scales scales = {in.scale, out.scale, in.zero_point, out.zero_point};
    e8_unary_table(kind, flat_float(op->params, Unary_alpha, 0.0f), flat_float(op->params, Unary_beta, 0.0f), &scales,
                   (int8_t *)in_copy(m, copy, table.bytes));
}

/* Runs of a session, or what observers took from others. */
static bool has_watched(const struct calibration *c)
{
    uint64_t runs = c->runs;
    for (uint32_t i = 0; i < c->observers; i++) runs |= observer_in(&c->table[i])->runs;
    return runs != 0;
}

e8_status e8_calibration_fill(e8_calibration *calibration, const e8_range_options *options, void *file, size_t size, e8_diag *diag)
{
    struct calibration *c = (struct calibration *)(void *)calibration->opaque;
    const struct model *m = model_of(c->model);
    e8_range_options usual = e8_default_range_options();
    uint8_t *copy = file;
    e8_model opened;
    if (diag) *diag = (e8_diag){.op = E8_ABSENT, .tensor = E8_ABSENT, .rule = "calibration.runs"};
    if (!has_watched(c)) return E8_ERR_ARGUMENT;
    if (diag) diag->rule = "calibration.file";
    if (!file || ((uintptr_t)file & 63u) || file == m->file || size != m->file_bytes) return E8_ERR_ARGUMENT;
    if (memcmp(copy, m->file, size) != 0) return E8_ERR_ARGUMENT;
    if (diag) diag->rule = "calibration.options";
    TRY(fill_scales(calibration, m, options ? options : &usual, copy));
    for (uint32_t i = 0; i < m->ops.count; i++) {
        struct op op = model_op(m, i);
        if (op.kind == Params_Unary || op.kind == Params_Softmax) fill_table(m, copy, &op);
    }
    put32(copy + FILE_CRC, crc32c(copy + FILE_CHECKED, size - FILE_CHECKED));
    return e8_model_open(&opened, copy, size, NULL, diag);
}
