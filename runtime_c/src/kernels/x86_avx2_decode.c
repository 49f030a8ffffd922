/* SPDX-License-Identifier: Apache-2.0
 *
 * Coded weights to float panels with AVX2. The four codes of a channel are 4 * bits bits, and lie 4 * bits * c bits into a block of
 * four inputs: they fit a window of 32 bits up to 8 bits a code, and of 64 bits up to 16. A byte shuffle puts the windows of 8
 * channels in order (odd widths leave every other one 4 bits too high), a left shift brings one input's code to the top, an
 * arithmetic right shift brings it down again with its sign. */
#include "x86_levels.h"

#if defined(E8_KERNELS_AVX2)
#include <stdbool.h>

#include "x86_avx2.h"

/* A load may reach so many bytes beyond the block. */
enum { BEYOND = 16 };

/* What all blocks share. left[r] brings the code of input r to the top; `one` makes the codes of one bit +1 and -1. */
struct windows {
    __m256i order, left[4], right, one;
};

AVX2_INLINE __m256i load_pair(const uint8_t *low, const uint8_t *high)
{
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)low), b = _mm_loadu_si128((const __m128i *)(const void *)high);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* `lanes` windows to 16 bytes, window j from byte bits * j / 2. */
AVX2_INLINE __m256i window_order(uint32_t bits, uint32_t lanes)
{
    uint8_t order[16];
    uint32_t width = 16 / lanes;
    for (uint32_t j = 0; j < lanes; j++)
        for (uint32_t b = 0; b < width; b++) order[width * j + b] = (uint8_t)(bits * j / 2 + b);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)order));
}

AVX2_INLINE void store_row(const struct e8_decode *d, size_t k, size_t half, __m256i codes, __m256 scale)
{
    __m256 x = _mm256_cvtepi32_ps(codes);
    if (d->scale) x = _mm256_mul_ps(x, scale);
    _mm256_storeu_ps(d->panel + k * E8_NR + 8 * half, x);
}

/* Up to 8 bits: windows of 32 bits, 4 to each half of a vector. */
AVX2_INLINE void narrow_block(const struct e8_decode *d, const struct windows *w, size_t k, size_t rows, const uint8_t *codes)
{
    for (size_t h = 0; h < 2; h++) {
        const uint8_t *from = codes + 4 * d->bits * h;
        __m256 scale = d->scale ? _mm256_loadu_ps(d->scale + k / d->group * E8_NR + 8 * h) : _mm256_setzero_ps();
        __m256i x = _mm256_shuffle_epi8(load_pair(from, from + 2 * d->bits), w->order);
        for (size_t r = 0; r < rows; r++) {
            __m256i code = _mm256_srav_epi32(_mm256_sllv_epi32(x, w->left[r]), w->right);
            store_row(d, k + r, h, _mm256_or_si256(code, w->one), scale);
        }
    }
}

/* 9 to 16 bits: windows of 64 bits, of channels 0 1 4 5 and of 2 3 6 7; the code is in the upper word. */
AVX2_INLINE void wide_block(const struct e8_decode *d, const struct windows *w, size_t k, size_t rows, const uint8_t *codes)
{
    for (size_t h = 0; h < 2; h++) {
        const uint8_t *from = codes + 4 * d->bits * h;
        __m256 scale = d->scale ? _mm256_loadu_ps(d->scale + k / d->group * E8_NR + 8 * h) : _mm256_setzero_ps();
        __m256i a = _mm256_shuffle_epi8(load_pair(from, from + 2 * d->bits), w->order);
        __m256i b = _mm256_shuffle_epi8(load_pair(from + d->bits, from + 3 * d->bits), w->order);
        for (size_t r = 0; r < rows; r++) {
            __m256 low = _mm256_castsi256_ps(_mm256_sllv_epi64(a, w->left[r]));
            __m256 high = _mm256_castsi256_ps(_mm256_sllv_epi64(b, w->left[r]));
            store_row(d, k + r, h, _mm256_srav_epi32(_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0xDD)), w->right), scale);
        }
    }
}

AVX2_INLINE struct windows make_windows(uint32_t bits)
{
    bool narrow = bits <= 8;
    int32_t odd = bits & 1 ? 4 : 0;
    struct windows w = {
        .order = window_order(bits, narrow ? 4 : 2), .right = _mm256_set1_epi32(32 - (int32_t)bits), .one = _mm256_set1_epi32(bits == 1)};
    for (int32_t r = 0; r < 4; r++) {
        int32_t left = (narrow ? 32 : 64) - (r + 1) * (int32_t)bits;
        w.left[r] = narrow ? _mm256_setr_epi32(left, left - odd, left, left - odd, left, left - odd, left, left - odd)
                           : _mm256_setr_epi64x(left, left - odd, left, left - odd);
    }
    return w;
}

AVX2 static void decode(const struct e8_decode *d)
{
    struct windows w = make_windows(d->bits);
    size_t bytes = 8 * (size_t)d->bits, k = 0, left = (d->k + 3) / 4 * bytes;
    const uint8_t *codes = d->codes;
    for (; k + 4 <= d->k && left >= bytes + BEYOND; k += 4, codes += bytes, left -= bytes) {
        if (d->bits <= 8)
            narrow_block(d, &w, k, 4, codes);
        else
            wide_block(d, &w, k, 4, codes);
    }
    for (; k < d->k; k += 4, codes += bytes) {
        uint8_t copy[8 * 16 + BEYOND] = {0};
        size_t rows = d->k - k < 4 ? d->k - k : 4;
        memcpy(copy, codes, bytes);
        if (d->bits <= 8)
            narrow_block(d, &w, k, rows, copy);
        else
            wide_block(d, &w, k, rows, copy);
    }
}

void e8_init_avx2_decode(struct e8_kernels *k)
{
    k->decode = decode;
}
#endif
