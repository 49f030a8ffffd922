/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 matrix kernels for AArch64 with dot product (Cortex-A55, A75, A76 and later). A vector of packed weights holds 4
 * channels by 4 inputs; SDOT multiplies it with one word of a row and adds to 4 int32 sums: 16 multiply-accumulates. */
#include "arm_levels.h"

#if defined(E8_KERNELS_DOTPROD)
#include "arm_product.h"
#include "arm_tile.h"

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define DOTPROD_INLINE static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod")))

enum { ROWS = 6 };

/* The last 1 to 3 inputs of a row whose segment is no multiple of 4. */
DOTPROD static __attribute__((noinline)) void add_rest(const struct product *p, int32_t *sums, size_t i, const int8_t *w)
{
    size_t whole = p->segment / 4 * 4;
    int8x16_t x = repeat_word((const int8_t *)p->a[i] + whole, p->segment - whole);
    for (int j = 0; j < 4; j++) vst1q_s32(sums + 4 * j, vdotq_s32(vld1q_s32(sums + 4 * j), vld1q_s8(w + whole * E8_NR + 16 * j), x));
}

/* 6 rows from `first` on; those before `store` are there already. */
DOTPROD static __attribute__((noinline)) void six_rows(const struct product *p, size_t first, size_t store, size_t n, const int8_t *w)
{
    struct arm_tile tile = product_tile(p, n, w);
    if (product_is_direct(p)) {
        int8_t part[ROWS * E8_NR], residual[ROWS * E8_NR];
        product_place_part(p, &tile, ROWS, first, n, part, residual);
        tile6_codes(&tile);
        product_store_part(p, part + (store - first) * E8_NR, first + ROWS - store, store, n);
        return;
    }
    int32_t sums[ROWS * E8_NR];
    tile.a = p->a + first;
    tile6_sdot(&tile, sums);
    if (p->segment % 4)
        for (size_t r = 0; r < ROWS; r++) add_rest(p, sums + r * E8_NR, first + r, w);
    product_store(p, sums + (store - first) * E8_NR, first + ROWS - store, store, n);
}

DOTPROD static size_t direct_rows(const struct product *p, size_t n, const int8_t *w)
{
    return product_direct_rows(p, ROWS, n, w, tile6_codes);
}

/* Word `lane` of x times 64 bytes of weights. */
#define ONE_WORD(w, x, lane)                                                                                                               \
    s0 = vdotq_laneq_s32(s0, vld1q_s8(w), x, lane);                                                                                        \
    s1 = vdotq_laneq_s32(s1, vld1q_s8(w + 16), x, lane);                                                                                   \
    s2 = vdotq_laneq_s32(s2, vld1q_s8(w + 32), x, lane);                                                                                   \
    s3 = vdotq_laneq_s32(s3, vld1q_s8(w + 48), x, lane)

DOTPROD static __attribute__((noinline)) void one_row(const struct product *p, size_t i, size_t n, const int8_t *w)
{
    const int32_t *init = product_init(p, n);
    const int8_t *block = w;
    int32x4_t s0 = vld1q_s32(init), s1 = vld1q_s32(init + 4), s2 = vld1q_s32(init + 8), s3 = vld1q_s32(init + 12);
    for (size_t t = 0; t < p->taps; t++) {
        const int8_t *row = p->a[t * p->a_stride + i];
        size_t s = 0;
        for (; s + 16 <= p->segment; s += 16, w += 16 * E8_NR) {
            int8x16_t x = vld1q_s8(row + s);
            ONE_WORD(w, x, 0);
            ONE_WORD(w + 64, x, 1);
            ONE_WORD(w + 128, x, 2);
            ONE_WORD(w + 192, x, 3);
        }
        for (; s + 4 <= p->segment; s += 4, w += 4 * E8_NR) {
            int8x16_t x = repeat_four(row + s);
            ONE_WORD(w, x, 0);
        }
    }
    int32_t sums[E8_NR];
    vst1q_s32(sums, s0);
    vst1q_s32(sums + 4, s1);
    vst1q_s32(sums + 8, s2);
    vst1q_s32(sums + 12, s3);
    if (p->segment % 4) add_rest(p, sums, i, block);
    product_store(p, sums, 1, i, n);
}

/* Rows from i on: whole tiles, then one more that ends at the last row and computes some rows again; single rows where there are too
 * few. */
DOTPROD void e8_dotprod_rows(const struct product *p, size_t i, size_t n, const int8_t *w)
{
    for (; i + ROWS <= p->m; i += ROWS) six_rows(p, i, i, n, w);
    if (i + 1 < p->m && p->m >= ROWS)
        six_rows(p, p->m - ROWS, i, n, w);
    else
        for (; i < p->m; i++) one_row(p, i, n, w);
}

DOTPROD static void multiply(const struct product *p)
{
    for (size_t n = 0; n < p->n; n += E8_NR) {
        const int8_t *w = product_block(p, n);
        e8_dotprod_rows(p, direct_rows(p, n, w), n, w);
    }
}

void e8_dotprod_gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct product p = product_of_codes(g, q);
    multiply(&p);
    apply_table(q->table, g->out, g->out_stride, g->m, g->n);
}

void e8_dotprod_gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    struct product p = product_of_sums(g);
    multiply(&p);
}

static void conv_picture_s8(const struct e8_conv_picture *g, const struct e8_requant *q)
{
    e8_neon_conv_picture(g, q, e8_dotprod_gemm_s8);
}

void e8_init_dotprod(struct e8_kernels *k)
{
    k->level = "dotprod";
    k->gemm_s8 = e8_dotprod_gemm_s8;
    k->conv_picture_s8 = conv_picture_s8;
    k->gemm_s8s32 = e8_dotprod_gemm_s8s32;
    k->depthwise_image_s8 = e8_dotprod_depthwise_image_s8;
}
#endif
