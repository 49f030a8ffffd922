/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementary functions from plain IEEE operations, each rounded on its own, so that they give the same bits on every machine
 * (the C library's do not). The error is a few units in the last place. The inline ones have no branches, so loops over them
 * vectorise. converter/elementary.py has the same operations in the same order.
 *
 * The polynomials are minimax fits (weighted least squares, iterated to equal ripple, in 40-digit arithmetic). */
#ifndef E8_MATH_H
#define E8_MATH_H

#include "names.h"

#include "numeric.h"

/* Before a loop whose output is one of its inputs or apart from them all: element i depends on no other element. (clang has the
 * like, but warns about loops that do not vectorise.) */
#if defined(__GNUC__) && !defined(__clang__)
#define E8_INDEPENDENT _Pragma("GCC ivdep")
#else
#define E8_INDEPENDENT
#endif

static inline uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define E8_NAN float_of_bits(0x7FC00000u)
#define E8_INFINITY float_of_bits(0x7F800000u)

static inline float abs_float(float x)
{
    return float_of_bits(bits_of_float(x) & 0x7FFFFFFFu);
}

/* The magnitude of x with the sign of s. */
static inline float copy_sign(float x, float s)
{
    return float_of_bits((bits_of_float(x) & 0x7FFFFFFFu) | (bits_of_float(s) & 0x80000000u));
}

/* Nearest whole number, ties to even. Above 2^23 every float is whole. */
static inline float round_float(float x)
{
    float a = abs_float(x);
    float r = (a + 8388608.0f) - 8388608.0f;
    return a < 8388608.0f ? copy_sign(r, x) : x;
}

static inline float floor_float(float x)
{
    float r = round_float(x);
    return r > x ? r - 1.0f : r;
}

static inline float ceil_float(float x)
{
    float r = round_float(x);
    return r < x ? copy_sign(r + 1.0f, x) : r;
}

/* x = n * ln 2 + r with |r| <= ln(2) / 2: the integer n, and e^r - 1. ln 2 in two parts, the first short enough that n times it
 * is exact. */
static inline float exp_reduced(float x, uint32_t *n)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: the sum's low bits are the integer */
    float t = x * 0x1.715476p+0f + magic;
    float whole = t - magic;
    float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    float p = 0x1.6dbc4ep-10f;
    p = p * r + 0x1.124136p-7f;
    p = p * r + 0x1.555454p-5f;
    p = p * r + 0x1.555488p-3f;
    p = p * r + 0.5f;
    *n = bits_of_float(t) - bits_of_float(magic);
    return r + (r * r) * p;
}

/* 2^n for -126 <= n <= 127, n in two's complement. */
static inline float power_of_two(uint32_t n)
{
    return float_of_bits((n + 127u) << 23);
}

/* e^x. Scaling in two steps reaches infinity and the subnormal numbers; n + 256 keeps the shift unsigned. */
static inline float exp_float(float x)
{
    uint32_t n;
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float p = 1.0f + exp_reduced(x, &n);
    uint32_t half = ((n + 256u) >> 1) - 128u;
    return p * power_of_two(half) * power_of_two(n - half);
}

/* e^x - 1 for x <= 0, without cancellation near 0. */
static inline float expm1_negative(float x)
{
    uint32_t n;
    x = x < -60.0f ? -60.0f : x;
    x = x > 0.0f ? 0.0f : x;
    float p = exp_reduced(x, &n);
    float scale = power_of_two(n);
    return scale * p + (scale - 1.0f);
}

/* Natural logarithm: x = 2^k * m with m in [sqrt(1/2), sqrt(2)), log m = f - f^2/2 + f^3 Q(f) for f = m - 1. */
static inline float log_float(float x)
{
    float small = x < 0x1p-126f ? 1.0f : 0.0f;
    uint32_t u = bits_of_float(x < 0x1p-126f ? x * 8388608.0f : x) + (0x3F800000u - 0x3F3504F3u);
    float k = (float)(int32_t)(u >> 23) - 127.0f - 23.0f * small;
    float f = float_of_bits((u & 0x7FFFFFu) + 0x3F3504F3u) - 1.0f;
    float z = f * f;
    float q = 0x1.146318p-4f;
    q = q * f - 0x1.de4fa2p-4f;
    q = q * f + 0x1.e6f606p-4f;
    q = q * f - 0x1.fc1f6cp-4f;
    q = q * f + 0x1.2336e2p-3f;
    q = q * f - 0x1.555c5ap-3f;
    q = q * f + 0x1.99a4bcp-3f;
    q = q * f - 0x1.000006p-2f;
    q = q * f + 0x1.555548p-2f;
    float y = (f * z) * q + k * -2.12194440e-4f;
    y = (f + (y - 0.5f * z)) + k * 0.693359375f;
    y = x == 0.0f ? -E8_INFINITY : y;
    y = x < 0.0f ? E8_NAN : y;
    return x - x == 0.0f ? y : (x > 0.0f ? x : E8_NAN);
}

/* log(1 + x) for x in [0, 1]; the second term is what 1 + x lost. */
static inline float log1p_unit(float x)
{
    float u = 1.0f + x;
    return log_float(u) + (x - (u - 1.0f)) / u;
}

/* 1 / (1 + e^-x), with full relative precision on both sides. */
static inline float sigmoid_float(float x)
{
    float e = exp_float(-abs_float(x));
    float d = 1.0f / (1.0f + e);
    return x < 0.0f ? e * d : d;
}

static inline float tanh_float(float x)
{
    float a = abs_float(x), z = a * a;
    float p = -0x1.825858p-8f;
    p = p * z + 0x1.54b8a0p-6f;
    p = p * z - 0x1.b898dep-5f;
    p = p * z + 0x1.1109aep-3f;
    p = p * z - 0x1.55553ep-2f;
    float near = a + (a * z) * p;
    float far = 1.0f - 2.0f / (exp_float(a + a) + 1.0f);
    return copy_sign(a < 0.6f ? near : far, x);
}

/* Near 0 an odd polynomial; beyond 0.9, 1 - e^P(|x|), P being the logarithm of erfc. */
static inline float erf_float(float x)
{
    float a = abs_float(x), z = a * a;
    float p = 0x1.6510c4p-14f;
    p = p * z - 0x1.aca394p-11f;
    p = p * z + 0x1.550a44p-8f;
    p = p * z - 0x1.b81524p-6f;
    p = p * z + 0x1.ce2e54p-4f;
    p = p * z - 0x1.812744p-2f;
    p = p * z + 0x1.06eba8p-3f;
    float near = a + a * p;
    float b = a > 4.0f ? 4.0f : a;
    float q = -0x1.5a1940p-16f;
    q = q * b + 0x1.c1ed38p-12f;
    q = q * b - 0x1.0fa684p-8f;
    q = q * b + 0x1.9a7020p-6f;
    q = q * b - 0x1.bb1598p-4f;
    q = q * b - 0x1.445284p-1f;
    q = q * b - 0x1.2124d2p+0f;
    q = q * b + 0x1.5a0b34p-13f;
    float far = 1.0f - exp_float(q);
    return copy_sign(a < 0.9f ? near : far, x);
}

/* Correctly rounded, as IEEE 754 has it. Where the machine has no instruction: Newton's iteration in double, whose last step is
 * exact to half a unit of double; the root of a 24-bit number is never that close to the middle of two floats. */
#if !defined(E8_SQRT_IN_DOUBLE) &&                                                                                                         \
    (defined(__SSE2__) || defined(__aarch64__) || defined(__riscv_flen) || (defined(__ARM_FP) && (__ARM_FP & 4)))
static inline float sqrt_float(float x)
{
    return __builtin_sqrtf(x); /* one instruction with -fno-math-errno */
}
#else
static inline float sqrt_float(float x)
{
    double d = (double)x, r;
    uint64_t bits;
    if (!(x > 0.0f)) return x == 0.0f ? x : E8_NAN;
    if (x - x != 0.0f) return x;
    memcpy(&bits, &d, sizeof bits);
    bits = 0x5FE6EB50C7B537A9u - (bits >> 1);
    memcpy(&r, &bits, sizeof r);
    for (int i = 0; i < 4; i++) r = r * (1.5 - (0.5 * d) * r * r);
    double y = d * r;
    return (float)(0.5 * (y + d / y));
}
#endif

/* x to the power y, by the rules of C's pow; y = 2 is x * x. */
float e8_pow(float x, float y);

/* In radians, for every finite x. */
float e8_sin(float x);
float e8_cos(float x);

/* The remainder of x / y with the sign of x, exact, as C's fmod. */
float e8_fmod(float x, float y);

#endif
