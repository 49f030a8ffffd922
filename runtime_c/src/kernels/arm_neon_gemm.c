/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 matrix kernels for NEON without dot product (Cortex-A53, A57, A72; ARMv7 A7, A8, A15).
 *
 * A vector of packed weights holds 4 channels by 4 inputs. SMULL multiplies 2 channels by 4 inputs with a word of the row,
 * repeated, into int16; SMLAL adds the products of the next 4 inputs: two products of a code and a weight of at most 127 are
 * at most 2 * 128 * 127 = 32512. SADALP adds neighbours to int32 lanes [c: k01, c: k23, c+1: k01, c+1: k23]; at the end
 * neighbouring lanes are added. 3 instructions do 16 multiply-accumulates. */
#include "arm_levels.h"

#if defined(E8_KERNELS_NEON)
#if !defined(__ARM_NEON)
#error "edge8: compile arm_neon*.c with -mfpu=neon (the rest of the library may stay without)"
#endif
#include "arm_product.h"
#if defined(__aarch64__)
#include "arm_tile_neon.h"
#endif

/* 8 inputs: blocks of weights at w and w + 64. */
E8_INLINE void add_eight(int32x4_t acc[8], const int8_t *x, const int8_t *w)
{
    const int8x16_t x0 = repeat_four(x), x1 = repeat_four(x + 4);
    E8_UNROLL
    for (int j = 0; j < 4; j++) {
        int8x16_t w0 = vld1q_s8(w + 16 * j), w1 = vld1q_s8(w + 64 + 16 * j);
        int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(w0), vget_low_s8(x0)), vget_low_s8(w1), vget_low_s8(x1));
        acc[2 * j] = vpadalq_s16(acc[2 * j], low);
        acc[2 * j + 1] = vpadalq_s16(acc[2 * j + 1], high_product_add(high_product(w0, x0), w1, x1));
    }
}

/* Up to 4 inputs of one row: right for codes and weights of -128, too. */
E8_INLINE void add_four(int32x4_t acc[8], int8x16_t x, const int8_t *w)
{
    E8_UNROLL
    for (int j = 0; j < 4; j++) {
        int8x16_t w0 = vld1q_s8(w + 16 * j);
        acc[2 * j] = vpadalq_s16(acc[2 * j], vmull_s8(vget_low_s8(w0), vget_low_s8(x)));
        acc[2 * j + 1] = vpadalq_s16(acc[2 * j + 1], high_product(w0, x));
    }
}

static __attribute__((noinline)) void one_row(const struct product *p, size_t i, size_t n, const int8_t *w)
{
    const int32_t *init = product_init(p, n);
    int32x4_t acc[8];
    int32_t sums[E8_NR];
    E8_UNROLL
    for (int j = 0; j < 8; j++) acc[j] = vdupq_n_s32(0);
    for (size_t t = 0; t < p->taps; t++) {
        const int8_t *row = p->a[t * p->a_stride + i];
        size_t s = 0;
        if (p->codes)
            for (; s + 8 <= p->segment; s += 8, w += 8 * E8_NR) add_eight(acc, row + s, w);
        for (; s + 4 <= p->segment; s += 4, w += 4 * E8_NR) add_four(acc, repeat_four(row + s), w);
        if (s < p->segment) add_four(acc, repeat_word(row + s, p->segment - s), w);
    }
    E8_UNROLL
    for (int j = 0; j < 4; j++) vst1q_s32(sums + 4 * j, vaddq_s32(vld1q_s32(init + 4 * j), pairs_sum(acc[2 * j], acc[2 * j + 1])));
    product_store(p, sums, 1, i, n);
}

#if defined(__aarch64__)
/* The last 1 to 3 inputs of a row whose segment is no multiple of 4. */
static __attribute__((noinline)) void add_rest(const struct product *p, int32_t *sums, size_t i, const int8_t *w)
{
    size_t whole = p->segment / 4 * 4;
    int32x4_t rest[8];
    for (int j = 0; j < 8; j++) rest[j] = vdupq_n_s32(0);
    add_four(rest, repeat_word((const int8_t *)p->a[i] + whole, p->segment - whole), w + whole * E8_NR);
    for (int j = 0; j < 4; j++) vst1q_s32(sums + 4 * j, vaddq_s32(vld1q_s32(sums + 4 * j), pairs_sum(rest[2 * j], rest[2 * j + 1])));
}

/* Rows i and i + 1. */
static __attribute__((noinline)) void two_rows(const struct product *p, size_t i, size_t n, const int8_t *w)
{
    struct arm_tile tile = product_tile(p, n, w);
    if (product_is_direct(p)) {
        int8_t part[2 * E8_NR], residual[2 * E8_NR];
        product_place_part(p, &tile, 2, i, n, part, residual);
        tile_neon_codes(&tile);
        product_store_part(p, part, 2, i, n);
        return;
    }
    int32_t sums[2 * E8_NR];
    tile.a = p->a + i;
    tile_neon(&tile, sums);
    if (p->segment % 4)
        for (size_t r = 0; r < 2; r++) add_rest(p, sums + r * E8_NR, i + r, w);
    product_store(p, sums, 2, i, n);
}

/* As many rows as there are pairs whose codes go straight to their place; their number. */
static size_t direct_rows(const struct product *p, size_t n, const int8_t *w)
{
    struct arm_tile tile = product_tile(p, n, w);
    size_t i = 0;
    if (p->n - n < E8_NR || !product_is_direct(p)) return 0;
    for (; i + 2 <= p->m; i += 2) {
        product_place(p, &tile, i, n);
        tile_neon_codes(&tile);
    }
    return i;
}
#endif

static void multiply(const struct product *p)
{
    for (size_t n = 0; n < p->n; n += E8_NR) {
        const int8_t *w = product_block(p, n);
        size_t i = 0;
#if defined(__aarch64__)
        if (p->codes)
            for (i = direct_rows(p, n, w); i + 2 <= p->m; i += 2) two_rows(p, i, n, w);
#endif
        for (; i < p->m; i++) one_row(p, i, n, w);
    }
}

static void gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct product p = product_of_codes(g, q);
    multiply(&p);
    apply_table(q->table, g->out, g->out_stride, g->m, g->n);
}

static void gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    struct product p = product_of_sums(g);
    multiply(&p);
}

#if defined(__aarch64__)
static void conv_picture_s8(const struct e8_conv_picture *g, const struct e8_requant *q)
{
    e8_neon_conv_picture(g, q, gemm_s8);
}
#endif

void e8_init_neon(struct e8_kernels *k)
{
    k->level = "neon";
    k->gemm_s8 = gemm_s8;
    k->gemm_s8s32 = gemm_s8s32;
    e8_init_neon_elementwise(k);
    e8_init_neon_depthwise(k);
    e8_init_neon_int16(k);
    e8_init_neon_decode(k);
#if defined(__aarch64__)
    k->conv_picture_s8 = conv_picture_s8;
    k->picture_macs = SIZE_MAX;
    e8_init_neon_float(k);
    e8_init_neon_depthwise_image(k);
#endif
}
#endif
