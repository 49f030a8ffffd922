/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 matrix kernels for AArch64 with dot product (Cortex-A55, A75, A76 and later). A vector of packed weights holds 4
 * channels by 4 inputs; SDOT multiplies it with one word of a row and adds to 4 int32 sums: 16 multiply-accumulates. */
#include "arm_levels.h"

#if defined(E8_KERNELS_DOTPROD)
#include "arm_neon.h"

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define DOTPROD_INLINE static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod")))

enum { ROWS = 4 };

/* A row by pointer. */
struct source {
    const void *const *a;
    size_t a_stride, taps, segment;
};

/* Word `lane` of 16 inputs of each row. */
#define ADD_WORD(lane)                                                                                                                     \
    do {                                                                                                                                   \
        for (int j = 0; j < 4; j++) {                                                                                                      \
            int8x16_t v = vld1q_s8(w + 64 * (lane) + 16 * j);                                                                              \
            for (int r = 0; r < rows; r++) acc[r][j] = vdotq_laneq_s32(acc[r][j], v, x[r], lane);                                          \
        }                                                                                                                                  \
    } while (0)

DOTPROD_INLINE void add_sixteen(int32x4_t acc[ROWS][4], int rows, const int8_t *const *row, size_t s, const int8_t *w)
{
    int8x16_t x[ROWS];
    E8_UNROLL
    for (int r = 0; r < rows; r++) x[r] = vld1q_s8(row[r] + s);
    ADD_WORD(0);
    ADD_WORD(1);
    ADD_WORD(2);
    ADD_WORD(3);
}

DOTPROD_INLINE void add_four(int32x4_t acc[4], int8x16_t x, const int8_t *w)
{
    E8_UNROLL
    for (int j = 0; j < 4; j++) acc[j] = vdotq_s32(acc[j], vld1q_s8(w + 16 * j), x);
}

/* acc += `rows` rows times one block of 16 channels. */
DOTPROD_INLINE void tile(int32x4_t acc[ROWS][4], int rows, const struct source *g, size_t first, const int8_t *w)
{
    const int8_t *row[ROWS];
    for (size_t t = 0; t < g->taps; t++) {
        E8_UNROLL
        for (int r = 0; r < rows; r++) row[r] = g->a[t * g->a_stride + first + (size_t)r];
        size_t s = 0;
        for (; s + 16 <= g->segment; s += 16, w += 16 * E8_NR) add_sixteen(acc, rows, row, s, w);
        for (; s < g->segment; s += 4, w += 4 * E8_NR) {
            E8_UNROLL
            for (int r = 0; r < rows; r++)
                add_four(acc[r], s + 4 <= g->segment ? repeat_four(row[r] + s) : repeat_word(row[r] + s, g->segment - s), w);
        }
    }
}

static size_t block_bytes(size_t taps, size_t segment)
{
    return (taps * segment + 3) / 4 * 4 * E8_NR;
}

DOTPROD_INLINE void gemm_rows(int rows, const struct e8_gemm_s8 *g, const struct e8_requant *q, const struct rule *rule, size_t i, size_t n)
{
    struct source source = {g->a, g->a_stride, g->taps, g->segment};
    int32x4_t acc[ROWS][4];
    size_t width = g->n - n < E8_NR ? g->n - n : E8_NR;
    E8_UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) acc[r][j] = vld1q_s32(q->init + n + 4 * j);
    tile(acc, rows, &source, i, g->w + n / E8_NR * block_bytes(g->taps, g->segment));
    for (int r = 0; r < rows; r++, i++) {
        const int8_t *residual = g->residual ? g->residual + i * g->residual_stride + n : NULL;
        store_codes(q, rule, acc[r], residual, n, width, g->out + i * g->out_stride + n);
    }
}

DOTPROD void e8_dotprod_gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct rule rule = rule_of(q->zero_point, q->low, q->high);
    for (size_t n = 0; n < g->n; n += E8_NR) {
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) gemm_rows(ROWS, g, q, &rule, i, n);
        for (; i < g->m; i++) gemm_rows(1, g, q, &rule, i, n);
    }
    apply_table(q->table, g->out, g->out_stride, g->m, g->n);
}

DOTPROD_INLINE void sums_rows(int rows, const struct e8_gemm_s8s32 *g, size_t i, size_t n)
{
    struct source source = {g->a, g->a_stride, g->taps, g->segment};
    int32x4_t acc[ROWS][4];
    size_t width = g->n - n < E8_NR ? g->n - n : E8_NR;
    E8_UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) acc[r][j] = g->init ? vld1q_s32(g->init + n + 4 * j) : vdupq_n_s32(0);
    tile(acc, rows, &source, i, g->w + n / E8_NR * block_bytes(g->taps, g->segment));
    for (int r = 0; r < rows; r++, i++) {
        int32_t lanes[E8_NR];
        for (int j = 0; j < 4; j++) vst1q_s32(lanes + 4 * j, acc[r][j]);
        memcpy(g->out + i * g->out_stride + n, lanes, width * sizeof lanes[0]);
    }
}

DOTPROD void e8_dotprod_gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    for (size_t n = 0; n < g->n; n += E8_NR) {
        size_t i = 0;
        for (; i + ROWS <= g->m; i += ROWS) sums_rows(ROWS, g, i, n);
        for (; i < g->m; i++) sums_rows(1, g, i, n);
    }
}

void e8_init_dotprod(struct e8_kernels *k)
{
    k->level = "dotprod";
    k->gemm_s8 = e8_dotprod_gemm_s8;
    k->gemm_s8s32 = e8_dotprod_gemm_s8s32;
}
#endif
