/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 matrix kernels for AArch64 with the matrix multiply extension (Cortex-A510, A710, Neoverse V1 and later). SMMLA
 * multiplies 2 rows by 8 inputs with 2 channels by 8 inputs and adds to 2 by 2 sums: 32 multiply-accumulates. Two neighbouring
 * blocks of packed weights (4 channels by 4 inputs each) zip into two such operands. */
#include "arm_levels.h"

#if defined(E8_KERNELS_I8MM)
#include "arm_product.h"

#define I8MM __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#define I8MM_INLINE static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod+i8mm")))

/* Two rows are a pair; a tile has 2 pairs and 16 channels: 2 * 8 accumulators [row 0: c, c+1; row 1: c, c+1]. */
enum { PAIRS = 2, ROWS = 2 * PAIRS };

/* 8 inputs of two rows. */
E8_INLINE int8x16_t load_pair(const int8_t *row0, const int8_t *row1)
{
    return vcombine_s8(vld1_s8(row0), vld1_s8(row1));
}

/* `count` (1 to 7) inputs of two rows, the others 0. */
E8_INLINE int8x16_t load_part_pair(const int8_t *row0, const int8_t *row1, size_t count)
{
    int8_t bytes[16] = {0};
    memcpy(bytes, row0, count);
    memcpy(bytes + 8, row1, count);
    return vld1q_s8(bytes);
}

/* Channels 4 * j and up: low and high block of 4 inputs as 2 channels by 8 inputs. */
I8MM_INLINE void multiply_block(int32x4_t acc[PAIRS][8], const int8x16_t x[PAIRS], int j, int8x16_t w0, int8x16_t w1)
{
    int8x16_t even = vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(w0), vreinterpretq_s32_s8(w1)));
    int8x16_t odd = vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(w0), vreinterpretq_s32_s8(w1)));
    E8_UNROLL
    for (int p = 0; p < PAIRS; p++) {
        acc[p][2 * j] = vmmlaq_s32(acc[p][2 * j], x[p], even);
        acc[p][2 * j + 1] = vmmlaq_s32(acc[p][2 * j + 1], x[p], odd);
    }
}

/* Sums of 4 rows times one block of 16 channels. */
I8MM static void four_rows(const struct product *p, size_t first, size_t n, const int8_t *w)
{
    int32x4_t acc[PAIRS][8];
    int32_t sums[ROWS * E8_NR];
    const int8_t *row[ROWS];
    int8x16_t x[PAIRS];
    E8_UNROLL
    for (int k = 0; k < PAIRS; k++)
        for (int j = 0; j < 8; j++) acc[k][j] = vdupq_n_s32(0);
    for (size_t t = 0; t < p->taps; t++) {
        E8_UNROLL
        for (int r = 0; r < ROWS; r++) row[r] = p->a[t * p->a_stride + first + (size_t)r];
        size_t s = 0;
        for (; s + 8 <= p->segment; s += 8, w += 8 * E8_NR) {
            E8_UNROLL
            for (int k = 0; k < PAIRS; k++) x[k] = load_pair(row[2 * k] + s, row[2 * k + 1] + s);
            E8_UNROLL
            for (int j = 0; j < 4; j++) multiply_block(acc, x, j, vld1q_s8(w + 16 * j), vld1q_s8(w + 64 + 16 * j));
        }
        if (s == p->segment) continue;
        /* The last 1 to 7 inputs: one block of weights, or two. */
        bool two = p->segment - s > 4;
        for (int k = 0; k < PAIRS; k++) x[k] = load_part_pair(row[2 * k] + s, row[2 * k + 1] + s, p->segment - s);
        for (int j = 0; j < 4; j++) multiply_block(acc, x, j, vld1q_s8(w + 16 * j), two ? vld1q_s8(w + 64 + 16 * j) : vdupq_n_s8(0));
        w += two ? 8 * E8_NR : 4 * E8_NR;
    }
    const int32_t *init = product_init(p, n);
    E8_UNROLL
    for (int k = 0; k < PAIRS; k++) {
        for (int j = 0; j < 4; j++) {
            int64x2_t low = vreinterpretq_s64_s32(acc[k][2 * j]), high = vreinterpretq_s64_s32(acc[k][2 * j + 1]);
            int32x4_t start = vld1q_s32(init + 4 * j);
            vst1q_s32(sums + 2 * k * E8_NR + 4 * j, vaddq_s32(start, vreinterpretq_s32_s64(vzip1q_s64(low, high))));
            vst1q_s32(sums + (2 * k + 1) * E8_NR + 4 * j, vaddq_s32(start, vreinterpretq_s32_s64(vzip2q_s64(low, high))));
        }
    }
    product_store(p, sums, ROWS, first, n);
}

static size_t multiply(const struct product *p)
{
    size_t whole = p->m / ROWS * ROWS;
    for (size_t n = 0; n < p->n; n += E8_NR)
        for (size_t i = 0; i < whole; i += ROWS) four_rows(p, i, n, product_block(p, n));
    return whole;
}

/* The last rows, too few for a tile, go to the level below. */
static void gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct product p = product_of_codes(g, q);
    size_t whole = multiply(&p);
    apply_table(q->table, g->out, g->out_stride, whole, g->n);
    if (whole == g->m) return;
    struct e8_gemm_s8 rest = *g;
    rest.m -= whole;
    rest.a += whole;
    rest.out += whole * g->out_stride;
    if (rest.residual) rest.residual += whole * g->residual_stride;
    e8_dotprod_gemm_s8(&rest, q);
}

static void gemm_s8s32(const struct e8_gemm_s8s32 *g)
{
    struct product p = product_of_sums(g);
    size_t whole = multiply(&p);
    if (whole == g->m) return;
    struct e8_gemm_s8s32 rest = *g;
    rest.m -= whole;
    rest.a += whole;
    rest.out += whole * g->out_stride;
    e8_dotprod_gemm_s8s32(&rest);
}

static void conv_picture_s8(const struct e8_conv_picture *g, const struct e8_requant *q)
{
    e8_neon_conv_picture(g, q, gemm_s8);
}

void e8_init_i8mm(struct e8_kernels *k)
{
    k->level = "i8mm";
    k->gemm_s8 = gemm_s8;
    k->conv_picture_s8 = conv_picture_s8;
    k->gemm_s8s32 = gemm_s8s32;
}
#endif
