/* SPDX-License-Identifier: Apache-2.0
 *
 * What Conv2D, DepthwiseConv2D and FullyConnected share: decoding of their inputs (x, weights, bias, weight_sum, residual), the
 * forms of computation, the per-channel arrays of an int8 run, and the loop over tiles of rows.
 *
 * Forms
 *   int8     x, y int8 with scales; weights 8-bit codes with 1 or O scales.
 *   int16    x, y int16 with scales; weights as in int8.
 *   float    x, y, weights float32.
 *   coded    x, y float32; weights codes of 1 to 16 bits with 1, O or O * ceil(K / group) scales.
 *   dynamic  as coded with 8 bits and 1 or O scales; x is quantised to int8 row by row (FullyConnected only).
 *
 * The numbers of an int8 run, per output channel c with s = s_in * s_w[c] (float32 arithmetic in the order written):
 *   bound    = (2^31 - 1 - 32385 * K) / 2                        (integer division; K <= 65536)
 *   init     = clamp(rne(bias[c] / s), -bound, bound) - z_in * weight_sum[c]
 *   m        = s / s_out
 *   residual = min(s_res / s, float32(bound / 256))
 *   low      = clamp(rne(clamp(act_min / s_out, -128 - z, 127 - z)) + z), high alike
 * Why int32 is enough: a code minus its zero point is at most 255, a weight 127, so the sum over k is at most 255 * 127 * K =
 * 32385 * K; bias is at most `bound`, the residual 255 * bound / 256, and the three together at most 2^31 - 1. Partial sums may
 * wrap (modulo 2^32), the total may not. K = 65536 leaves a bound of 12550143.
 *
 * The numbers of an int16 run, with s, m, low and high as above (codes are symmetric, -32767 to 32767):
 *   init     = rne(clamp(double(bias[c] / s), -2^50, 2^50))
 *   residual = min(s_res / s, 2^34)
 * Accumulators are whole numbers below 2^53 in double precision, so they are exact: a sum over k is at most 2^15 * 127 * 65536,
 * the residual at most 2^49. */
#ifndef E8_LINEAR_H
#define E8_LINEAR_H

#include "../op.h"
#include "window.h"

enum { LINEAR_MAX_DEPTH = 65536 };

enum linear_form { LINEAR_INT8, LINEAR_INT16, LINEAR_FLOAT, LINEAR_CODED, LINEAR_DYNAMIC };

enum { LINEAR_X, LINEAR_WEIGHTS, LINEAR_BIAS, LINEAR_SUM, LINEAR_RESIDUAL };

struct linear {
    struct tensor x, w, bias, sum, residual, y;
    bool has_bias, has_sum, has_residual;
    enum linear_form form;
    float act_min, act_max;
    size_t channels; /* outputs of one group */
    size_t padded;   /* the same, rounded up to whole blocks */
    size_t groups;   /* 1 for DepthwiseConv2D, whose packed layout has no groups */
    size_t depth;    /* K: values that one output sums */
};

/* Whether a run has this form; known at compile time where a pruned build holds the int8 form only. */
static inline bool linear_is(const struct linear *l, enum linear_form form)
{
    if (form == LINEAR_INT16 && !E8_LINEAR_HAS(E8_FORM_INT16)) return false;
    return E8_LINEAR_HAS(E8_FORM_FLOAT | E8_FORM_INT16) ? l->form == form : form == LINEAR_INT8;
}

/* A window of so many outputs and inputs that gathering its taps for the matrix kernel pays. */
static inline bool linear_is_wide(const struct linear *l)
{
    return l->channels >= 128 && l->depth >= 512;
}

/* Offsets; each a multiple of 64. They fit a size_t once `total` has passed the model's limits. What lies before `extra` is the same in
 * every run: a session keeps it, or it lies in the shared scratch. `extra` is always there. */
struct linear_scratch {
    size_t init, multiplier, weight_sum, residual, bias, scale, limits, zeros, extra;
    uint64_t total;
};

/* Decode the tensors, the form and the activation bounds; the caller sets channels, padded, groups and depth. linear_open adds
 * addresses in a run. */
void linear_decode(const struct op *op, struct linear *l);
void linear_open(const struct run *r, struct linear *l);

/* Check types, scales, stored bytes, bias, weight_sum, residual and activation bounds. Needs channels, padded, groups and depth.
 * `depthwise` weights are stored as [taps][padded]. */
e8_status linear_check(struct check *c, const struct linear *l, bool depthwise);

/* Place the arrays; `zeros` bytes of padding source and `extra` bytes of the operator's own follow. */
struct linear_scratch linear_scratch_layout(const struct linear *l, uint64_t zeros, uint64_t extra);

/* The requantisation of all channels in one of the coded forms. */
struct linear_requant {
    struct e8_requant int8;
    struct e8_requant_s16 int16;
};

/* Where the arrays of a run are, filled, with the requantisation in q; that of channel c in int8 is linear_requant_at(&q->int8, c). */
uint8_t *linear_prepare(const struct run *r, const struct linear *l, const struct linear_scratch *s, struct linear_requant *q);

/* Fill what a session keeps, except the limits; its bytes. */
size_t linear_keep(const struct run *r, const struct linear *l, const struct linear_scratch *s);
struct e8_requant linear_requant_at(const struct e8_requant *q, size_t channel);

/* Codes of act_min and act_max on the output's scale. */
void linear_code_bounds(const struct linear *l, int32_t *low, int32_t *high);

/* Rows that one kernel call gets when each has `taps` segments: bounded so that the pointers stay in the cache. */
size_t linear_rows(size_t taps);

/* The rows of a matrix product: a plain matrix, or the pixels of a convolution. */
struct linear_rows {
    const struct run *run;
    const struct linear *l;
    const struct window *window; /* NULL: row i is x + i * row_bytes */
    bool lines;                  /* the segments are kernel rows (window_lines) instead of kernel positions */
    bool gather;                 /* copy each row to scratch first: segments of codes that are no multiple of 4 */
    size_t rows, row_bytes, taps, segment;
    const void *zeros;
    struct linear_requant q;
    const float *bias, *scale; /* padded, for the float forms */
    uint8_t *limits;           /* room for the weight limits of all groups, int8 */
    uint32_t tasks;
};

/* Thread scratch that linear_run_rows needs; `run`, `zeros` and what follows need not be set. */
uint64_t linear_thread_bytes(const struct linear_rows *job);
/* Fill the limits, which a session keeps with the other arrays. */
void linear_find_limits(struct linear_rows *job);
void linear_run_rows(struct linear_rows *job);

#endif
