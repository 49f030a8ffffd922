/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 matrix kernel with dot product for cores that reorder instructions (Cortex-A76 and later): they need no loads placed ahead, so
 * that weights come by pairs, one instruction for two vectors. */
#include "arm_levels.h"

#if defined(E8_KERNELS_DOTPROD)
#include "arm_product.h"
#include "arm_tile.h"

enum { ROWS = 6 };

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))

DOTPROD static size_t direct_rows(const struct product *p, size_t n, const int8_t *w)
{
    return product_direct_rows(p, ROWS, n, w, tile6_wide_codes);
}

static void gemm_s8(const struct e8_gemm_s8 *g, const struct e8_requant *q)
{
    struct product p = product_of_codes(g, q);
    for (size_t n = 0; n < p.n; n += E8_NR) {
        const int8_t *w = product_block(&p, n);
        e8_dotprod_rows(&p, direct_rows(&p, n, w), n, w);
    }
    apply_table(q->table, g->out, g->out_stride, g->m, g->n);
}

static void conv_picture_s8(const struct e8_conv_picture *g, const struct e8_requant *q)
{
    e8_neon_conv_picture(g, q, gemm_s8);
}

void e8_init_dotprod_wide(struct e8_kernels *k)
{
    k->level = "dotprod-wide";
    k->gemm_s8 = gemm_s8;
    k->conv_picture_s8 = conv_picture_s8;
}
#endif
