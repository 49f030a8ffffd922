/* SPDX-License-Identifier: Apache-2.0
 *
 * Binary: y = clamp(f(a, b), act_min, act_max) with NumPy broadcasting; binary_int8.c has the int8 form. The int16 form is Dequantize
 * of both, the float32 form, and Quantize.
 *
 * Float32. ADD SUB MUL DIV: one IEEE operation. POW: e8_pow. MIN, MAX: NaN if either is. PRELU: a < 0 ? a * b : a. MOD: e8_fmod.
 * Comparisons give BOOL.
 *
 * Plain integers. Computed modulo 2^64 and stored modulo the type's width. DIV truncates and gives 0 for a divisor of 0. MOD has
 * the sign of the divisor, or with `fmod` of the dividend, and gives 0 for a divisor of 0. POW with a negative exponent is
 * trunc(1 / a^-b), 0 for a = 0. AND OR XOR take BOOL. act_min and act_max do not apply. */
#include "binary.h"

#include "../real.h"

static bool is_comparison(uint32_t kind)
{
    return kind >= BinaryKind_EQUAL && kind <= BinaryKind_GREATER_EQUAL;
}

static bool is_logic(uint32_t kind)
{
    return kind == BinaryKind_AND || kind == BinaryKind_OR || kind == BinaryKind_XOR;
}

static e8_status check_type(struct check *c, const struct tensor *a, const struct tensor *b, const struct tensor *y, uint32_t kind)
{
    float low = flat_float(c->op.params, Binary_act_min, -E8_INFINITY), high = flat_float(c->op.params, Binary_act_max, E8_INFINITY);
    bool quantised = tensor_is_quantised(a);
    REQUIRE(c, "binary.activation", low <= high);
    REQUIRE(c, "binary.type", a->type == b->type && tensor_is_quantised(b) == quantised);
    if (is_comparison(kind) || is_logic(kind)) {
        REQUIRE(c, "binary.type", y->type == Type_BOOL && (!is_logic(kind) || a->type == Type_BOOL));
        SUPPORTED(c, "binary.quantised", !quantised);
        return E8_OK;
    }
    REQUIRE(c, "binary.type", y->type == a->type && tensor_is_quantised(y) == quantised);
    if (quantised) {
        SUPPORTED(c, "binary.quantised", a->type == Type_INT16 || binary_int8_has(kind));
        REQUIRE(c, "binary.scale", a->scales.count == 1 && b->scales.count == 1);
    } else {
        SUPPORTED(c, "binary.type", a->type != Type_BOOL);
    }
    return E8_OK;
}

static e8_status check(struct check *c)
{
    struct tensor a, b, y;
    uint32_t kind = flat_byte(c->op.params, Binary_kind, 0);
    TRY(check_counts(c, 2, 2, 1));
    op_input(&c->op, 0, &a);
    op_input(&c->op, 1, &b);
    op_output(&c->op, 0, &y);
    SUPPORTED(c, "binary.kind", kind < BinaryKind_COUNT);
    TRY(check_broadcast(c, &a, &y));
    TRY(check_broadcast(c, &b, &y));
    TRY(check_type(c, &a, &b, &y, kind));
    c->macs = y.elements;
    return E8_OK;
}

static inline float clamp(float x, float low, float high)
{
    x = low > x ? low : x;
    return high < x ? high : x;
}

/* One row for each of the ways in which the operands step: both, one of them, or any. */
#define LOOP(first, second, expression)                                                                                                    \
    E8_INDEPENDENT                                                                                                                         \
    for (size_t i = 0; i < count; i++) {                                                                                                   \
        float a = (first), b = (second);                                                                                                   \
        out[i] = (expression);                                                                                                             \
    }
#define ROW(kind, type, expression)                                                                                                        \
    static void row_##kind(const struct binary *j, const struct strided_cursor *c)                                                         \
    {                                                                                                                                      \
        const float *in0 = (const float *)j->a + c->offset[0], *in1 = (const float *)j->b + c->offset[1];                                  \
        ptrdiff_t step0 = j->step[0], step1 = j->step[1];                                                                                  \
        type *out = (type *)j->y + c->position;                                                                                            \
        size_t count = c->count;                                                                                                           \
        float low = j->act_min, high = j->act_max;                                                                                         \
        (void)low, (void)high;                                                                                                             \
        if (step0 == 1 && step1 == 1) {                                                                                                    \
            LOOP(in0[i], in1[i], expression)                                                                                               \
        } else if (step0 == 1 && step1 == 0) {                                                                                             \
            float scalar = *in1;                                                                                                           \
            LOOP(in0[i], scalar, expression)                                                                                               \
        } else if (step0 == 0 && step1 == 1) {                                                                                             \
            float scalar = *in0;                                                                                                           \
            LOOP(scalar, in1[i], expression)                                                                                               \
        } else {                                                                                                                           \
            LOOP(in0[(ptrdiff_t)i * step0], in1[(ptrdiff_t)i * step1], expression)                                                         \
        }                                                                                                                                  \
    }
ROW(ADD, float, clamp(a + b, low, high))
ROW(SUB, float, clamp(a - b, low, high))
ROW(MUL, float, clamp((a) * (b), low, high))
ROW(DIV, float, clamp(a / b, low, high))
ROW(POW, float, clamp(e8_pow(a, b), low, high))
ROW(MIN, float, clamp(a < b || a != a ? a : b, low, high))
ROW(MAX, float, clamp(a > b || a != a ? a : b, low, high))
ROW(PRELU, float, clamp(a < 0.0f ? a * b : a, low, high))
ROW(MOD, float, clamp(e8_fmod(a, b), low, high))
ROW(EQUAL, uint8_t, a == b)
ROW(LESS, uint8_t, a < b)
ROW(LESS_EQUAL, uint8_t, a <= b)
ROW(GREATER, uint8_t, a > b)
ROW(GREATER_EQUAL, uint8_t, a >= b)

static const binary_row FLOAT_ROWS[BinaryKind_COUNT] = {
    [BinaryKind_ADD] = row_ADD,         [BinaryKind_SUB] = row_SUB,
    [BinaryKind_MUL] = row_MUL,         [BinaryKind_DIV] = row_DIV,
    [BinaryKind_POW] = row_POW,         [BinaryKind_MIN] = row_MIN,
    [BinaryKind_MAX] = row_MAX,         [BinaryKind_PRELU] = row_PRELU,
    [BinaryKind_EQUAL] = row_EQUAL,     [BinaryKind_LESS] = row_LESS,
    [BinaryKind_MOD] = row_MOD,         [BinaryKind_LESS_EQUAL] = row_LESS_EQUAL,
    [BinaryKind_GREATER] = row_GREATER, [BinaryKind_GREATER_EQUAL] = row_GREATER_EQUAL,
};

/* The next `count` values of an operand, which steps by one or repeats, as real numbers. */
static void take_int16(const struct binary *j, int operand, size_t at, size_t count, float *to)
{
    const int16_t *codes = (const int16_t *)(operand == 0 ? j->a : j->b) + at;
    bool repeats = j->step[operand] == 0;
    j->kernels->dequantise_s16(codes, to, repeats ? 1 : count, j->coded[operand]->scale);
    for (size_t i = 1; repeats && i < count; i++) to[i] = to[0];
}

static void int16_row(const struct binary *j, const struct strided_cursor *c)
{
    float a[REAL_BLOCK], b[REAL_BLOCK];
    struct binary local = {.a = a, .b = b, .y = a, .step = {1, 1}, .act_min = j->act_min, .act_max = j->act_max};
    for (size_t i = 0; i < c->count; i += REAL_BLOCK) {
        struct strided_cursor all = {.count = c->count - i < REAL_BLOCK ? c->count - i : REAL_BLOCK};
        for (int o = 0; o < 2; o++) {
            ptrdiff_t at = c->offset[o] + (ptrdiff_t)i * j->step[o];
            take_int16(j, o, (size_t)at, all.count, o == 0 ? a : b);
        }
        FLOAT_ROWS[j->kind](&local, &all);
        real_to_codes(j->kernels, j->coded[2], c->position + i, a, all.count);
    }
}

static int64_t wrapped_power(int64_t a, int64_t b)
{
    uint64_t result = 1, base = (uint64_t)a;
    if (b < 0) return a == 1 ? 1 : (a == -1 ? (b & 1 ? -1 : 1) : 0);
    for (uint64_t left = (uint64_t)b; left != 0; left >>= 1) {
        if (left & 1u) result *= base;
        base *= base;
    }
    return (int64_t)result;
}

static int64_t remainder_of(int64_t a, int64_t b, bool dividend_sign)
{
    if (b == 0 || b == -1) return 0;
    int64_t rest = a % b;
    return !dividend_sign && rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static int64_t integer_of(uint32_t kind, int64_t a, int64_t b, bool fmod)
{
    switch (kind) {
    case BinaryKind_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case BinaryKind_SUB: return (int64_t)((uint64_t)a - (uint64_t)b);
    case BinaryKind_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case BinaryKind_DIV: return b == 0 ? 0 : (b == -1 ? (int64_t)(0u - (uint64_t)a) : a / b);
    case BinaryKind_POW: return wrapped_power(a, b);
    case BinaryKind_MIN: return a < b ? a : b;
    case BinaryKind_MAX: return a > b ? a : b;
    case BinaryKind_PRELU: return a < 0 ? (int64_t)((uint64_t)a * (uint64_t)b) : a;
    case BinaryKind_EQUAL: return a == b;
    case BinaryKind_LESS: return a < b;
    case BinaryKind_LESS_EQUAL: return a <= b;
    case BinaryKind_GREATER: return a > b;
    case BinaryKind_GREATER_EQUAL: return a >= b;
    case BinaryKind_AND: return a & b;
    case BinaryKind_OR: return a | b;
    case BinaryKind_XOR: return a ^ b;
    default: return remainder_of(a, b, fmod);
    }
}

static void integer_row(const struct binary *j, const struct strided_cursor *c)
{
    for (size_t i = 0; i < c->count; i++) {
        int64_t a = load_integer(j->a, j->type, (size_t)(c->offset[0] + (ptrdiff_t)i * j->step[0]));
        int64_t b = load_integer(j->b, j->type, (size_t)(c->offset[1] + (ptrdiff_t)i * j->step[1]));
        store_integer(j->y, j->out_type, c->position + i, integer_of(j->kind, a, b, j->fmod));
    }
}

/* A short row that repeats, such as one value per channel of a picture, is laid out several times, so that rows become long. */
enum { PATTERN_BYTES = 1024, SHORT_ROW = 64 };

/* The operand that repeats along the outer of two axes while the other one and y are contiguous, or -1. */
static int repeating(const struct binary *j)
{
    const struct strided *s = j->space;
    if (s->rank != 2 || s->dims[1] >= SHORT_ROW || j->step[0] != 1 || j->step[1] != 1) return -1;
    for (int o = 0; o < 2; o++)
        if (s->stride[o][0] == 0 && s->stride[1 - o][0] == (ptrdiff_t)s->dims[1]) return o;
    return -1;
}

/* Elements [begin, end) with operand `o` repeated in a buffer. Each stretch starts at the same place of the pattern, as the
 * buffer holds whole periods. */
static void patterned(const struct binary *j, int o, size_t begin, size_t end)
{
    _Alignas(8) uint8_t pattern[PATTERN_BYTES];
    size_t width = type_bytes(j->type), period = j->space->dims[1], stretch = PATTERN_BYTES / width / period * period;
    const uint8_t *source = o == 0 ? j->a : j->b;
    struct binary local = *j;
    struct strided_cursor c = {.position = begin};
    for (size_t i = 0; i < stretch; i++) memcpy(pattern + i * width, source + (begin + i) % period * width, width);
    *(o == 0 ? &local.a : &local.b) = pattern;
    while (c.position < end) {
        c.count = end - c.position < stretch ? end - c.position : stretch;
        c.offset[1 - o] = (ptrdiff_t)c.position;
        j->row(&local, &c);
        c.position += c.count;
    }
}

static void task(void *argument, uint32_t index)
{
    const struct binary *j = argument;
    struct strided_cursor c;
    size_t begin, end;
    int repeated = repeating(j);
    run_share(j->total, 64, index, j->tasks, &begin, &end);
    if (repeated >= 0 && begin < end) {
        patterned(j, repeated, begin, end);
        return;
    }
    for (strided_begin(&c, j->space, begin, end); c.count; strided_next(&c)) j->row(j, &c);
}

static e8_status run(const struct run *r)
{
    struct tensor a, b, y;
    struct strided space;
    struct binary j = {
        .kernels = r->kernels,
        .space = &space,
        .kind = flat_byte(r->op.params, Binary_kind, 0),
        .fmod = flat_byte(r->op.params, Binary_fmod, 0) != 0,
        .act_min = flat_float(r->op.params, Binary_act_min, -E8_INFINITY),
        .act_max = flat_float(r->op.params, Binary_act_max, E8_INFINITY),
    };
    run_input(r, 0, &a);
    run_input(r, 1, &b);
    run_output(r, 0, &y);
    j.a = a.address;
    j.b = b.address;
    j.y = y.address;
    j.type = a.type;
    j.out_type = y.type;
    strided_space(&space, &y, 2);
    strided_broadcast(&space, 0, &a);
    strided_broadcast(&space, 1, &b);
    strided_collapse(&space);
    for (uint32_t i = 0; i < 2; i++) j.step[i] = space.stride[i][space.rank - 1];
    if (E8_HAS(Binary, E8_FORM_INT16) && tensor_is_quantised(&a) && a.type == Type_INT16) {
        j.row = int16_row;
        j.coded[0] = &a, j.coded[1] = &b, j.coded[2] = &y;
    } else if (E8_HAS(Binary, E8_FORM_INT8) && tensor_is_quantised(&a))
        binary_int8_prepare(&j, &a, &b, &y);
    else
        j.row = E8_HAS(Binary, E8_FORM_FLOAT) && tensor_is_float(&a) ? FLOAT_ROWS[j.kind] : integer_row;
    j.total = (size_t)y.elements;
    j.tasks = run_tasks(r, y.elements, j.total / 64);
    run_parallel(r, task, &j, j.tasks);
    return E8_OK;
}

const struct op_type e8_op_binary = {.check = check, .run = run, .in_place = 3};
