/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops of unary_map.h. This file is compiled once for the base architecture and once per instruction set whose wider vectors
 * pay: the including file says which by E8_MAP_TARGET. The operations are the same, so the results are. */
#include "math.h"
#include "schema_generated.h"

/* low > x ? low : x and so on: NaN stays NaN. */
static inline float clip(float x, float low, float high)
{
    x = low > x ? low : x;
    return high < x ? high : x;
}

/* log(1 + e^x) without overflow. */
static inline float softplus(float x)
{
    float positive = x < 0.0f ? 0.0f : x;
    return positive + log1p_unit(exp_float(-abs_float(x)));
}

/* x * tanh(softplus(x)). With e = exp(-|x|): tanh = (1 + 2e) / (1 + 2e + 2e^2) for x >= 0, e(e + 2) / (e(e + 2) + 2) below. */
static inline float mish(float x)
{
    float e = exp_float(-abs_float(x));
    float up = 1.0f + 2.0f * e, down = e * (e + 2.0f);
    float top = x < 0.0f ? down : up;
    float bottom = x < 0.0f ? down + 2.0f : up + 2.0f * (e * e);
    return x * (top / bottom);
}

static inline float sign(float x)
{
    return x > 0.0f ? 1.0f : (x < 0.0f ? -1.0f : x);
}

/* The argument of GELU_TANH's sigmoid: 2 sqrt(2/pi) (x + 0.044715 x^3); 0.5 (1 + tanh u) = sigmoid(2 u). */
static inline float gelu_argument(float x)
{
    return 1.5957691216f * (x + 0.044715f * ((x * x) * x));
}

/* Elements of a step. Where that is a vector, the loop over them becomes one without code for a rest. */
#ifndef E8_MAP_LANES
#define E8_MAP_LANES 1
#endif

/* `count` is a multiple of E8_MAP_LANES. */
#define MAP(kind, expression)                                                                                                              \
    static E8_MAP_TARGET void map_##kind(float a, float b, const float *in, float *out, size_t count)                                      \
    {                                                                                                                                      \
        (void)a, (void)b;                                                                                                                  \
        MAP_STEPS                                                                                                                          \
        for (size_t i = 0; i < count; i += E8_MAP_LANES) {                                                                                 \
            MAP_LANES                                                                                                                      \
            for (size_t k = i; k < i + E8_MAP_LANES; k++) {                                                                                \
                float x = in[k];                                                                                                           \
                out[k] = (expression);                                                                                                     \
            }                                                                                                                              \
        }                                                                                                                                  \
    }
#if E8_MAP_LANES > 1
#define MAP_STEPS
#define MAP_LANES E8_INDEPENDENT
#else
#define MAP_STEPS E8_INDEPENDENT
#define MAP_LANES
#endif
MAP(IDENTITY, x)
MAP(CLIP, clip(x, a, b))
MAP(LEAKY_RELU, x < 0.0f ? a * x : x)
MAP(ELU, x < 0.0f ? a * expm1_negative(x) : x)
MAP(SIGMOID, sigmoid_float(x))
MAP(HARD_SIGMOID, clip(a *x + b, 0.0f, 1.0f))
MAP(HARD_SWISH, x *clip(x * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f))
MAP(TANH, tanh_float(x))
MAP(GELU, (0.5f * x) * (1.0f + erf_float(x * 0.70710678f)))
MAP(GELU_TANH, sigmoid_float(gelu_argument(x)) * x)
MAP(SILU, sigmoid_float(x) * x)
MAP(ERF, erf_float(x))
MAP(EXP, exp_float(x))
MAP(LOG, log_float(x))
MAP(SQRT, sqrt_float(x))
MAP(ABS, abs_float(x))
MAP(NEG, -x)
MAP(POW, e8_pow(x, a))
MAP(RECIPROCAL, 1.0f / x)
MAP(FLOOR, floor_float(x))
MAP(CEIL, ceil_float(x))
MAP(ROUND, round_float(x))
MAP(SIN, e8_sin(x))
MAP(COS, e8_cos(x))
MAP(SOFTPLUS, softplus(x))
MAP(SELU, b *(x < 0.0f ? a * expm1_negative(x) : x))
MAP(CELU, x < 0.0f ? a * expm1_negative(x / a) : x)
MAP(MISH, mish(x))
MAP(SOFTSIGN, x / (1.0f + abs_float(x)))
MAP(SIGN, sign(x))
MAP(THRESHOLDED_RELU, x > a ? x : 0.0f)

typedef void (*map_function)(float a, float b, const float *in, float *out, size_t count);

static const map_function MAPS[UnaryKind_COUNT] = {
#define ROW(kind) [UnaryKind_##kind] = map_##kind
    ROW(IDENTITY),
    ROW(CLIP),
    ROW(LEAKY_RELU),
    ROW(ELU),
    ROW(SIGMOID),
    ROW(HARD_SIGMOID),
    ROW(HARD_SWISH),
    ROW(TANH),
    ROW(GELU),
    ROW(GELU_TANH),
    ROW(SILU),
    ROW(ERF),
    ROW(EXP),
    ROW(LOG),
    ROW(SQRT),
    ROW(ABS),
    ROW(NEG),
    ROW(POW),
    ROW(RECIPROCAL),
    ROW(FLOOR),
    ROW(CEIL),
    ROW(ROUND),
    ROW(SIN),
    ROW(COS),
    ROW(SOFTPLUS),
    ROW(SELU),
    ROW(CELU),
    ROW(MISH),
    ROW(SOFTSIGN),
    ROW(SIGN),
    ROW(THRESHOLDED_RELU),
#undef ROW
    [UnaryKind_NOT] = map_IDENTITY,
};
