/* SPDX-License-Identifier: Apache-2.0 */
#include "math.h"

static double double_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Base-2 logarithm of a positive finite float: x = 2^k * m, log m = 2 atanh(s) for s = (m - 1) / (m + 1). */
static double log2_positive(float x)
{
    int32_t subnormal = x < 0x1p-126f;
    uint32_t u = bits_of_float(subnormal ? x * 8388608.0f : x) + (0x3F800000u - 0x3F3504F3u);
    double k = (double)((int32_t)(u >> 23) - 127 - 23 * subnormal);
    double m = (double)float_of_bits((u & 0x7FFFFFu) + 0x3F3504F3u);
    double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 0x1.5889bf12fb737p-3;
    p = p * z + 0x1.732ab1b421444p-3;
    p = p * z + 0x1.c722830250ec9p-3;
    p = p * z + 0x1.249241653d7a2p-2;
    p = p * z + 0x1.999999a2ae5e9p-2;
    p = p * z + 0x1.5555555553906p-1;
    return k + (2.0 * s + (s * z) * p) * 0x1.71547652b82fep+0;
}

/* 2^t to float, for |t| <= 200. */
static float exp2_double(double t)
{
    const double magic = 0x1.8p52;
    double whole = (t + magic) - magic, f = t - whole;
    double p = 0x1.00f134bc1a9b0p-16;
    p = p * f + 0x1.445e6a5281fd8p-13;
    p = p * f + 0x1.5d8723a718aeap-10;
    p = p * f + 0x1.3b29f0fe53c20p-7;
    p = p * f + 0x1.c6b08df45e503p-5;
    p = p * f + 0x1.ebfbe07ab7f4ap-3;
    p = p * f + 0x1.62e42fef7b64fp-1;
    return (float)((1.0 + p * f) * double_of_bits((uint64_t)((int64_t)whole + 1023) << 52));
}

/* 0: y is not whole, 1: odd, 2: even. */
static int parity(float y)
{
    float a = abs_float(y);
    if (a >= 16777216.0f) return 2;
    if (round_float(y) != y) return 0;
    return (int32_t)a & 1 ? 1 : 2;
}

float e8_pow(float x, float y)
{
    if (y == 2.0f) return x * x;
    if (y == 0.0f || x == 1.0f) return 1.0f;
    if (x != x || y != y) return E8_NAN;
    int whole = parity(y);
    float a = abs_float(x), sign = whole == 1 && (bits_of_float(x) >> 31) ? -1.0f : 1.0f;
    if (y - y != 0.0f) {
        if (a == 1.0f) return 1.0f;
        return (a > 1.0f) == (y > 0.0f) ? E8_INFINITY : 0.0f;
    }
    if (a == 0.0f || a - a != 0.0f) return copy_sign((a > 0.0f) == (y > 0.0f) ? E8_INFINITY : 0.0f, sign);
    if (x < 0.0f && whole == 0) return E8_NAN;
    double t = (double)y * log2_positive(a);
    if (t > 200.0) return copy_sign(E8_INFINITY, sign);
    if (t < -200.0) return copy_sign(0.0f, sign);
    return sign * exp2_double(t);
}

/* Bits of 2/pi after the binary point. */
static const uint32_t TWO_OVER_PI[8] = {0xA2F9836Eu, 0x4E441529u, 0xFC2757D1u, 0xF534DDC0u,
                                        0xDB629599u, 0x3C439041u, 0xFE5163ABu, 0xDEBBC561u};

/* 32 bits of 2/pi from bit `first` on; bits before the point are 0. */
static uint32_t two_over_pi(int32_t first)
{
    int32_t word = (first + 64) / 32 - 2, shift = (first + 64) % 32;
    uint64_t high = word >= 0 ? TWO_OVER_PI[word] : 0, low = word + 1 >= 0 ? TWO_OVER_PI[word + 1] : 0;
    return (uint32_t)(((high << 32 | low) << shift) >> 32);
}

/* |x| = (4 j + quadrant + f) * pi/2, f in [-1/2, 1/2], for |x| >= 2^20: x = m * 2^e times the 96 bits of 2/pi that matter
 * (higher ones give multiples of 4), modulo 2^96. The result is f * pi/2. */
static double reduce_large(float a, uint32_t *quadrant)
{
    uint32_t bits = bits_of_float(a), m = (bits & 0x7FFFFFu) | 0x800000u;
    int32_t first = (int32_t)(bits >> 23) - 150 - 2;
    uint64_t low = (uint64_t)m * two_over_pi(first + 64);
    uint64_t middle = (uint64_t)m * two_over_pi(first + 32) + (low >> 32);
    uint64_t high = (uint64_t)m * two_over_pi(first) + (middle >> 32);
    uint64_t fraction = high << 34 | (middle & 0xFFFFFFFFu) << 2 | (low & 0xFFFFFFFFu) >> 30;
    uint32_t up = (uint32_t)(fraction >> 63);
    *quadrant = ((uint32_t)high >> 30) + up;
    double magnitude = (double)(up ? ~fraction + 1 : fraction) * 0x1p-64;
    return (up ? -magnitude : magnitude) * 0x1.921fb54442d18p+0;
}

/* The same for any finite |x|; pi/2 in three parts of 33 bits, so that the products with up to 20 bits are exact. */
static double reduce(float a, uint32_t *quadrant)
{
    if (a >= 1048576.0f) return reduce_large(a, quadrant);
    double x = (double)a, magic = 0x1.8p52;
    double k = (x * 0x1.45f306dc9c883p-1 + magic) - magic;
    *quadrant = (uint32_t)(int32_t)k;
    return ((x - k * 0x1.921fb54400000p+0) - k * 0x1.0b4611a600000p-34) - k * 0x1.3198a2e037073p-69;
}

/* Sine of (quadrant * pi/2 + r). */
static float sine_of(uint32_t quadrant, double r)
{
    double z = r * r, y;
    if (quadrant & 1u) {
        double p = -0x1.23d8153c87d79p-22;
        p = p * z + 0x1.a00f11ee32ee8p-16;
        p = p * z - 0x1.6c16b4010ca8dp-10;
        p = p * z + 0x1.55555546f54edp-5;
        p = p * z - 0x1.ffffffffebfd7p-2;
        y = 1.0 + z * p;
    } else {
        double p = 0x1.6cd87a3e1fff4p-19;
        p = p * z - 0x1.a00f9e32c607ep-13;
        p = p * z + 0x1.11110896f71dcp-7;
        p = p * z - 0x1.5555554cbad14p-3;
        y = r + (r * z) * p;
    }
    return (float)(quadrant & 2u ? -y : y);
}

float e8_sin(float x)
{
    uint32_t quadrant;
    if (x - x != 0.0f) return E8_NAN;
    double r = reduce(abs_float(x), &quadrant);
    float y = sine_of(quadrant, r);
    return bits_of_float(x) >> 31 ? -y : y;
}

float e8_cos(float x)
{
    uint32_t quadrant;
    if (x - x != 0.0f) return E8_NAN;
    double r = reduce(abs_float(x), &quadrant);
    return sine_of(quadrant + 1u, r);
}

/* |x| = mantissa * 2^exponent with the smallest exponent -149. */
static uint32_t split(float x, int32_t *exponent)
{
    uint32_t bits = bits_of_float(x) & 0x7FFFFFFFu, biased = bits >> 23;
    *exponent = (int32_t)(biased ? biased : 1u) - 150;
    return biased ? (bits & 0x7FFFFFu) | 0x800000u : bits;
}

float e8_fmod(float x, float y)
{
    int32_t ex, ey;
    if (x - x != 0.0f || y != y || y == 0.0f) return E8_NAN;
    uint64_t rest = split(x, &ex), divisor = split(y, &ey);
    if (abs_float(x) < abs_float(y)) return x;
    rest %= divisor;
    for (int32_t left = ex - ey; left > 0; left -= 32) rest = (rest << min_int(left, 32)) % divisor;
    double scale = double_of_bits((uint64_t)(ey + 1023) << 52);
    return copy_sign((float)((double)rest * scale), x);
}
