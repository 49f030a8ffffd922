/* SPDX-License-Identifier: Apache-2.0
 *
 * Coded weights to float panels with NEON, as x86_avx2_decode.c does it: the four codes of a channel fit a window of 32 bits up to
 * 8 bits a code, and of 64 bits up to 16. A table look-up puts the windows of 4 (or 2) channels in order (odd widths leave every other
 * one 4 bits too high), a left shift brings one input's code to the top, an arithmetic right shift brings it down again with its sign. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON)
#include "arm_neon.h"

/* A load may reach so many bytes beyond the block. */
enum { BEYOND = 16 };

/* What all blocks share. left[r] brings the code of input r to the top; `one` makes the codes of one bit +1 and -1. */
struct windows {
    uint8x16_t order;
    int32x4_t left[4], right, one; /* 9 bits and more: left holds two shifts of 64 bits */
};

E8_INLINE uint8x16_t look_up(const uint8_t *from, uint8x16_t order)
{
    uint8x16_t bytes = vld1q_u8(from);
#if defined(__aarch64__)
    return vqtbl1q_u8(bytes, order);
#else
    uint8x8x2_t table = {{vget_low_u8(bytes), vget_high_u8(bytes)}};
    return vcombine_u8(vtbl2_u8(table, vget_low_u8(order)), vtbl2_u8(table, vget_high_u8(order)));
#endif
}

E8_INLINE void store_codes(const struct e8_decode *d, const struct windows *w, int32x4_t top, size_t k, size_t channel)
{
    float32x4_t x = vcvtq_f32_s32(vorrq_s32(vshlq_s32(top, w->right), w->one));
    if (d->scale) x = vmulq_f32(x, vld1q_f32(d->scale + k / d->group * E8_NR + channel));
    vst1q_f32(d->panel + k * E8_NR + channel, x);
}

E8_INLINE void narrow_block(const struct e8_decode *d, const struct windows *w, size_t k, size_t rows, const uint8_t *codes)
{
    for (size_t channel = 0; channel < E8_NR; channel += 4, codes += 2 * d->bits) {
        int32x4_t x = vreinterpretq_s32_u8(look_up(codes, w->order));
        for (size_t r = 0; r < rows; r++) store_codes(d, w, vshlq_s32(x, w->left[r]), k + r, channel);
    }
}

E8_INLINE int32x4_t upper_words(int64x2_t a, int64x2_t b)
{
    return vcombine_s32(vshrn_n_s64(a, 32), vshrn_n_s64(b, 32));
}

E8_INLINE void wide_block(const struct e8_decode *d, const struct windows *w, size_t k, size_t rows, const uint8_t *codes)
{
    for (size_t channel = 0; channel < E8_NR; channel += 4, codes += 2 * d->bits) {
        int64x2_t a = vreinterpretq_s64_u8(look_up(codes, w->order)), b = vreinterpretq_s64_u8(look_up(codes + d->bits, w->order));
        for (size_t r = 0; r < rows; r++) {
            int64x2_t left = vreinterpretq_s64_s32(w->left[r]);
            store_codes(d, w, upper_words(vshlq_s64(a, left), vshlq_s64(b, left)), k + r, channel);
        }
    }
}

/* Windows of 4 bytes, or of 8; window j from byte bits * j / 2. */
E8_INLINE struct windows make_windows(uint32_t bits)
{
    uint8_t order[16];
    int32_t odd = bits & 1 ? 4 : 0;
    uint32_t width = bits <= 8 ? 4 : 8;
    for (uint32_t b = 0; b < 16; b++) order[b] = (uint8_t)(bits * (b / width) / 2 + b % width);
    struct windows w = {.order = vld1q_u8(order), .right = vdupq_n_s32((int32_t)bits - 32), .one = vdupq_n_s32(bits == 1)};
    for (int32_t r = 0; r < 4; r++) {
        int32_t left = (int32_t)(8 * width) - (r + 1) * (int32_t)bits;
        int32_t narrow[4] = {left, left - odd, left, left - odd};
        int64_t wide[2] = {left, left - odd};
        w.left[r] = bits <= 8 ? vld1q_s32(narrow) : vreinterpretq_s32_s64(vld1q_s64(wide));
    }
    return w;
}

E8_INLINE void decode_block(const struct e8_decode *d, const struct windows *w, size_t k, size_t rows, const uint8_t *codes)
{
    if (d->bits <= 8)
        narrow_block(d, w, k, rows, codes);
    else
        wide_block(d, w, k, rows, codes);
}

static void decode(const struct e8_decode *d)
{
    struct windows w = make_windows(d->bits);
    size_t bytes = 8 * (size_t)d->bits, k = 0, left = (d->k + 3) / 4 * bytes;
    const uint8_t *codes = d->codes;
    for (; k + 4 <= d->k && left >= bytes + BEYOND; k += 4, codes += bytes, left -= bytes) decode_block(d, &w, k, 4, codes);
    for (; k < d->k; k += 4, codes += bytes) {
        uint8_t copy[8 * 16 + BEYOND] = {0};
        memcpy(copy, codes, bytes);
        decode_block(d, &w, k, d->k - k < 4 ? d->k - k : 4, copy);
    }
}

void e8_init_neon_decode(struct e8_kernels *k)
{
    k->decode = decode;
}
#endif
