/* SPDX-License-Identifier: Apache-2.0
 *
 * The arithmetic that every kernel shares. All float operations are IEEE binary32 with each operation rounded on its own:
 * the library is built with -ffp-contract=off and needs FLT_EVAL_METHOD 0. */
#ifndef E8_NUMERIC_H
#define E8_NUMERIC_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "edge8 needs float expressions evaluated in float (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

static inline float min_float(float a, float b)
{
    return a < b ? a : b;
}

static inline float max_float(float a, float b)
{
    return a > b ? a : b;
}

static inline int32_t min_int(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t max_int(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Round to nearest, ties to even, for |x| <= 2^22. Adding 1.5 * 2^23 moves x to where floats are 1 apart. */
static inline float rne_small(float x)
{
    const float magic = 12582912.0f;
    return (x + magic) - magic;
}

/* The same in double precision, for |x| <= 2^51. */
static inline double rne_double(double x)
{
    const double magic = 6755399441055744.0;
    return (x + magic) - magic;
}

/* Round to nearest, ties to even, saturating at +-2147483520 (the largest float below 2^31); NaN gives 0. */
static inline int32_t rne_int32(float x)
{
    if (!(x > -2147483520.0f)) return x != x ? 0 : -2147483520;
    if (x > 2147483520.0f) return 2147483520;
    if (x > 4194304.0f || x < -4194304.0f) {
        /* Between 2^22 and 2^23 a float may still have a half; above, it is whole. */
        int32_t whole = (int32_t)x;
        float rest = x - (float)whole;
        if (rest > 0.5f || (rest == 0.5f && (whole & 1))) return whole + 1;
        if (rest < -0.5f || (rest == -0.5f && (whole & 1))) return whole - 1;
        return whole;
    }
    return (int32_t)rne_small(x);
}

/* THE requantisation rule: clamp(rne(value) + zero_point, low, high) for value = float32(acc) * multiplier.
 * Clamping first keeps the rounding in range and changes nothing; NaN goes to `low`. */
static inline int32_t requantise(float value, int32_t zero_point, int32_t low, int32_t high)
{
    float lowest = (float)(low - zero_point), highest = (float)(high - zero_point);
    value = value > lowest ? value : lowest;
    value = value < highest ? value : highest;
    return (int32_t)rne_small(value) + zero_point;
}

/* a * b + c with one rounding, on every machine. */
static inline float fma_float(float a, float b, float c)
{
#if defined(__FMA__) || defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    /* The product of two floats is exact in double. The sum is rounded to double and then to float; rounding the first
     * time to odd makes the second rounding right (S. Boldo, G. Melquiond, "Emulation of a FMA and correctly rounded sums",
     * IEEE TC 57(4), 2008). */
    double product = (double)a * (double)b, addend = (double)c;
    double sum = product + addend;
    double high = sum - product;
    double error = (product - (sum - high)) + (addend - high);
    if (error != 0.0 && sum - sum == 0.0) {
        uint64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        if ((bits & 1) == 0) {
            /* Step toward the side of the error, onto the odd neighbour. */
            bits += (error > 0.0) == (sum > 0.0) ? 1u : ~(uint64_t)0;
            memcpy(&sum, &bits, sizeof sum);
        }
    }
    return (float)sum;
#endif
}

#endif
