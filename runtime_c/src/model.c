/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a model: the trust boundary. Nothing here believes a number before it has been compared with a rule. */
#include "model.h"

#include "crc32c.h"
#include "entropy.h"
#include "plan.h"

_Static_assert(sizeof(struct model) <= sizeof(e8_model), "e8_model is too small for its content");

/* The 64 bytes before the FlatBuffer; all numbers little-endian. */
enum {
    HEADER_BYTES = 64,
    HEADER_CRC = 8,      /* u32: CRC-32C of everything from byte 12 to the end */
    HEADER_CHECKED = 12, /* first byte under the CRC */
    HEADER_MAJOR = 12,   /* u16: a reader refuses a larger one */
    HEADER_MINOR = 14,   /* u16: for information */
    HEADER_SIZE = 16,    /* u64: bytes of the whole file */
    HEADER_RESERVED = 28 /* zero up to HEADER_BYTES */
};
enum { FORMAT_MAJOR = 1 };
static const uint8_t MAGIC[8] = {0x89, 'E', 'D', 'G', 'E', '8', '\r', '\n'};

static const struct op_type *const OP_TYPES[E8_OP_COUNT + 1] = {
#define X(number, table, name) [number] = &e8_op_##name,
    E8_OPS_USED(X)
#undef X
};

static const char *const OP_NAMES[E8_OP_COUNT + 1] = {[0] = "",
#define X(number, table, name) [number] = #table,
                                                      E8_OPS_USED(X)
#undef X
};

struct params_fields {
    const struct flat_field *fields;
    size_t count;
};

static const struct params_fields PARAMS[E8_OP_COUNT + 1] = {
#define X(number, table, name) [number] = {table##_fields, sizeof table##_fields / sizeof table##_fields[0]},
    E8_OPS_USED(X)
#undef X
};

#if defined(E8_OPS_HEADER)
static const uint8_t FORMS[E8_OP_COUNT + 1] = {
#define X(number, table, name) [number] = E8_FORMS_##table,
    E8_OPS_USED(X)
#undef X
};

static uint32_t form_of(const struct tensor *t)
{
    if (t->constant) return 0;
    if (t->type == Type_FLOAT32) return E8_FORM_FLOAT;
    if (!tensor_is_quantised(t)) return E8_FORM_INTEGER;
    return t->type == Type_INT8 ? E8_FORM_INT8 : E8_FORM_INT16;
}

/* True when the build computes an operator's forms; otherwise *tensor is the first that it cannot. */
static bool form_is_built(const struct op *op, uint32_t *tensor)
{
    struct tensor t;
    for (uint32_t i = 0; i < op->inputs.count + op->outputs.count; i++) {
        bool output = i >= op->inputs.count;
        if (output)
            op_output(op, i - op->inputs.count, &t);
        else if (!op_input(op, i, &t))
            continue;
        *tensor = t.index;
        if (form_of(&t) & ~(uint32_t)FORMS[op->kind]) return false;
    }
    return true;
}
#else
static bool form_is_built(const struct op *op, uint32_t *tensor)
{
    (void)op;
    (void)tensor;
    return true;
}
#endif

const struct op_type *model_op_type(uint32_t kind)
{
    return OP_TYPES[kind];
}

struct op model_op(const struct model *m, uint32_t index)
{
    const uint8_t *table = flat_element_table(m->ops, index);
    struct op op = {
        .model = m,
        .params = flat_target(table, Op_params),
        .inputs = flat_vector_at(table, Op_inputs),
        .outputs = flat_vector_at(table, Op_outputs),
        .index = index,
        .kind = flat_byte(table, Op_params_type, 0),
    };
    return op;
}

static e8_status fail(e8_diag *diag, e8_status status, const char *rule, uint32_t op, uint32_t tensor)
{
    if (diag) *diag = (e8_diag){.op = op, .tensor = tensor, .rule = rule};
    return status;
}

#define FAIL(status, rule) return fail(diag, status, rule, E8_ABSENT, E8_ABSENT)
#define COUNT(fields) (sizeof(fields) / sizeof(fields)[0])

static e8_status verify_header(const uint8_t *file, size_t size, e8_diag *diag)
{
    if (size < HEADER_BYTES + 12 || memcmp(file, MAGIC, sizeof MAGIC) != 0) FAIL(E8_ERR_FORMAT, "file.magic");
    if (flat_load16(file + HEADER_MAJOR) > FORMAT_MAJOR) FAIL(E8_ERR_VERSION, "file.version");
    if (flat_load16(file + HEADER_MAJOR) < 1) FAIL(E8_ERR_FORMAT, "file.version");
    if (flat_load64(file + HEADER_SIZE) != size) FAIL(E8_ERR_FORMAT, "file.size");
    for (size_t i = HEADER_RESERVED; i < HEADER_BYTES; i++)
        if (file[i] != 0) FAIL(E8_ERR_FORMAT, "file.reserved");
#ifndef E8_FUZZ_WITHOUT_CRC
    if (crc32c(file + HEADER_CHECKED, size - HEADER_CHECKED) != flat_load32(file + HEADER_CRC)) FAIL(E8_ERR_CHECKSUM, "file.crc");
#endif
    return E8_OK;
}

/* Structure: the root, every tensor and every op with its parameters are tables inside the buffer. */
static e8_status verify_structure(struct model *m, const e8_limits *limits, e8_diag *diag)
{
    struct flat_buffer b = {m->file + HEADER_BYTES, (uint32_t)(m->file_bytes - HEADER_BYTES)};
    uint32_t root = flat_root(b, "EDG8");
    if (root == 0 || !flat_verify_table(b, root, Model_fields, COUNT(Model_fields))) FAIL(E8_ERR_FORMAT, "model.table");
    const uint8_t *table = m->table = b.bytes + root;
    m->tensors = flat_vector_at(table, Model_tensors);
    m->ops = flat_vector_at(table, Model_ops);
    m->inputs = flat_vector_at(table, Model_inputs);
    m->outputs = flat_vector_at(table, Model_outputs);
    m->activation_bytes = flat_ulong(table, Model_arena, 0);
    if (m->tensors.count > limits->tensors) FAIL(E8_ERR_LIMIT, "limit.tensors");
    if (m->ops.count > limits->ops) FAIL(E8_ERR_LIMIT, "limit.ops");
    if (m->ops.count == 0 || m->outputs.count == 0) FAIL(E8_ERR_FORMAT, "model.empty");
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        uint32_t at = (uint32_t)(flat_element_table(m->tensors, i) - b.bytes);
        if (!flat_verify_table(b, at, Tensor_fields, COUNT(Tensor_fields))) return fail(diag, E8_ERR_FORMAT, "tensor.table", E8_ABSENT, i);
    }
    for (uint32_t i = 0; i < m->ops.count; i++) {
        uint32_t at = (uint32_t)(flat_element_table(m->ops, i) - b.bytes);
        if (!flat_verify_table(b, at, Op_fields, COUNT(Op_fields))) return fail(diag, E8_ERR_FORMAT, "op.table", i, E8_ABSENT);
        uint32_t kind = flat_byte(b.bytes + at, Op_params_type, 0);
        if (kind == 0 || kind > E8_OP_COUNT || !OP_TYPES[kind]) return fail(diag, E8_ERR_UNSUPPORTED, "op.kind", i, E8_ABSENT);
        uint32_t params = (uint32_t)(flat_target(b.bytes + at, Op_params) - b.bytes);
        if (!flat_verify_table(b, params, PARAMS[kind].fields, PARAMS[kind].count))
            return fail(diag, E8_ERR_FORMAT, "op.params", i, E8_ABSENT);
    }
    return E8_OK;
}

/* Before calibration int8 activations are computed in float32: every place grows by the ratio of the widths. A model is
 * calibrated when no quantised activation waits for its scale; a mixture is refused. */
static e8_status find_calibration(struct model *m, e8_diag *diag)
{
    uint32_t waiting = 0, ready = 0;
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        const uint8_t *table = flat_element_table(m->tensors, i);
        struct flat_vector scales = flat_vector_at(table, Tensor_scale);
        if (flat_field_at(table, Tensor_data) || scales.count == 0) continue;
        if (flat_element_float(scales, 0) == 0.0f)
            waiting++;
        else
            ready++;
    }
    if (waiting && ready) FAIL(E8_ERR_FORMAT, "model.calibration");
    m->calibrated = waiting == 0;
    m->widen = waiting ? 4 : 1;
    if (m->activation_bytes > SIZE_CAP / 4) FAIL(E8_ERR_LIMIT, "limit.arena");
    m->activation_bytes *= m->widen;
    return E8_OK;
}

/* Decoded weights lie one after the other, each from a multiple of 64. Tensors may share coded bytes, and a walk through their segments
 * takes at most a step per decoded byte: the limit on the arena, which is looked at first, bounds all walks together. */
static e8_status place_decoded(struct model *m, const struct tensor *t, const e8_limits *limits, const char **rule)
{
    struct entropy e = {.data = t->coded, .bits = t->bits, .bytes = t->data.count};
    uint64_t end = size_add(m->decoded_bytes, size_align(e.bytes, 64));
    *rule = "limit.arena";
    if (end > limits->arena) return E8_ERR_LIMIT;
    *rule = "tensor.entropy";
    if (t->offset != m->decoded_bytes || !entropy_is_sound(&e)) return E8_ERR_FORMAT;
    m->decoded_bytes = end;
    m->scratch_shared = ENTROPY_SLOTS * sizeof(uint32_t);
    return E8_OK;
}

static e8_status verify_tensors(struct model *m, const e8_limits *limits, e8_diag *diag)
{
    struct tensor t;
    const char *rule;
    for (uint32_t i = 0; i < m->tensors.count; i++) {
        if (!tensor_is_sound(m, i, &rule)) return fail(diag, E8_ERR_FORMAT, rule, E8_ABSENT, i);
        tensor_decode(m, i, &t);
        if (t.coded.count && !E8_HAS_ENTROPY) return fail(diag, E8_ERR_UNSUPPORTED, "tensor.entropy", E8_ABSENT, i);
        e8_status status = t.coded.count ? place_decoded(m, &t, limits, &rule) : E8_OK;
        if (status != E8_OK) return fail(diag, status, rule, E8_ABSENT, i);
    }
    return E8_OK;
}

/* Constants that an operator reads plainly hold exactly their elements. */
static bool constant_is_plain(const struct op_type *type, uint32_t i, const struct tensor *t)
{
    bool packed = i < 32 && (type->packed >> i & 1u);
    return packed || !t->constant || (t->coded.count == 0 && t->data.count == t->bytes);
}

/* Bytes of a session's arena, less what its operators keep; may exceed what this machine can address. */
static uint64_t least_bytes(const struct model *m, uint32_t threads)
{
    uint64_t per_thread = size_align(m->scratch_thread, 64), shared = size_align(m->scratch_shared, 64);
    uint64_t kept = size_add(size_align(m->activation_bytes, 64), m->decoded_bytes);
    return size_add(kept, size_add(shared, size_mul(per_thread, threads)));
}

static e8_status verify_op(struct model *m, uint32_t index, const e8_limits *limits, e8_diag *diag)
{
    struct check c = {.op = model_op(m, index), .tensor = E8_ABSENT, .rule = ""};
    const struct op_type *type = model_op_type(c.op.kind);
    struct tensor t;
    uint64_t swap_bytes = 0;
    for (uint32_t i = 0; i < c.op.inputs.count; i++) {
        uint32_t tensor = flat_load32(c.op.inputs.bytes + 4 * (size_t)i);
        if (tensor != E8_ABSENT && tensor >= m->tensors.count) return fail(diag, E8_ERR_FORMAT, "op.inputs", index, tensor);
        if (!op_input(&c.op, i, &t)) continue;
        if (!constant_is_plain(type, i, &t)) return fail(diag, E8_ERR_FORMAT, "tensor.data", index, tensor);
        if (t.constant) swap_bytes = size_add(swap_bytes, size_align(t.data.count, 64));
    }
    for (uint32_t i = 0; i < c.op.outputs.count; i++) {
        uint32_t tensor = flat_load32(c.op.outputs.bytes + 4 * (size_t)i);
        if (tensor >= m->tensors.count) return fail(diag, E8_ERR_FORMAT, "op.outputs", index, tensor);
        op_output(&c.op, i, &t);
        if (t.constant) return fail(diag, E8_ERR_FORMAT, "op.outputs", index, tensor);
    }
    if (!form_is_built(&c.op, &c.tensor)) return fail(diag, E8_ERR_UNSUPPORTED, "op.form", index, c.tensor);
    c.tensor = E8_ABSENT;
    e8_status status = type->check(&c);
    if (status != E8_OK) return fail(diag, status, c.rule, index, c.tensor);
    m->scratch_shared = size_max(m->scratch_shared, size_add(c.scratch_shared, model_swap_bytes(swap_bytes)));
    m->scratch_thread = size_max(m->scratch_thread, c.scratch_thread);
    m->kept = size_add(m->kept, size_align(c.kept, 64));
    m->macs = size_add(m->macs, c.macs);
    if (m->macs > limits->macs) return fail(diag, E8_ERR_LIMIT, "limit.macs", index, E8_ABSENT);
    bool addressable = least_bytes(m, 1) <= SIZE_MAX / 2;
    if (m->scratch_shared > limits->arena || m->scratch_thread > limits->arena || !addressable)
        return fail(diag, E8_ERR_LIMIT, "limit.arena", index, E8_ABSENT);
    return E8_OK;
}

/* Bytes that a session takes beyond the least, to keep what operators derive. */
static uint64_t kept_bytes(const struct model *m)
{
    return size_add(model_places_bytes(m), m->kept);
}

e8_status e8_model_open(e8_model *model, const void *file, size_t size, const e8_limits *limits, e8_diag *diag)
{
    e8_limits usual = e8_default_limits();
    struct model m = {.file = file, .file_bytes = size, .widen = 1};
    uint32_t op = E8_ABSENT, tensor = E8_ABSENT;
    const char *rule = "";
    if (!model) FAIL(E8_ERR_ARGUMENT, "argument.model");
    if (!file || ((uintptr_t)file & 63u)) FAIL(E8_ERR_ARGUMENT, "argument.file");
    if (size > INT32_MAX) FAIL(E8_ERR_LIMIT, "limit.file");
    if (!limits) limits = &usual;
    TRY(verify_header(file, size, diag));
    TRY(verify_structure(&m, limits, diag));
    TRY(find_calibration(&m, diag));
    TRY(verify_tensors(&m, limits, diag));
    if (size_add(m.activation_bytes, m.decoded_bytes) > limits->arena) FAIL(E8_ERR_LIMIT, "limit.arena");
    for (uint32_t i = 0; i < m.ops.count; i++) TRY(verify_op(&m, i, limits, diag));
    /* Where there is no room for it, sessions keep nothing: the results are the same. */
    if (kept_bytes(&m) > limits->arena || size_add(least_bytes(&m, 1), kept_bytes(&m)) > SIZE_MAX / 2) m.kept = 0;
    if (!plan_is_sound(&m, &rule, &op, &tensor)) return fail(diag, E8_ERR_FORMAT, rule, op, tensor);
    memset(model, 0, sizeof *model);
    memcpy(model, &m, sizeof m);
    return E8_OK;
}

e8_limits e8_default_limits(void)
{
    return (e8_limits){.macs = 1000000000000u, .arena = (uint64_t)4 << 30, .ops = 65536, .tensors = 262144};
}

static struct flat_vector io_list(const struct model *m, e8_io io)
{
    return io == E8_INPUT ? m->inputs : m->outputs;
}

uint32_t e8_model_count(const e8_model *model, e8_io io)
{
    return io_list(model_of(model), io).count;
}

uint32_t e8_model_tensors(const e8_model *model)
{
    return model_of(model)->tensors.count;
}

uint32_t e8_model_ops(const e8_model *model)
{
    return model_of(model)->ops.count;
}

uint32_t e8_model_io_tensor(const e8_model *model, e8_io io, uint32_t index)
{
    struct flat_vector list = io_list(model_of(model), io);
    return index < list.count ? flat_load32(list.bytes + 4 * (size_t)index) : E8_ABSENT;
}

e8_status e8_model_io(const e8_model *model, e8_io io, uint32_t index, e8_tensor *tensor)
{
    return e8_model_tensor(model, e8_model_io_tensor(model, io, index), tensor);
}

e8_status e8_model_tensor(const e8_model *model, uint32_t index, e8_tensor *tensor)
{
    const struct model *m = model_of(model);
    struct tensor t;
    if (index >= m->tensors.count) return E8_ERR_ARGUMENT;
    tensor_decode(m, index, &t);
    *tensor = (e8_tensor){
        .name = flat_string(flat_element_table(m->tensors, index), Tensor_name),
        .rank = (int32_t)t.rank,
        .type = (int32_t)t.type,
        .scale = t.scale,
        .zero_point = t.zero_point,
        .bytes = (size_t)(t.constant ? t.data.count : t.bytes),
        .constant = t.constant,
        .offset = (size_t)t.offset,
        .first = t.first,
        .last = t.last,
        .stored = t.coded.count ? t.coded.count : t.data.count,
    };
    memcpy(tensor->dims, t.dims, sizeof t.dims);
    return E8_OK;
}

e8_status e8_model_op(const e8_model *model, uint32_t index, e8_op *op)
{
    const struct model *m = model_of(model);
    if (index >= m->ops.count) return E8_ERR_ARGUMENT;
    struct check c = {.op = model_op(m, index), .tensor = E8_ABSENT, .rule = ""};
    (void)model_op_type(c.op.kind)->check(&c); /* for the MACs; it passed when the model was opened */
    *op = (e8_op){
        .name = flat_string(flat_element_table(m->ops, index), Op_name),
        .kind = OP_NAMES[c.op.kind],
        .inputs = c.op.inputs.count,
        .outputs = c.op.outputs.count,
        .macs = c.macs,
    };
    return E8_OK;
}

uint32_t e8_model_op_tensor(const e8_model *model, uint32_t index, e8_io io, uint32_t i)
{
    const struct model *m = model_of(model);
    if (index >= m->ops.count) return E8_ABSENT;
    struct op op = model_op(m, index);
    struct flat_vector list = io == E8_INPUT ? op.inputs : op.outputs;
    return i < list.count ? flat_load32(list.bytes + 4 * (size_t)i) : E8_ABSENT;
}

int32_t e8_model_find(const e8_model *model, e8_io io, const char *name)
{
    const struct model *m = model_of(model);
    struct flat_vector list = io_list(m, io);
    for (uint32_t i = 0; i < list.count; i++) {
        const char *other = flat_string(flat_element_table(m->tensors, flat_load32(list.bytes + 4 * (size_t)i)), Tensor_name);
        size_t k = 0;
        while (name[k] != 0 && name[k] == other[k]) k++;
        if (name[k] == other[k]) return (int32_t)i;
    }
    return -1;
}

int e8_model_calibrated(const e8_model *model)
{
    return (int)model_of(model)->calibrated;
}

const char *e8_model_producer(const e8_model *model)
{
    return flat_string(model_of(model)->table, Model_producer);
}

const char *e8_model_metadata(const e8_model *model)
{
    return flat_string(model_of(model)->table, Model_metadata);
}

int e8_model_dynamic_batch(const e8_model *model)
{
    return flat_byte(model_of(model)->table, Model_dynamic_batch, 0) != 0;
}

uint32_t e8_model_crc(const e8_model *model)
{
    return flat_load32(model_of(model)->file + HEADER_CRC);
}

uint32_t e8_crc32c(const uint8_t *bytes, size_t size)
{
    return crc32c(bytes, size);
}

uint64_t e8_model_macs(const e8_model *model)
{
    return model_of(model)->macs;
}

size_t e8_model_activation_bytes(const e8_model *model)
{
    return (size_t)model_of(model)->activation_bytes;
}

size_t e8_model_decoded_bytes(const e8_model *model)
{
    return (size_t)model_of(model)->decoded_bytes;
}

static size_t addressable_bytes(uint64_t total)
{
    return total > SIZE_MAX / 2 ? SIZE_MAX : (size_t)total;
}

size_t e8_model_arena(const e8_model *model, uint32_t threads)
{
    const struct model *m = model_of(model);
    return addressable_bytes(size_add(least_bytes(m, threads ? threads : 1), kept_bytes(m)));
}

size_t e8_model_arena_least(const e8_model *model, uint32_t threads)
{
    return addressable_bytes(least_bytes(model_of(model), threads ? threads : 1));
}
