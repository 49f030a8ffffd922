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

/* Rows of codes that step both. */
#define PAIRS(name, expression)                                                                                                            \
    static void name(const struct binary *j, const int8_t *in0, const int8_t *in1, int8_t *out, size_t count)                              \
    {                                                                                                                                      \
        int32_t zero0 = j->mul.zero0, zero1 = j->mul.zero1, zero = j->mul.zero, low = j->mul.low, high = j->mul.high;                      \
        float m0 = j->multiplier0, m1 = j->multiplier1;                                                                                    \
        (void)m1;                                                                                                                          \
        E8_INDEPENDENT                                                                                                                     \
        for (size_t i = 0; i < count; i++) {                                                                                               \
            int32_t a = in0[i] - zero0, b = in1[i] - zero1;                                                                                \
            out[i] = (int8_t)requantise((expression), zero, low, high);                                                                    \
        }                                                                                                                                  \
    }
PAIRS(pairs_div, ((float)a / (float)b) * m0)
PAIRS(pairs_min, min_float((float)a *m0, (float)b *m1))
PAIRS(pairs_max, max_float((float)a *m0, (float)b *m1))
PAIRS(pairs_prelu, a < 0 ? (float)(a * b) * m1 : (float)a * m0)

static void pairs(const struct binary *j, const int8_t *a, const int8_t *b, int8_t *y, size_t count)
{
    switch (j->kind) {
    case BinaryKind_MUL: j->kernels->mul_s8(a, b, y, count, &j->mul); break;
    case BinaryKind_DIV: pairs_div(j, a, b, y, count); break;
    case BinaryKind_MIN: pairs_min(j, a, b, y, count); break;
    case BinaryKind_MAX: pairs_max(j, a, b, y, count); break;
    case BinaryKind_PRELU: pairs_prelu(j, a, b, y, count); break;
    default: j->kernels->add_s8(a, b, y, count, &j->add); break;
    }
}

/* An operand that does not step is repeated in a block. */
enum { BLOCK = 256 };

static void row(const struct binary *j, const struct strided_cursor *c)
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
    j->row = row;
    j->mul = (struct e8_mul_s8){
        .zero0 = a->zero_point, .zero1 = b->zero_point, .zero = y->zero_point, .low = low, .high = high, .multiplier = product};
    j->add = (struct e8_add_s8){.zero0 = a->zero_point, .zero1 = b->zero_point, .zero = y->zero_point, .low = low, .high = high};
    prepare_add(&j->add, ratio0, ratio1, j->kind == BinaryKind_SUB);
    j->multiplier0 = j->kind == BinaryKind_DIV ? a->scale / (b->scale * y->scale) : ratio0;
    j->multiplier1 = j->kind == BinaryKind_PRELU ? product : ratio1;
}
