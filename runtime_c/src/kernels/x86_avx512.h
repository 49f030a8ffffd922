/* SPDX-License-Identifier: Apache-2.0
 *
 * What the AVX-512 kernels share: vpdpbusd, the epilogue of struct e8_requant for up to 64 channels, and tails without over-reading.
 *
 * With E8_EMULATE_AVX512 the kernels are made of SIMDe's portable functions, so that machines without AVX-512 can check their
 * results. What SIMDe lacks, or reads beyond a mask, is written out here. */
#ifndef E8_X86_AVX512_H
#define E8_X86_AVX512_H

#if defined(E8_EMULATE_AVX512)
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#define AVX512_TARGET "avx2,fma"
#else
#include <immintrin.h>
#define AVX512_TARGET "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#endif
#include <string.h>

#include "kernel.h"
#include "requant.h"
#include "x86_levels.h"

#define AVX512 __attribute__((target(AVX512_TARGET)))
#define AVX512_INLINE static inline __attribute__((always_inline, target(AVX512_TARGET)))

#if defined(__clang__)
#define E8_UNROLL _Pragma("clang loop unroll(full)")
#else
#define E8_UNROLL _Pragma("GCC unroll 16")
#endif

/* 16 int32 sums. Between accumulators of type __m512i gcc 12 moves through memory, because its builtin has this type. */
typedef int sums __attribute__((vector_size(64), may_alias));

/* acc += four products of unsigned bytes of x with signed bytes of w, per element; modulo 2^32. */
AVX512_INLINE sums add_products(sums acc, sums x, sums w)
{
#if defined(E8_EMULATE_AVX512)
    return (sums)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)x, (__m512i)w);
#else
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
#endif
}

AVX512_INLINE sums all(int32_t value)
{
    return (sums)_mm512_set1_epi32(value);
}

AVX512_INLINE sums load_sums(const void *p)
{
    return (sums)_mm512_loadu_si512(p);
}

typedef int32_t word_at_any_address __attribute__((aligned(1), may_alias));

/* Four codes at p, in every element, made unsigned: code + 128. */
AVX512_INLINE sums flipped_word(const void *p, sums flip)
{
#if defined(E8_EMULATE_AVX512)
    return all(*(const word_at_any_address *)p) ^ flip;
#else
    sums x;
    __asm__("vpxord %2%{1to16%}, %1, %0" : "=v"(x) : "v"(flip), "m"(*(const word_at_any_address *)p));
    return x;
#endif
}

/* Up to 4 codes as one word, the rest 0. */
AVX512_INLINE int32_t load_word_part(const int8_t *p, size_t count)
{
    int32_t word = 0;
    memcpy(&word, p, count);
    return word;
}

/* `count` (at most 64) bytes, the rest 0; the bytes behind them need not be readable. */
AVX512_INLINE __m512i load_bytes(const void *p, size_t count)
{
#if defined(E8_EMULATE_AVX512)
    uint8_t buffer[64] = {0};
    memcpy(buffer, p, count);
    return _mm512_loadu_si512(buffer);
#else
    return _mm512_maskz_loadu_epi8(~0ull >> (64 - count), p);
#endif
}

AVX512_INLINE __m128i load_bytes16(const void *p, size_t count)
{
#if defined(E8_EMULATE_AVX512)
    return _mm512_castsi512_si128(load_bytes(p, count));
#else
    return _mm_maskz_loadu_epi8((__mmask16)(0xFFFFu >> (16 - count)), p);
#endif
}

/* The first `count` (1 to 64) bytes of v. */
AVX512_INLINE void store_bytes(void *p, __m512i v, size_t count)
{
    if (count == 64)
        _mm512_storeu_si512(p, v);
    else if (count == 32)
        _mm256_storeu_si256(p, _mm512_castsi512_si256(v));
    else if (count == 16)
        _mm_storeu_si128(p, _mm512_castsi512_si128(v));
    else
#if defined(E8_EMULATE_AVX512)
        memcpy(p, &v, count);
#else
        _mm512_mask_storeu_epi8(p, ~0ull >> (64 - count), v);
#endif
}

/* The first `count` (1 to 16) elements of v. */
AVX512_INLINE void store_words(void *p, sums v, size_t count)
{
#if defined(E8_EMULATE_AVX512)
    memcpy(p, &v, 4 * count);
#else
    _mm512_mask_storeu_epi32(p, (__mmask16)(0xFFFFu >> (16 - count)), (__m512i)v);
#endif
}

/* `count` (1 to 16) floats, the rest 0. */
AVX512_INLINE __m512 load_floats(const float *p, size_t count)
{
#if defined(E8_EMULATE_AVX512)
    return _mm512_castsi512_ps(load_bytes(p, 4 * count));
#else
    return _mm512_maskz_loadu_ps((__mmask16)(0xFFFFu >> (16 - count)), p);
#endif
}

/* vcvtps2dq: to nearest even, INT32_MIN for NaN and what int32 does not hold. */
AVX512_INLINE __m512i to_nearest(__m512 x)
{
#if defined(E8_EMULATE_AVX512)
    __m256i half[2];
    __m256 from[2];
    memcpy(from, &x, sizeof x);
    half[0] = _mm256_cvtps_epi32(from[0]);
    half[1] = _mm256_cvtps_epi32(from[1]);
    return _mm512_loadu_si512(half);
#else
    return _mm512_cvtps_epi32(x);
#endif
}

/* vminps and vmaxps: the second operand where one is NaN. */
AVX512_INLINE __m512 lesser(__m512 a, __m512 b)
{
#if defined(E8_EMULATE_AVX512)
    float x[16], y[16];
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 16; i++) x[i] = x[i] < y[i] ? x[i] : y[i];
    return _mm512_loadu_ps(x);
#else
    return _mm512_min_ps(a, b);
#endif
}

AVX512_INLINE __m512 greater(__m512 a, __m512 b)
{
#if defined(E8_EMULATE_AVX512)
    float x[16], y[16];
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 16; i++) x[i] = x[i] > y[i] ? x[i] : y[i];
    return _mm512_loadu_ps(x);
#else
    return _mm512_max_ps(a, b);
#endif
}

typedef float floats __attribute__((vector_size(64), may_alias));

AVX512_INLINE __m512 to_float(sums x)
{
#if defined(E8_EMULATE_AVX512)
    return (__m512) __builtin_convertvector(x, floats);
#else
    return _mm512_cvtepi32_ps((__m512i)x);
#endif
}

/* 16 bytes to int32. */
AVX512_INLINE sums widen16(__m128i bytes)
{
#if defined(E8_EMULATE_AVX512)
    __m256i half[2] = {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
    return load_sums(half);
#else
    return (sums)_mm512_cvtepi8_epi32(bytes);
#endif
}

/* Constants of an epilogue, in registers. */
struct requant_avx512 {
    __m512 highest; /* high less the zero point */
    __m512i zero_point, low;
    sums residual_zero;
};

AVX512_INLINE struct requant_avx512 requant_constants(const struct e8_requant *q)
{
    struct requant_avx512 r = {
        _mm512_set1_ps((float)(q->high - q->zero_point)),
        _mm512_set1_epi16((int16_t)q->zero_point),
        _mm512_set1_epi8((int8_t)q->low),
        all(q->residual_zero),
    };
    return r;
}

/* acc + rne((residual - zero) * multiplier[c]) for 16 channels from c, rne saturating. */
AVX512_INLINE sums add_residual(const struct requant_avx512 *r, const struct e8_requant *q, sums acc, size_t c, __m128i residual)
{
    __m512 value = to_float(widen16(residual) - r->residual_zero);
    value = _mm512_mul_ps(value, _mm512_loadu_ps(q->residual_multiplier + c));
    value = lesser(greater(value, _mm512_set1_ps(-2147483520.0f)), _mm512_set1_ps(2147483520.0f));
    return acc + (sums)to_nearest(value);
}

/* Sums of 16 channels from c to codes less the zero point, at most `high`. What lies far below `low`, and NaN, becomes INT32_MIN
 * and saturates to `low` later. */
AVX512_INLINE __m512i requant16(const struct requant_avx512 *r, const struct e8_requant *q, sums acc, size_t c)
{
    __m512 value = _mm512_mul_ps(to_float(acc), _mm512_loadu_ps(q->multiplier + c));
    return to_nearest(lesser(r->highest, value));
}

/* Four vectors from requant16 to 64 codes in order. */
AVX512_INLINE __m512i narrow64(const struct requant_avx512 *r, __m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), r->zero_point),
            cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), r->zero_point);
    return _mm512_permutexvar_epi32(order, _mm512_max_epi8(_mm512_packs_epi16(ab, cd), r->low));
}

#endif
