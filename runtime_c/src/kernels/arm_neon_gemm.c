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
#include "arm_neon.h"

/* Rows of a tile: 8 accumulators a row. */
#if defined(__aarch64__)
enum { ROWS = 2 };
#else
enum { ROWS = 1 };
#endif

/* A row by pointer. */
struct source {
    const void *const *a;
    size_t a_stride, taps, segment;
};

/* 8 inputs of `rows` rows: two blocks of weights at w and w + 64. */
E8_INLINE void add_eight(int32x4_t acc[ROWS][8], int rows, const int8_t *const *row, size_t s, const int8_t *w)
{
    int8x16_t x0[ROWS], x1[ROWS];
    E8_UNROLL
    for (int r = 0; r < rows; r++) {
        x0[r] = repeat_four(row[r] + s);
        x1[r] = repeat_four(row[r] + s + 4);
    }
    E8_UNROLL
    for (int j = 0; j < 4; j++) {
        int8x16_t w0 = vld1q_s8(w + 16 * j), w1 = vld1q_s8(w + 64 + 16 * j);
        E8_UNROLL
        for (int r = 0; r < rows; r++) {
            int16x8_t low = vmull_s8(vget_low_s8(w0), vget_low_s8(x0[r]));
            low = vmlal_s8(low, vget_low_s8(w1), vget_low_s8(x1[r]));
            int16x8_t high = high_product(w0, x0[r]);
            high = high_product_add(high, w1, x1[r]);
            acc[r][2 * j] = vpadalq_s16(acc[r][2 * j], low);
            acc[r][2 * j + 1] = vpadalq_s16(acc[r][2 * j + 1], high);
        }
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

/* `rows` rows times one block of 16 channels. With `pairs`, weights are within [-127, 127]. */
E8_INLINE void tile(int32x4_t sum[ROWS][4], int rows, bool pairs, const struct source *g, size_t first, const int8_t *w)
{
    int32x4_t acc[ROWS][8];
    const int8_t *row[ROWS];
    E8_UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 8; j++) acc[r][j] = vdupq_n_s32(0);
    for (size_t t = 0; t < g->taps; t++) {
        E8_UNROLL
        for (int r = 0; r < rows; r++) row[r] = g->a[t * g->a_stride + first + (size_t)r];
        size_t s = 0;
        if (pairs)
            for (; s + 8 <= g->segment; s += 8, w += 8 * E8_NR) add_eight(acc, rows, row, s, w);
        for (; s < g->segment; s += 4, w += 4 * E8_NR) {
            E8_UNROLL
            for (int r = 0; r < rows; r++)
                add_four(acc[r], s + 4 <= g->segment ? repeat_four(row[r] + s) : repeat_word(row[r] + s, g->segment - s), w);
        }
    }
    E8_UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) sum[r][j] = pairs_sum(acc[r][2 * j], acc[r][2 * j + 1]);
}

static size_t block_bytes(size_t taps, size_t segment)
{
    return (taps * segment + 3) / 4 * 4 * E8_NR;
}

E8_INLINE void gemm_rows(int rows, const struct e8_gemm_s8 *g, const struct e8_requant *q, const struct rule *r, size_t i, size_t n)
{
    struct source source = {g->a, g->a_stride, g->taps, g->segment};
    int32x4_t sum[ROWS][4];
    size_t width = g->n - n < E8_NR ? g->n - n : E8_NR;
    tile(sum, rows, true, &source, i, g->w + n / E8_NR * block_bytes(g->taps, g->segment));
    for (int k = 0; k < rows; k++, i++) {
        const int8_t *residual = g->residual ? g->residual + i * g->residual_stride + n : NULL;
        for (int j = 0; j < 4; j++) sum[k][j] = vaddq_s32(sum[k][j], vld1q_s32(q->init + n + 4 * j));
        store_codes(q, r, sum[k], residual, n, width, g->out + i * g->out_stride + n);
    }
}

static void gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct rule r = rule_of(q->zero_point, q->low, q->high);
    for (size_t n = 0; n < g->n; n += E8_NR) {
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) gemm_rows(ROWS, g, q, &r, i, n);
        for (; i < g->m; i++) gemm_rows(1, g, q, &r, i, n);
    }
    apply_table(q->table, g->out, g->out_stride, g->m, g->n);
}

E8_INLINE void sums_rows(int rows, const struct e8_gemm_s8s32 *g, size_t i, size_t n)
{
    struct source source = {g->a, g->a_stride, g->taps, g->segment};
    int32x4_t sum[ROWS][4];
    size_t width = g->n - n < E8_NR ? g->n - n : E8_NR;
    tile(sum, rows, false, &source, i, g->w + n / E8_NR * block_bytes(g->taps, g->segment));
    for (int k = 0; k < rows; k++, i++) {
        int32_t lanes[E8_NR];
        if (g->init)
            for (int j = 0; j < 4; j++) sum[k][j] = vaddq_s32(sum[k][j], vld1q_s32(g->init + n + 4 * j));
        for (int j = 0; j < 4; j++) vst1q_s32(lanes + 4 * j, sum[k][j]);
        memcpy(g->out + i * g->out_stride + n, lanes, width * sizeof lanes[0]);
    }
}

static void gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    for (size_t n = 0; n < g->n; n += E8_NR) {
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) sums_rows(ROWS, g, i, n);
        for (; i < g->m; i++) sums_rows(1, g, i, n);
    }
}

void e8_init_neon(struct e8_kernels *k)
{
    k->level = "neon";
    k->gemm_s8 = gemm_s8;
    k->gemm_s8s32 = gemm_s8s32;
    e8_init_neon_elementwise(k);
    e8_init_neon_depthwise(k);
#if defined(__aarch64__)
    e8_init_neon_float(k);
#endif
}
#endif
