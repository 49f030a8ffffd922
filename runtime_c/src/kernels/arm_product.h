/* SPDX-License-Identifier: Apache-2.0
 *
 * What the ARM int8 matrix kernels share: a product of either kind (codes with their epilogue, or raw sums) and the way of a
 * tile's sums to their place. */
#ifndef E8_ARM_PRODUCT_H
#define E8_ARM_PRODUCT_H

#include "arm_codes.h"

struct product {
    size_t m, n, taps, segment, a_stride;
    const void *const *a;
    const int8_t *w;
    const int32_t *init;            /* or NULL: 0 */
    const struct e8_gemm_s8 *codes; /* one of the two */
    const struct e8_gemm_s8s32 *raw;
    const struct e8_requant *q;
    struct rule rule;
};

static const int32_t NO_INIT[E8_NR];

E8_INLINE struct product product_of_codes(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct product p = {g->m, g->n,    g->taps, g->segment, g->a_stride, g->a,
                        g->w, q->init, g,       NULL,       q,           rule_of(q->zero_point, q->low, q->high)};
    return p;
}

E8_INLINE struct product product_of_sums(const struct e8_gemm_s8s32 *g)
{
    struct product p = {
        .m = g->m,
        .n = g->n,
        .taps = g->taps,
        .segment = g->segment,
        .a_stride = g->a_stride,
        .a = g->a,
        .w = g->w,
        .init = g->init,
        .raw = g,
    };
    return p;
}

/* Where the sums of channels [n, n + 16) start. */
E8_INLINE const int32_t *product_init(const struct product *p, size_t n)
{
    return p->init ? p->init + n : NO_INIT;
}

/* The packed weights of channels [n, n + 16). */
E8_INLINE const int8_t *product_block(const struct product *p, size_t n)
{
    return p->w + n / E8_NR * ((p->taps * p->segment + 3) / 4 * 4 * E8_NR);
}

/* True when the tiles' assembly turns sums to codes: whole words, nothing to add after them. */
E8_INLINE bool product_is_direct(const struct product *p)
{
    return p->codes && p->segment % 4 == 0;
}

/* A tile for channels [n, n + 16). */
E8_INLINE struct arm_tile product_tile(const struct product *p, size_t n, const int8_t *w)
{
    struct arm_tile tile = {
        .stride_bytes = p->a_stride * sizeof(void *),
        .taps = p->taps,
        .bytes = p->segment / 4 * 4,
        .w = w,
        .init = product_init(p, n),
    };
    if (!p->codes) return tile;
    tile.out_stride = p->codes->out_stride;
    tile.multiplier = p->q->multiplier + n;
    tile.rule = &p->rule;
    tile.residual_stride = p->codes->residual_stride;
    if (p->codes->residual) tile.residual_multiplier = p->q->residual_multiplier + n;
    tile.residual_zero = (int8_t)p->q->residual_zero;
    return tile;
}

/* Its rows from i on, codes straight to their place. */
E8_INLINE void product_place(const struct product *p, struct arm_tile *tile, size_t i, size_t n)
{
    const struct e8_gemm_s8 *g = p->codes;
    tile->a = p->a + i;
    tile->out = g->out + i * g->out_stride + n;
    tile->residual = g->residual ? g->residual + i * g->residual_stride + n : NULL;
}

/* As many rows as there are whole tiles of `rows` whose codes go straight to their place, by the kernel's `codes`; their number. */
E8_INLINE size_t product_direct_rows(const struct product *p, size_t rows, size_t n, const int8_t *w,
                                     void (*codes)(const struct arm_tile *tile))
{
    struct arm_tile tile = product_tile(p, n, w);
    size_t i = 0;
    if (p->n - n < E8_NR || !product_is_direct(p)) return 0;
    for (; i + rows <= p->m; i += rows) {
        product_place(p, &tile, i, n);
        codes(&tile);
    }
    return i;
}

/* As product_place for `rows` rows of fewer than 16 channels, or of which some must not be stored: codes go to `part`, and residuals come
 * from `residual`, `rows` by 16. */
static inline void product_place_part(const struct product *p, struct arm_tile *tile, size_t rows, size_t i, size_t n, int8_t *part,
                                      int8_t *residual)
{
    size_t width = p->n - n < E8_NR ? p->n - n : E8_NR;
    product_place(p, tile, i, n);
    tile->out = part;
    tile->out_stride = E8_NR;
    if (!tile->residual) return;
    for (size_t r = 0; r < rows; r++) vst1q_s8(residual + r * E8_NR, load_part(tile->residual + r * tile->residual_stride, width));
    tile->residual = residual;
    tile->residual_stride = E8_NR;
}

/* Rows [i, i + rows) of `part` to their place. */
static inline void product_store_part(const struct product *p, const int8_t *part, size_t rows, size_t i, size_t n)
{
    size_t width = p->n - n < E8_NR ? p->n - n : E8_NR;
    int8_t *out = p->codes->out + i * p->codes->out_stride + n;
    for (size_t r = 0; r < rows; r++) store_part(out + r * p->codes->out_stride, vld1q_s8(part + r * E8_NR), width);
}

/* Sums of rows [i, i + rows) to their place. */
static inline void product_store(const struct product *p, const int32_t *sums, size_t rows, size_t i, size_t n)
{
    size_t width = p->n - n < E8_NR ? p->n - n : E8_NR;
    if (p->codes) {
        const struct e8_gemm_s8 *g = p->codes;
        const int8_t *residual = g->residual ? g->residual + i * g->residual_stride + n : NULL;
        const struct output o = {p->q, residual, g->residual_stride, g->out + i * g->out_stride + n, g->out_stride, n, width};
        e8_neon_store_codes(&o, &p->rule, sums, rows);
        return;
    }
    for (size_t r = 0; r < rows; r++, i++) memcpy(p->raw->out + i * p->raw->out_stride + n, sums + r * E8_NR, width * sizeof *sums);
}

/* Rows [i, p->m), channels [n, n + 16) by dot product. Defined in arm_dotprod.c. */
void e8_dotprod_rows(const struct product *p, size_t i, size_t n, const int8_t *w);

#endif
