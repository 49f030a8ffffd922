/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise kernels for AVX2, 16 or 32 elements at a time. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include "x86_avx2.h"

/* 8 codes from values: clamp, round, add the zero point. */
AVX2_INLINE __m256i to_codes(__m256 value, __m256 lowest, __m256 highest, __m256i zero)
{
    value = _mm256_min_ps(_mm256_max_ps(value, lowest), highest);
    return _mm256_add_epi32(_mm256_cvtps_epi32(value), zero);
}

AVX2 static void quantise(const float *x, int8_t *y, size_t count, float inverse_scale, int32_t zero_point)
{
    __m256 lowest = _mm256_set1_ps((float)(-128 - zero_point)), highest = _mm256_set1_ps((float)(127 - zero_point)),
           s = _mm256_set1_ps(inverse_scale);
    __m256i zero = _mm256_set1_epi32(zero_point);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m256i a = to_codes(_mm256_mul_ps(_mm256_loadu_ps(x + i), s), lowest, highest, zero);
        __m256i b = to_codes(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8), s), lowest, highest, zero);
        _mm_storeu_si128((__m128i *)(void *)(y + i), narrow16(a, b));
    }
    for (; i < count; i++) y[i] = (int8_t)requantise(x[i] * inverse_scale, zero_point, -128, 127);
}

AVX2 static void dequantise(const int8_t *x, float *y, size_t count, float scale, int32_t zero_point)
{
    __m256 s = _mm256_set1_ps(scale);
    __m256i zero = _mm256_set1_epi32(zero_point);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i code = widen8(_mm_loadl_epi64((const __m128i *)(const void *)(x + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(code, zero)), s));
    }
    for (; i < count; i++) y[i] = (float)(x[i] - zero_point) * scale;
}

/* The table is 16 rows of 16 bytes. vpshufb looks an index up in one row and gives 0 where the index has its top bit set; the
 * index is made so that only one row finds it. */
AVX2 static void lookup(const int8_t *x, int8_t *y, size_t count, const int8_t *table)
{
    const __m256i sixteen = _mm256_set1_epi8(16), bias = _mm256_set1_epi8((char)0x80), reach = _mm256_set1_epi8(0x70);
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i index = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)), bias), found = _mm256_setzero_si256();
        E8_UNROLL
        for (int row = 0; row < 16; row++) {
            __m256i part = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(table + 16 * row)));
            /* Indices 0 to 15 keep their top bit clear when 0x70 is added with saturation; all others get it set. */
            found = _mm256_or_si256(found, _mm256_shuffle_epi8(part, _mm256_adds_epu8(index, reach)));
            index = _mm256_sub_epi8(index, sixteen);
        }
        _mm256_storeu_si256((__m256i *)(void *)(y + i), found);
    }
    for (; i < count; i++) y[i] = table[x[i] + 128];
}

/* 16 int8 of one operand as int16 less its zero point. */
AVX2_INLINE __m256i load_words(const int8_t *x, __m256i zero)
{
    return _mm256_sub_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)x)), zero);
}

AVX2_INLINE __m128i add16(const int8_t *x0, const int8_t *x1, const struct e8_add_s8 *p)
{
    __m256i a = load_words(x0, _mm256_set1_epi16((int16_t)p->zero0)), b = load_words(x1, _mm256_set1_epi16((int16_t)p->zero1));
    __m256i m = _mm256_set1_epi32((int32_t)((uint32_t)p->multiplier1 << 16 | ((uint32_t)p->multiplier0 & 0xFFFFu)));
    __m256i half = _mm256_set1_epi32((int32_t)1 << (p->shift - 1)), zero = _mm256_set1_epi32(p->zero);
    __m256i low = _mm256_set1_epi32(p->low), high = _mm256_set1_epi32(p->high);
    __m128i shift = _mm_cvtsi32_si128(p->shift);
    __m256i c[2] = {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)};
    E8_UNROLL
    for (int j = 0; j < 2; j++) {
        c[j] = _mm256_sra_epi32(_mm256_add_epi32(_mm256_madd_epi16(c[j], m), half), shift);
        c[j] = _mm256_min_epi32(_mm256_max_epi32(_mm256_add_epi32(c[j], zero), low), high);
    }
    /* unpack and pack work within 128-bit lanes, so the order of channels is restored. */
    __m256i words = _mm256_packs_epi32(c[0], c[1]);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

AVX2 static void add_s8(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_add_s8 *p)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16) _mm_storeu_si128((__m128i *)(void *)(y + i), add16(x0 + i, x1 + i, p));
    if (i == count) return;
    int8_t a[16] = {0}, b[16] = {0};
    memcpy(a, x0 + i, count - i);
    memcpy(b, x1 + i, count - i);
    store_bytes(y + i, add16(a, b, p), count - i);
}

AVX2_INLINE __m128i mul16(const int8_t *x0, const int8_t *x1, const struct e8_mul_s8 *p)
{
    __m256i a = load_words(x0, _mm256_set1_epi16((int16_t)p->zero0)), b = load_words(x1, _mm256_set1_epi16((int16_t)p->zero1));
    __m256i low = _mm256_mullo_epi16(a, b), high = _mm256_mulhi_epi16(a, b), zero = _mm256_set1_epi32(p->zero);
    __m256 m = _mm256_set1_ps(p->multiplier);
    __m256 lowest = _mm256_set1_ps((float)(p->low - p->zero)), highest = _mm256_set1_ps((float)(p->high - p->zero));
    __m256i c0 = to_codes(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_unpacklo_epi16(low, high)), m), lowest, highest, zero);
    __m256i c1 = to_codes(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_unpackhi_epi16(low, high)), m), lowest, highest, zero);
    __m256i words = _mm256_packs_epi32(c0, c1);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

AVX2 static void mul_s8(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_mul_s8 *p)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16) _mm_storeu_si128((__m128i *)(void *)(y + i), mul16(x0 + i, x1 + i, p));
    if (i == count) return;
    int8_t a[16] = {0}, b[16] = {0};
    memcpy(a, x0 + i, count - i);
    memcpy(b, x1 + i, count - i);
    store_bytes(y + i, mul16(a, b, p), count - i);
}

AVX2 static void requantise_sums(const int32_t *x, int8_t *y, size_t count, int32_t add, const struct e8_requant_row *p)
{
    __m256 lowest = _mm256_set1_ps((float)(p->low - p->zero_point)), highest = _mm256_set1_ps((float)(p->high - p->zero_point));
    __m256 m = _mm256_set1_ps(p->multiplier);
    __m256i zero = _mm256_set1_epi32(p->zero_point), more = _mm256_set1_epi32(add);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i sum = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)), more);
        _mm_storel_epi64((__m128i *)(void *)(y + i), narrow8(to_codes(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), m), lowest, highest, zero)));
    }
    for (; i < count; i++) {
        int32_t acc = (int32_t)((uint32_t)x[i] + (uint32_t)add);
        y[i] = (int8_t)requantise((float)acc * p->multiplier, p->zero_point, p->low, p->high);
    }
}

void e8_init_avx2_elementwise(struct e8_kernels *k)
{
    k->quantise = quantise;
    k->dequantise = dequantise;
    k->lookup = lookup;
    k->add_s8 = add_s8;
    k->mul_s8 = mul_s8;
    k->requantise = requantise_sums;
}
#endif
