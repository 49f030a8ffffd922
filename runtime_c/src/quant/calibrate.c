/* SPDX-License-Identifier: Apache-2.0
 *
 * Watching a session's runs. Memory: first a slot number per tensor (OBSERVER_NONE where it has none), then a choice and an
 * observer per slot, then the scratch. Tensors that share a scale have one slot, and only those of them are watched whose
 * values are not already among the values of another: the results of Reshape, Concat, pooling and the like are not. */
#include "calibrate.h"

static struct calibration *calibration_of(e8_calibration *calibration)
{
    return (struct calibration *)(void *)calibration->opaque;
}

/* The tensor whose scale `index` takes. */
uint32_t calibration_leader(const struct model *m, uint32_t index)
{
    uint32_t share = flat_uint(flat_element_table(m->tensors, index), Tensor_share, 0);
    return share ? share - 1 : index;
}

/* A quantised activation without a scale. */
bool calibration_waits(const struct model *m, uint32_t index)
{
    const uint8_t *table = flat_element_table(m->tensors, index);
    struct flat_vector scales = flat_vector_at(table, Tensor_scale);
    return !flat_field_at(table, Tensor_data) && scales.count == 1 && flat_element_float(scales, 0) == 0.0f;
}

/* Its scale depends on data, and it is the one that has the observer. */
static bool is_observed_leader(const struct model *m, uint32_t index)
{
    const uint8_t *table = flat_element_table(m->tensors, index);
    return calibration_waits(m, index) && calibration_leader(m, index) == index && flat_float(table, Tensor_preset_scale, 0.0f) == 0.0f;
}

static bool leader_is_sound(const struct model *m, uint32_t index)
{
    uint32_t leader = calibration_leader(m, index);
    if (leader == index) return true;
    if (leader >= m->tensors.count || !calibration_waits(m, leader) || calibration_leader(m, leader) != leader) return false;
    const uint8_t *table = flat_element_table(m->tensors, index), *other = flat_element_table(m->tensors, leader);
    return flat_byte(table, Tensor_type, 0) == flat_byte(other, Tensor_type, 0);
}

static bool preset_is_sound(const uint8_t *table)
{
    float scale = flat_float(table, Tensor_preset_scale, 0.0f);
    int32_t zero_point = flat_int(table, Tensor_preset_zero_point, 0);
    return scale == 0.0f || (scale >= 0x1p-40f && scale <= 0x1p40f && zero_point >= -128 && zero_point <= 127);
}

static bool waiting_are_sound(const struct model *m)
{
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        if (!calibration_waits(m, i)) continue;
        const uint8_t *table = flat_element_table(m->tensors, i);
        if (!flat_field_at(table, Tensor_zero_point) || !leader_is_sound(m, i) || !preset_is_sound(table)) return false;
    }
    return true;
}

uint32_t e8_calibration_observers(const e8_model *model)
{
    const struct model *m = model_of(model);
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->tensors.count; i++) count += is_observed_leader(m, i);
    return count;
}

static uint64_t slots_bytes(const struct model *m)
{
    return size_align(size_mul(m->tensors.count, sizeof(uint32_t)), 64);
}

static uint64_t choices_bytes(uint32_t observers)
{
    return size_align(size_mul(observers, sizeof(struct choice)), 64);
}

size_t e8_calibration_bytes(const e8_model *model)
{
    uint32_t observers = e8_calibration_observers(model);
    uint64_t bytes = size_add(slots_bytes(model_of(model)), choices_bytes(observers));
    bytes = size_add(bytes, size_mul(observers, sizeof(e8_observer)));
    bytes = size_add(bytes, sizeof(e8_observer_scratch));
    return bytes > SIZE_MAX / 2 ? SIZE_MAX / 2 : (size_t)bytes;
}

e8_status e8_calibration_init(e8_calibration *calibration, const e8_model *model, void *memory, size_t bytes)
{
    if (!calibration || !model || !memory || e8_model_calibrated(model)) return E8_ERR_ARGUMENT;
    if (((uintptr_t)memory & 63u) || bytes < e8_calibration_bytes(model)) return E8_ERR_ARENA;
    const struct model *m = model_of(model);
    if (!waiting_are_sound(m)) return E8_ERR_FORMAT;
    uint8_t *base = memory;
    struct calibration c = {.model = model, .observers = e8_calibration_observers(model), .slots = memory};
    uint32_t next = 0;
    c.choices = (void *)(base + slots_bytes(m));
    c.table = (void *)((uint8_t *)c.choices + choices_bytes(c.observers));
    c.scratch = (void *)((uint8_t *)c.table + c.observers * sizeof(e8_observer));
    for (uint32_t i = 0; i < m->tensors.count; i++) c.slots[i] = is_observed_leader(m, i) ? next++ : OBSERVER_NONE;
    for (uint32_t i = 0; i < m->tensors.count; i++)
        if (calibration_waits(m, i)) c.slots[i] = c.slots[calibration_leader(m, i)];
    for (uint32_t i = 0; i < c.observers; i++) {
        e8_observer_init(&c.table[i]);
        c.choices[i] = (struct choice){.method = METHOD_GIVEN};
    }
    memset(calibration, 0, sizeof *calibration);
    memcpy(calibration, &c, sizeof c);
    return E8_OK;
}

static void observe(struct calibration *c, uint32_t tensor)
{
    struct tensor t;
    tensor_decode(model_of(c->model), tensor, &t);
    e8_observer_add(&c->table[c->slots[tensor]], e8_session_tensor(c->session, tensor), (size_t)t.elements, c->scratch);
}

/* An input of the operator has the same slot: the result's values come from there. Pad brings a value of its own. */
static bool comes_from_slot(const struct calibration *c, const struct op *op, uint32_t slot)
{
    if (op->kind == Params_Pad) return false;
    for (uint32_t i = 0; i < op->inputs.count; i++) {
        uint32_t tensor = flat_load32(op->inputs.bytes + 4 * (size_t)i);
        if (tensor != E8_ABSENT && c->slots[tensor] == slot) return true;
    }
    return false;
}

static void observe_inputs(struct calibration *c)
{
    uint32_t count = e8_model_count(c->model, E8_INPUT);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t tensor = e8_model_io_tensor(c->model, E8_INPUT, i);
        if (c->slots[tensor] != OBSERVER_NONE) observe(c, tensor);
    }
}

int e8_calibration_hook(void *calibration, uint32_t index, int after)
{
    struct calibration *c = calibration_of(calibration);
    const struct model *m = model_of(c->model);
    if (!after) {
        if (index == 0) observe_inputs(c);
        return 0;
    }
    struct op op = model_op(m, index);
    for (uint32_t i = 0; i < op.outputs.count; i++) {
        uint32_t tensor = flat_load32(op.outputs.bytes + 4 * (size_t)i), slot = c->slots[tensor];
        if (slot != OBSERVER_NONE && !comes_from_slot(c, &op, slot)) observe(c, tensor);
    }
    if (index + 1 == m->ops.count) {
        for (uint32_t i = 0; i < c->observers; i++) e8_observer_end(&c->table[i]);
        c->runs++;
    }
    return 0;
}

void e8_calibration_attach(e8_calibration *calibration, e8_session *session)
{
    struct calibration *c = calibration_of(calibration);
    if (c->session) e8_session_hook(c->session, NULL, NULL);
    c->session = session;
    if (session) e8_session_hook(session, e8_calibration_hook, calibration);
}

uint64_t e8_calibration_runs(const e8_calibration *calibration)
{
    return ((const struct calibration *)(const void *)calibration->opaque)->runs;
}

static uint32_t slot_of(const struct calibration *c, uint32_t tensor)
{
    return tensor < e8_model_tensors(c->model) ? c->slots[tensor] : OBSERVER_NONE;
}

e8_observer *e8_calibration_observer(e8_calibration *calibration, uint32_t tensor)
{
    struct calibration *c = calibration_of(calibration);
    uint32_t slot = slot_of(c, tensor);
    return slot == OBSERVER_NONE ? NULL : &c->table[slot];
}

e8_status e8_calibration_set_range(e8_calibration *calibration, uint32_t tensor, float low, float high)
{
    struct calibration *c = calibration_of(calibration);
    uint32_t slot = slot_of(c, tensor);
    if (slot == OBSERVER_NONE || !(low <= 0.0f && high >= 0.0f && high - low <= 0x1p38f)) return E8_ERR_ARGUMENT;
    c->choices[slot] = (struct choice){.method = METHOD_BY_HAND, .low = low, .high = high};
    return E8_OK;
}

e8_status e8_calibration_set_method(e8_calibration *calibration, uint32_t tensor, int32_t method, float percentile)
{
    struct calibration *c = calibration_of(calibration);
    uint32_t slot = slot_of(c, tensor);
    if (slot == OBSERVER_NONE || method < E8_METHOD_AUTO || method > E8_METHOD_MSE) return E8_ERR_ARGUMENT;
    if (!(percentile > 50.0f && percentile <= 100.0f)) return E8_ERR_ARGUMENT;
    c->choices[slot] = (struct choice){.method = method, .percentile = percentile};
    return E8_OK;
}

e8_status e8_calibration_range(e8_calibration *calibration, const e8_range_options *options, uint32_t tensor, float *low, float *high)
{
    struct calibration *c = calibration_of(calibration);
    e8_range_options usual = e8_default_range_options(), mine = options ? *options : usual;
    uint32_t slot = slot_of(c, tensor);
    if (slot == OBSERVER_NONE) return E8_ERR_ARGUMENT;
    struct choice choice = c->choices[slot];
    if (choice.method == METHOD_BY_HAND) {
        *low = choice.low;
        *high = choice.high;
        return E8_OK;
    }
    const uint8_t *table = flat_element_table(model_of(c->model)->tensors, tensor);
    if (choice.method != METHOD_GIVEN) mine.method = choice.method, mine.percentile = choice.percentile;
    if (flat_byte(table, Tensor_type, 0) == Type_INT16) mine.bits = 16, mine.symmetric = 1;
    return e8_observer_range(&c->table[slot], &mine, low, high, c->scratch);
}

/* Saved form: the head below, then the observers. */
enum {
    STATE_CRC = 8, /* u32: CRC-32C of everything behind it */
    STATE_CHECKED = 12,
    STATE_MODEL = 12, /* u32: CRC of the model's file */
    STATE_COUNT = 16, /* u32: observers */
    STATE_RUNS = 20,  /* u64 */
    STATE_BYTES = 28
};
static const uint8_t STATE_MAGIC[8] = {0x89, 'E', '8', 'O', 'B', 'S', 1, '\n'};

static void put(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(value >> 8 * i);
}

size_t e8_calibration_saved_bytes(const e8_calibration *calibration)
{
    const struct calibration *c = (const struct calibration *)(const void *)calibration->opaque;
    return STATE_BYTES + c->observers * OBSERVER_BYTES;
}

e8_status e8_calibration_save(const e8_calibration *calibration, void *bytes, size_t size)
{
    const struct calibration *c = (const struct calibration *)(const void *)calibration->opaque;
    uint8_t *p = bytes;
    if (!bytes || size != e8_calibration_saved_bytes(calibration)) return E8_ERR_ARGUMENT;
    memcpy(p, STATE_MAGIC, sizeof STATE_MAGIC);
    put(p + STATE_MODEL, e8_model_crc(c->model), 4);
    put(p + STATE_COUNT, c->observers, 4);
    put(p + STATE_RUNS, c->runs, 8);
    for (uint32_t i = 0; i < c->observers; i++) observer_write_state(observer_in(&c->table[i]), p + STATE_BYTES + i * OBSERVER_BYTES);
    put(p + STATE_CRC, crc32c(p + STATE_CHECKED, size - STATE_CHECKED), 4);
    return E8_OK;
}

/* Everything about a state is checked before any of it is taken. */
static e8_status check_state(const struct calibration *c, const uint8_t *p, size_t size)
{
    if (!p || size < STATE_BYTES || memcmp(p, STATE_MAGIC, sizeof STATE_MAGIC) != 0) return E8_ERR_FORMAT;
    if (crc32c(p + STATE_CHECKED, size - STATE_CHECKED) != flat_load32(p + STATE_CRC)) return E8_ERR_CHECKSUM;
    if (flat_load32(p + STATE_MODEL) != e8_model_crc(c->model)) return E8_ERR_ARGUMENT;
    if (flat_load32(p + STATE_COUNT) != c->observers || size != STATE_BYTES + c->observers * OBSERVER_BYTES) return E8_ERR_FORMAT;
    if (flat_load64(p + STATE_RUNS) > (uint64_t)1 << 60) return E8_ERR_FORMAT;
    for (uint32_t i = 0; i < c->observers; i++)
        if (!observer_state_is_sound(p + STATE_BYTES + i * OBSERVER_BYTES)) return E8_ERR_FORMAT;
    return E8_OK;
}

e8_status e8_calibration_load(e8_calibration *calibration, const void *bytes, size_t size)
{
    struct calibration *c = calibration_of(calibration);
    TRY(check_state(c, bytes, size));
    const uint8_t *p = bytes;
    for (uint32_t i = 0; i < c->observers; i++) observer_read_state(observer_of(&c->table[i]), p + STATE_BYTES + i * OBSERVER_BYTES);
    c->runs = flat_load64(p + STATE_RUNS);
    return E8_OK;
}

e8_status e8_calibration_merge(e8_calibration *calibration, const void *bytes, size_t size)
{
    struct calibration *c = calibration_of(calibration);
    TRY(check_state(c, bytes, size));
    const uint8_t *p = bytes;
    for (uint32_t i = 0; i < c->observers; i++) observer_merge_state(observer_of(&c->table[i]), p + STATE_BYTES + i * OBSERVER_BYTES);
    c->runs += flat_load64(p + STATE_RUNS);
    return E8_OK;
}
