/* SPDX-License-Identifier: Apache-2.0
 *
 * The int8 form of Binary. With A = a - zero_a, B = b - zero_b (integers), float32 arithmetic in the order written, and
 * requantise(v) = clamp(rne(v) + zero_y, low, high), NaN giving low:
 *   low   = clamp(rne(act_min / s_y) + zero_y, -128, 127), high alike from act_max
 *   ADD   clamp(((A * m0 + B * m1 + 2^(shift-1)) >> shift) + zero_y, low, high), the shift rounding down; with r0 = s_a / s_y,
 *         r1 = s_b / s_y and e the exponent of the larger (2^e <= r < 2^(e+1)): shift = clamp(14 - e, 1, 30),
 *         m = min(rne(r * 2^shift), 32767)
 *   SUB   as ADD with -m1
 *   MUL   requantise(float32(A * B) * ((s_a * s_b) / s_y))
 *   DIV   requantise((float32(A) / float32(B)) * (s_a / (s_b * s_y)))
 *   MIN   requantise(min(float32(A) * (s_a / s_y), float32(B) * (s_b / s_y))), MAX alike
 *   PRELU A < 0 ? requantise(float32(A * B) * ((s_a * s_b) / s_y)) : requantise(float32(A) * (s_a / s_y)) */
#include "binary.h"

bool binary_int8_has(uint32_t kind)
{
    return kind <= BinaryKind_PRELU && kind != BinaryKind_POW;
}

/* The kernels take two rows of codes; an operand that does not step is repeated in a block. */
enum { BLOCK = 256 };

static void pairs(const struct binary *j, const int8_t *a, const int8_t *b, int8_t *y, size_t count)
{
    if (j->kind == BinaryKind_MUL)
        j->kernels->mul_s8(a, b, y, count, &j->mul);
    else
        j->kernels->add_s8(a, b, y, count, &j->add);
}

static void kernel_row(const struct binary *j, const struct strided_cursor *c)
{
    const int8_t *a = (const int8_t *)j->a + c->offset[0], *b = (const int8_t *)j->b + c->offset[1];
    int8_t *y = (int8_t *)j->y + c->position, repeated[2][BLOCK];
    if (j->step[0] == 1 && j->step[1] == 1) {
        pairs(j, a, b, y, c->count);
        return;
    }
    memset(repeated[0], *a, BLOCK);
    memset(repeated[1], *b, BLOCK);
    for (size_t i = 0; i < c->count; i += BLOCK) {
        size_t count = c->count - i < BLOCK ? c->count - i : BLOCK;
        pairs(j, j->step[0] ? a + i : repeated[0], j->step[1] ? b + i : repeated[1], y + i, count);
    }
}

static float value_of(const struct binary *j, int32_t a, int32_t b)
{
    float first, second;
    switch (j->kind) {
    case BinaryKind_DIV: return ((float)a / (float)b) * j->multiplier0;
    case BinaryKind_PRELU: return a < 0 ? (float)(a * b) * j->multiplier1 : (float)a * j->multiplier0;
    default:
        first = (float)a * j->multiplier0;
        second = (float)b * j->multiplier1;
        return j->kind == BinaryKind_MIN ? min_float(first, second) : max_float(first, second);
    }
}

static void scalar_row(const struct binary *j, const struct strided_cursor *c)
{
    const int8_t *a = (const int8_t *)j->a + c->offset[0], *b = (const int8_t *)j->b + c->offset[1];
    int8_t *y = (int8_t *)j->y + c->position;
    for (size_t i = 0; i < c->count; i++) {
        int32_t first = a[(ptrdiff_t)i * j->step[0]] - j->mul.zero0, second = b[(ptrdiff_t)i * j->step[1]] - j->mul.zero1;
        y[i] = (int8_t)requantise(value_of(j, first, second), j->mul.zero, j->mul.low, j->mul.high);
    }
}

static int32_t fixed_point(float ratio, int32_t shift)
{
    return min_int(rne_int32(ratio * power_of_two((uint32_t)shift)), 32767);
}

static void prepare_add(struct e8_add_s8 *p, float ratio0, float ratio1, bool subtract)
{
    int32_t exponent = (int32_t)(bits_of_float(max_float(ratio0, ratio1)) >> 23) - 127;
    p->shift = min_int(max_int(14 - exponent, 1), 30);
    p->multiplier0 = fixed_point(ratio0, p->shift);
    p->multiplier1 = fixed_point(ratio1, p->shift);
    if (subtract) p->multiplier1 = -p->multiplier1;
}

void binary_int8_prepare(struct binary *j, const struct tensor *a, const struct tensor *b, const struct tensor *y)
{
    int32_t low = requantise(j->act_min / y->scale, y->zero_point, -128, 127);
    int32_t high = requantise(j->act_max / y->scale, y->zero_point, -128, 127);
    float ratio0 = a->scale / y->scale, ratio1 = b->scale / y->scale, product = (a->scale * b->scale) / y->scale;
    bool kernel = j->kind == BinaryKind_ADD || j->kind == BinaryKind_SUB || j->kind == BinaryKind_MUL;
    j->row = kernel ? kernel_row : scalar_row;
    j->mul = (struct e8_mul_s8){.zero0 = a->zero_point, .zero1 = b->zero_point, .zero = y->zero_point, .low = low, .high = high, .multiplier = product};
    j->add = (struct e8_add_s8){.zero0 = a->zero_point, .zero1 = b->zero_point, .zero = y->zero_point, .low = low, .high = high};
    prepare_add(&j->add, ratio0, ratio1, j->kind == BinaryKind_SUB);
    j->multiplier0 = j->kind == BinaryKind_DIV ? a->scale / (b->scale * y->scale) : ratio0;
    j->multiplier1 = j->kind == BinaryKind_PRELU ? product : ratio1;
}
