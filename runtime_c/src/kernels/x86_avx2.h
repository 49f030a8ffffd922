/* SPDX-License-Identifier: Apache-2.0
 *
 * What the AVX2 kernels share: the epilogue of struct e8_requant for 8 channels, and tails without over-reading. */
#ifndef E8_X86_AVX2_H
#define E8_X86_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "kernel.h"
#include "requant.h"
#include "x86_levels.h"

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,fma")))

#if defined(__clang__)
#define E8_UNROLL _Pragma("clang loop unroll(full)")
#else
#define E8_UNROLL _Pragma("GCC unroll 16")
#endif

/* Constants of an epilogue, in registers. `low` is applied to the codes: whatever lies below saturates at -128 before. */
struct requant_avx2 {
    __m256 highest; /* high less the zero point */
    __m256i zero, low, residual_zero;
};

AVX2_INLINE struct requant_avx2 requant_constants(const struct e8_requant *q)
{
    struct requant_avx2 r = {
        _mm256_set1_ps((float)(q->high - q->zero_point)),
        _mm256_set1_epi16((int16_t)q->zero_point),
        _mm256_set1_epi8((char)q->low),
        _mm256_set1_epi32(q->residual_zero),
    };
    return r;
}

/* 8 bytes to int32. */
AVX2_INLINE __m256i widen8(__m128i bytes)
{
    return _mm256_cvtepi8_epi32(bytes);
}

/* acc + rne((residual - zero) * multiplier[c]) for 8 channels from c. */
AVX2_INLINE __m256i add_residual8(const struct requant_avx2 *r, const struct e8_requant *q, __m256i acc, size_t c, __m128i residual)
{
    __m256 value = _mm256_cvtepi32_ps(_mm256_sub_epi32(widen8(residual), r->residual_zero));
    return _mm256_add_epi32(acc, _mm256_cvtps_epi32(_mm256_mul_ps(value, _mm256_loadu_ps(q->residual_multiplier + c))));
}

/* Values of 8 channels from c, at most `high`, less the zero point. Values beyond int32 become INT32_MIN there, and only negative
 * ones are left to do so. (A finite sum times a finite multiplier is no NaN.) */
AVX2_INLINE __m256i requant8(const struct requant_avx2 *r, const struct e8_requant *q, __m256i acc, size_t c)
{
    __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(q->multiplier + c));
    return _mm256_cvtps_epi32(_mm256_min_ps(value, r->highest));
}

/* 16 channels from c as int16 codes, in the order 0-3, 8-11, 4-7, 12-15. */
AVX2_INLINE __m256i requant16(const struct requant_avx2 *r, const struct e8_requant *q, __m256i a, __m256i b, size_t c)
{
    return _mm256_adds_epi16(_mm256_packs_epi32(requant8(r, q, a, c), requant8(r, q, b, c + 8)), r->zero);
}

/* Two rows of such codes to 16 bytes each, one row in each half. */
AVX2_INLINE __m256i join_rows(const struct requant_avx2 *r, __m256i first, __m256i second)
{
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return _mm256_max_epi8(bytes, r->low);
}

/* Two vectors of 8 codes to 16 bytes; one vector to 8 bytes in the low half. */
AVX2_INLINE __m128i narrow16(__m256i a, __m256i b)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

AVX2_INLINE __m128i narrow8(__m256i a)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    return _mm_packs_epi16(words, words);
}

/* `count` (at most 16) bytes, the rest 0. */
AVX2_INLINE __m128i load_bytes(const void *p, size_t count)
{
    uint8_t buffer[16] = {0};
    if (count >= 16) return _mm_loadu_si128(p);
    if (count == 8) return _mm_loadl_epi64(p);
    memcpy(buffer, p, count);
    return _mm_loadu_si128((const __m128i *)(const void *)buffer);
}

AVX2_INLINE void store_bytes(void *p, __m128i v, size_t count)
{
    uint8_t buffer[16];
    if (count >= 16) {
        _mm_storeu_si128(p, v);
        return;
    }
    if (count == 8) {
        _mm_storel_epi64(p, v);
        return;
    }
    _mm_storeu_si128((__m128i *)(void *)buffer, v);
    memcpy(p, buffer, count);
}

/* Up to 4 bytes as one word, the rest 0. */
AVX2_INLINE int32_t load_word(const int8_t *p, size_t count)
{
    int32_t word = 0;
    /* A copy of known length is one load; one of unknown length is a loop over bytes. */
    if (count >= 4)
        memcpy(&word, p, 4);
    else
        memcpy(&word, p, count);
    return word;
}

/* Replace `count` codes at p by table[code + 128]. */
static inline void look_up(int8_t *p, size_t count, const int8_t *table)
{
    for (size_t i = 0; i < count; i++) p[i] = table[p[i] + 128];
}

/* The epilogue of `columns` (1 to 16) channels from c for `rows` rows of sums. `residual` may be NULL. */
AVX2_INLINE void finish_rows(const struct requant_avx2 *r, const struct e8_requant *q, __m256i acc[][2], int rows, size_t c, size_t columns,
                             const int8_t *residual, size_t residual_stride, int8_t *out, size_t out_stride)
{
    if (residual) {
        E8_UNROLL
        for (int i = 0; i < rows; i++) {
            __m128i bytes = load_bytes(residual + (size_t)i * residual_stride, columns);
            acc[i][0] = add_residual8(r, q, acc[i][0], c, bytes);
            acc[i][1] = add_residual8(r, q, acc[i][1], c + 8, _mm_srli_si128(bytes, 8));
        }
    }
    E8_UNROLL
    for (int i = 0; i < rows; i += 2) {
        int8_t *to = out + (size_t)i * out_stride;
        __m256i first = requant16(r, q, acc[i][0], acc[i][1], c);
        __m256i bytes = join_rows(r, first, i + 1 < rows ? requant16(r, q, acc[i + 1][0], acc[i + 1][1], c) : first);
        store_bytes(to, _mm256_castsi256_si128(bytes), columns);
        if (q->table) look_up(to, columns, q->table);
        if (i + 1 == rows) break;
        store_bytes(to + out_stride, _mm256_extracti128_si256(bytes, 1), columns);
        if (q->table) look_up(to + out_stride, columns, q->table);
    }
}

#endif
