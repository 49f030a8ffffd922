/* SPDX-License-Identifier: Apache-2.0
 *
 * Contracts of the kernels: the hot loops that have variants per instruction set. A kernel sees plain pointers and sizes,
 * never a tensor or a model. reference_*.c holds the specification of each in portable C; a variant must give the same bytes
 * for every input, read nothing outside the buffers described here, and write nothing but its output.
 *
 * Packed weights. int8 matrices [n][k] are stored as blocks of 16 rows by 4 columns, [ceil(n/16)][ceil(k/4)][16][4], padded
 * with zeros. Float matrices are stored as [ceil(n/16)][k][16]. Depthwise weights [taps][channels] have their channels padded
 * to a multiple of 16. Weight codes are -127 to 127; -128 gives an unspecified (but bounded) result. A convolution with groups
 * stores one such matrix per group. Per-channel arrays (init, multiplier, scale, bias) have ceil(n/16)*16 entries, padded with
 * zeros.
 *
 * Coded weights of 1 to 16 bits keep that order: 64 codes of a [16][4] block (16 codes of a depthwise tap) are a little-endian
 * bit string of 64 * bits bits, code j at bit j * bits. Codes are two's complement; a code of 1 bit is a sign: 0 is +1, 1 is -1.
 *
 * Rows by pointer. A GEMM row is the concatenation of `taps` segments of `segment` elements; segment t of row i starts at
 * a[t * a_stride + i]. A plain matrix has one tap; a convolution has one per kernel position, with padded positions pointing
 * to a buffer of zero points. An int8 `segment` is a multiple of 4 unless taps == 1. Exactly `segment` elements may be read.
 *
 * Integer sums are modulo 2^32: the operators' checks exclude overflow for every well-formed model. Models are not checked for a
 * weight of -128 or a wrong weight_sum: with these a variant may give other bytes than the reference, and must stay harmless. */
#ifndef E8_KERNEL_H
#define E8_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../build.h"

#define E8_NR 16 /* output channels of a packed block */

/* Rows that an operator hands to a matrix kernel at a time. */
#if UINTPTR_MAX > 0xFFFFFFFFu
#define E8_GEMM_ROWS 48
#else
#define E8_GEMM_ROWS 16
#endif

/* A number of rows of which the matrix kernels of most levels do multiples fastest. */
#if defined(__aarch64__)
#define E8_GEMM_TILE 6
#elif defined(__x86_64__)
#define E8_GEMM_TILE 12
#else
#define E8_GEMM_TILE E8_GEMM_ROWS
#endif

/* What happens to an int32 accumulator on its way to an int8 output, per output channel c:
 *   acc  = init[c] + sum over k of a[k] * w[c][k]                                   (int32, exact)
 *   acc += rne(float32(residual - residual_zero) * residual_multiplier[c])           (when residual != NULL)
 *   out  = clamp(rne(float32(acc) * multiplier[c]) + zero_point, low, high)
 *   out  = table[out + 128]                                                          (when table != NULL)
 * weight_sum[c] = sum over k of w[c][k], for kernels that shift activations to unsigned. */
struct e8_requant {
    const int32_t *init;
    const float *multiplier;
    const int32_t *weight_sum;
    const float *residual_multiplier;
    const int8_t *table;
    int32_t zero_point, low, high, residual_zero;
};

/* out[i * out_stride + c] for i < m, c < n. */
struct e8_gemm_s8 {
    size_t m, n, taps, segment;
    const void *const *a;
    size_t a_stride;
    const int8_t *w;
    const int8_t *residual; /* residual[i * residual_stride + c] or NULL; may be the same memory as out */
    size_t residual_stride;
    int8_t *out;
    size_t out_stride;
    void *scratch;         /* E8_GEMM_S8_SCRATCH(k) bytes, 64-byte aligned */
    const uint8_t *limits; /* what weight_limits found for w, or NULL; speed only */
};

/* What some level derives from the weights of a layer before it multiplies many rows with them: E8_GEMM_LIMITS(k) bytes for each
 * block of 16 channels, and some that are read, whatever they hold. On x86-64 the largest inputs with which a step of 4 inputs is exact,
 * for each step, then those for two steps, for each two neighbours (x86_avx2_bounded.c). */
#if defined(__x86_64__)
#define E8_GEMM_LIMITS(k) (((k) + 3) / 4 + ((k) + 3) / 8)
#define E8_GEMM_LIMITS_SLACK 32u
#else
#define E8_GEMM_LIMITS(k) (0u * (k))
#define E8_GEMM_LIMITS_SLACK 0u
#endif

/* Raw accumulators: out[i * out_stride + c] = init[c] + sum, int32, for int8 MatMul of two activations and dynamic MatMul. */
struct e8_gemm_s8s32 {
    size_t m, n, taps, segment;
    const void *const *a;
    size_t a_stride;
    const int8_t *w;
    const int32_t *init; /* or NULL: 0 */
    const int32_t *weight_sum;
    int32_t *out;
    size_t out_stride;
    void *scratch;
    int weights; /* w holds weights, -127 to 127, which is faster; otherwise -128 is right too */
};

/* Scratch of the int8 matrix kernels. On x86-64: rows copied together (48, or as many fours of rows as fit 128 kB, at least one)
 * and one more, the sums of 16 channels for each, lists of the steps of up to 1024 inputs, and two bytes for 8 inputs. */
#if defined(__x86_64__)
#define E8_GEMM_GROUP 1024
#define E8_GEMM_PITCH(k) (((k) + 63) / 64 * 64 + 80)
#define E8_GEMM_PANEL_ROWS(k)                                                                                                              \
    (48 * E8_GEMM_PITCH(k) <= 131072 ? 48 : 4 * E8_GEMM_PITCH(k) <= 131072 ? 131072 / E8_GEMM_PITCH(k) / 4 * 4 : 4)
#define E8_GEMM_LIST_STEPS(k) ((k) < E8_GEMM_GROUP ? ((k) + 3) / 4 : E8_GEMM_GROUP / 4)
#define E8_GEMM_S8_SCRATCH(k)                                                                                                              \
    ((E8_GEMM_PANEL_ROWS(k) + 1) * (E8_GEMM_PITCH(k) + 64) + E8_STEP_LIST_BYTES(E8_GEMM_LIST_STEPS(k)) + E8_GEMM_PITCH(k) / 4 + 96)
#else
#define E8_GEMM_S8_SCRATCH(k) (16 * (((k) + 31) / 32 * 32) + 64)
#endif

/* Room for lists of the ways that so many steps go, at most: half as many two by two, and each one of two other ways; three
 * entries more in each. */
#define E8_STEP_LIST_BYTES(steps) (((steps) / 2 + 2 * (steps) + 9) * 8)

/* Depthwise convolution of one row of output pixels: out[i * out_stride + c] for i < m, c < channels, from taps rows by
 * pointer: input of tap t for pixel i is a[t * a_stride + i][c]. Weights w[t * w_stride + c]. */
struct e8_depthwise_s8 {
    size_t m, channels, taps;
    const void *const *a;
    size_t a_stride;
    const int8_t *w;
    size_t w_stride; /* channels rounded up to 16 */
    int8_t *out;
    size_t out_stride;
};

/* Depthwise convolution of output rows [first, last) of one picture, for levels that have it (NULL otherwise): in the int8 form
 * positions outside the picture read the code `zero`, in the float form 0. The result is that of the kernels by pointer. Only
 * kernels with e8_depthwise_fits() come here. */
struct e8_depthwise_image {
    int32_t ih, iw, ow, kh, kw, sh, sw, dh, dw, pt, pl, zero, first, last;
    size_t channels, w_stride;
    const void *x;     /* [ih][iw][channels] */
    const void *w;     /* [kh * kw][w_stride] */
    void *out;         /* [oh][ow][channels] */
    const float *bias; /* float form: padded, or NULL */
    float low, high;   /* float form */
    void *scratch;     /* E8_DEPTHWISE_SCRATCH bytes, 64-byte aligned */
};

/* Scratch for a tile of input pixels of 16 channels in float32, for the weights of 16 channels and for 32 outputs; 0 where no
 * level has the kernel. */
enum { E8_DEPTHWISE_PIXELS = 448, E8_DEPTHWISE_TAPS = 256 };
#if defined(__x86_64__)
enum { E8_DEPTHWISE_SCRATCH = 64 * (E8_DEPTHWISE_PIXELS + E8_DEPTHWISE_TAPS + 32) };
#else
enum { E8_DEPTHWISE_SCRATCH = 0 };
#endif

/* True when a kernel for whole pictures takes this window. Sizes are positive and their products fit int64. */
static inline int e8_depthwise_fits(int64_t kh, int64_t kw, int64_t sw, int64_t dh, int64_t dw)
{
#if defined(__aarch64__)
    return kh == 3 && kw == 3 && sw <= 2 && dh == 1 && dw == 1;
#else
    /* The input of 8 neighbouring outputs fits the scratch. */
    int64_t rows = (kh - 1) * dh + 1, columns = 7 * sw + (kw - 1) * dw + 1;
    return kh * kw <= E8_DEPTHWISE_TAPS && rows <= E8_DEPTHWISE_PIXELS && columns <= E8_DEPTHWISE_PIXELS &&
           rows * columns <= E8_DEPTHWISE_PIXELS;
#endif
}

/* Convolution of output rows [first, last) of one picture, for levels that have it (NULL otherwise): positions
 * outside the picture read the code `zero`, neighbours along a kernel row are neighbours of the picture. The result is that of
 * gemm_s8 on the gathered rows. */
struct e8_conv_picture {
    int32_t ih, iw, ow, kh, kw, sh, sw, dh, pt, pl, zero, first, last;
    size_t channels, n;
    const int8_t *x;        /* [ih][iw][channels] */
    const int8_t *w;        /* packed, k = (ky * kw + kx) * channels + c */
    const int8_t *residual; /* [oh][ow][n] or NULL; may be the same memory as out */
    int8_t *out;            /* [oh][ow][n] */
    void *scratch;          /* e8_conv_picture_scratch bytes, 64-byte aligned */
};

/* Scratch of that kernel; 0 bytes where it does not apply: a kernel of one position or more scratch than the limit, few outputs side by
 * side (x86-64), kernel rows of whole words that are not short (ARM). Sizes are positive int32. */
enum { E8_PICTURE_SCRATCH = 1 << 17 };

#if defined(__aarch64__)
/* Codes of an input row: what the outputs of a row read, and one more. */
static inline int64_t e8_conv_picture_line(int64_t ow, int64_t kw, int64_t sw, int64_t channels)
{
    return ((ow - 1) * sw + kw) * channels + 1;
}

/* Words of 4 codes that the kernel's rows fill when each is filled up. */
static inline int64_t e8_conv_picture_words(int64_t kh, int64_t kw, int64_t channels)
{
    return kh * ((kw * channels + 3) / 4);
}

/* Output rows done together, so that the matrix kernel gets some rows of its own. */
static inline int64_t e8_conv_picture_rows(int64_t ow)
{
    return ow < E8_GEMM_ROWS ? E8_GEMM_ROWS / ow : 1;
}
#endif

/* x86-64: offsets of input rows of one output row (`line` bytes from one to the next), limits of the weights, lists of steps, the
 * largest inputs of two steps each, and sums. */
struct e8_picture_parts {
    size_t line, limits, lists, tops, sums, total;
};

static inline struct e8_picture_parts e8_conv_picture_parts(int64_t ow, int64_t kh, int64_t kw, int64_t sw, int64_t channels, int64_t n)
{
    /* A tile of four outputs may reach two beyond the last one. */
    int64_t line = (((ow + 2) * sw + kw) * channels + 31) / 32 * 32, steps = kw * channels / 4;
    int64_t limits = kh * line + 64, lists = (limits + (n + E8_NR - 1) / E8_NR * kh * E8_GEMM_LIMITS(4 * steps) + 7) / 8 * 8;
    int64_t tops = lists + E8_STEP_LIST_BYTES(kh * steps), sums = (tops + kh * ((steps + 1) / 2) + 63) / 64 * 64;
    int64_t total = sums + (ow + 3) / 4 * 4 * (4 * E8_NR);
    return (struct e8_picture_parts){(size_t)line, (size_t)limits, (size_t)lists, (size_t)tops, (size_t)sums, (size_t)total};
}

/* x86-64: kernel rows of few codes, or codes that are no whole steps, and so few outputs that to look at the weights for each output row
 * costs more than it saves, are multiplied as int16. */
static inline bool e8_conv_picture_is_narrow(int64_t ow, int64_t kw, int64_t channels, int64_t n)
{
    return kw * channels <= 24 || kw * channels % 4 != 0 || ow < 12 || n < 48;
}

/* int16 elements of a widened input row (what the outputs of a row read, and one more), of a block's weights by pairs, and blocks that
 * are widened together: what the first-level cache holds. */
struct e8_narrow_parts {
    int64_t line, block, blocks;
};

static inline struct e8_narrow_parts e8_conv_narrow_parts(int64_t ow, int64_t kh, int64_t kw, int64_t sw, int64_t channels, int64_t n)
{
    int64_t block = kh * ((kw * channels + 1) / 2) * 2 * E8_NR, all = (n + E8_NR - 1) / E8_NR, fit = 12288 / block;
    return (struct e8_narrow_parts){((ow - 1) * sw + kw) * channels + 1, block, fit < 1 ? 1 : fit < all ? fit : all};
}

/* ARM: weights whose kernel rows are filled up to whole words, input rows, and pointers to all outputs' segments. */
static inline size_t e8_conv_picture_scratch(int64_t ow, int64_t kh, int64_t kw, int64_t sw, int64_t channels, int64_t n)
{
#if defined(__x86_64__)
    const int64_t most = E8_PICTURE_SCRATCH;
    if (kh * kw == 1 || (ow < 8 && channels > 4) || kh > most || kw > most || ow > most || sw > most || channels > most || n > most)
        return 0;
    if (kw * channels > most || ow * sw > most || ((ow + 2) * sw + kw) * channels > most || kh * kw * channels > most) return 0;
    struct e8_narrow_parts p = e8_conv_narrow_parts(ow, kh, kw, sw, channels, n);
    int64_t bytes = (p.blocks * p.block + kh * p.line) * 2;
    if (!e8_conv_picture_is_narrow(ow, kw, channels, n)) bytes = (int64_t)e8_conv_picture_parts(ow, kh, kw, sw, channels, n).total;
    return bytes > most ? 0 : (size_t)bytes;
#elif defined(__aarch64__)
    int64_t most = E8_PICTURE_SCRATCH;
    if (kh * kw == 1 || kh > most || kw > most || ow > most || sw > most || channels > most || n > most) return 0;
    if (kw * channels > most || ow * sw > most || (kw * channels % 4 == 0 && kw * channels > 16)) return 0;
    int64_t line = e8_conv_picture_line(ow, kw, sw, channels) + 3, block = e8_conv_picture_words(kh, kw, channels) * 4 * E8_NR;
    if (line > most || block > most) return 0;
    int64_t rows = e8_conv_picture_rows(ow), bytes = (n + E8_NR - 1) / E8_NR * block + rows * kh * (ow * (int64_t)sizeof(void *) + line);
    return bytes > most ? 0 : (size_t)bytes;
#else
    (void)ow, (void)kh, (void)kw, (void)sw, (void)channels, (void)n;
    return 0;
#endif
}

/* Float GEMM: out[i][c] = clamp(fma-chain over k from bias[c] (+ residual added last), low, high). The chain is
 * acc = bias[c]; acc = fma(a[k], w[k][c], acc) for k ascending; then acc + residual; then clamp (requant.h: clamp_float). */
struct e8_gemm_f32 {
    size_t m, n, taps, segment;
    const void *const *a;
    size_t a_stride;
    const float *w;     /* [ceil(n/16)][k][16] */
    const float *bias;  /* padded, or NULL: 0 */
    const float *scale; /* NULL, or padded: the chain starts at 0 and fma(acc, scale[c], bias[c]) follows it (coded weights) */
    const float *residual;
    size_t residual_stride;
    float *out;
    size_t out_stride;
    float low, high;
};

/* Float depthwise, the same shape as e8_depthwise_s8: acc = bias[c]; acc = fma(a_t[c], w_t[c], acc) for t ascending; clamp. */
struct e8_depthwise_f32 {
    size_t m, channels, taps;
    const void *const *a;
    size_t a_stride;
    const float *w;
    size_t w_stride;
    const float *bias;
    float *out;
    size_t out_stride;
    float low, high;
};

struct e8_add_s8 {
    int32_t zero0, zero1, multiplier0, multiplier1, shift, zero, low, high;
};

struct e8_mul_s8 {
    int32_t zero0, zero1, zero, low, high;
    float multiplier;
};

/* One block of 16 coded rows to a float panel [k][16]: panel[i][c] = float(code), times scale[(i / group) * 16 + c] unless scale
 * is NULL. `group` is a multiple of 4. */
struct e8_decode {
    const uint8_t *codes;
    uint32_t bits;
    size_t k, group;
    const float *scale;
    float *panel;
};

/* int16 activations have no zero point, and their sums with int8 weights may need more than 32 bits: they are kept as whole
 * numbers in double precision, which are exact below 2^53. out[i * out_stride + c] = sum over k of a[k] * w[c][k] for i < m and
 * c < n rounded up to a multiple of 16. */
struct e8_gemm_s16 {
    size_t m, n, taps, segment;
    const void *const *a;
    size_t a_stride;
    const int8_t *w;
    double *out;
    size_t out_stride;
};

/* One output pixel: out[c] = sum over taps of a[t * a_stride][c] * w[t * w_stride + c] for first <= c < channels; out has room for channels
 * rounded up to a multiple of 16. */
struct e8_depthwise_s16 {
    size_t first, channels, taps;
    const void *const *a;
    size_t a_stride;
    const int8_t *w;
    size_t w_stride;
    double *out;
};

/* From a sum to an int16 output, per output channel c, every operation rounded on its own:
 *   acc  = sum + init[c]                                                             (double, exact)
 *   acc += rne(float32(residual) * residual_multiplier[c])                           (without a residual any finite multipliers)
 *   out  = rne(clamp(float32(acc) * multiplier[c], low, high)) */
struct e8_requant_s16 {
    const double *init;
    const float *multiplier, *residual_multiplier;
    float low, high;
};

struct e8_requant_row {
    float multiplier;
    int32_t zero_point, low, high;
};

struct e8_dequant_row {
    const int32_t *weight_sum;
    int32_t zero_point; /* of the row's codes */
    const float *scale, *bias, *residual;
    float low, high;
};

/* int8: gamma and beta are there and divided by the output's scale; float: NULL where absent, scale and zero_point unused. */
struct e8_layer_norm {
    const float *gamma, *beta;
    float epsilon, scale;
    int32_t zero_point; /* of the output */
};

/* Column o of a resized row is a weighted sum of `taps` source pixels at element offset[o * taps + t]. */
struct e8_resize {
    size_t out, channels, taps;
    const int32_t *offset;
    const float *weight;  /* float form */
    const int16_t *fixed; /* int8 form: weights times 2048, two taps */
    int32_t zero_point;
};

/* Four output pixels of a Winograd tile from the sums of its 16 points. */
struct e8_winograd_output {
    const float *m; /* m[p * stride + c] */
    size_t stride, channels;
    float *out[4];
    const float *residual[4]; /* zeros where there is none; may be out */
    float low, high;
};

/* Every hot loop with variants. Filled with the reference, then overwritten by each level that the CPU has. */
struct e8_kernels {
    const char *level;
    void (*gemm_s8)(const struct e8_gemm_s8 *g, const struct e8_requant *q);
    void (*weight_limits)(const int8_t *w, size_t blocks, size_t k, uint8_t *limits); /* NULL where gemm_s8 has no use for them */
    void (*gemm_s8s32)(const struct e8_gemm_s8s32 *g);
    void (*conv_picture_s8)(const struct e8_conv_picture *g, const struct e8_requant *q);
    size_t picture_macs; /* most multiply-accumulates per output pixel for which conv_picture_s8 is taken instead of gemm_s8 */
    void (*depthwise_s8)(const struct e8_depthwise_s8 *g, const struct e8_requant *q);
    void (*depthwise_image_s8)(const struct e8_depthwise_image *g, const struct e8_requant *q);
    void (*depthwise_image_f32)(const struct e8_depthwise_image *g);
    void (*gemm_f32)(const struct e8_gemm_f32 *g);
    void (*depthwise_f32)(const struct e8_depthwise_f32 *g);
    void (*decode)(const struct e8_decode *d);
    /* y[i] = requantise(float32(x[i] + add) * multiplier). */
    void (*requantise)(const int32_t *x, int8_t *y, size_t count, int32_t add, const struct e8_requant_row *p);
    /* y[c] = clamp(fma(float32(x[c] - zero_point * weight_sum[c]), row_scale * scale[c], bias[c]) + residual[c], low, high); bias and
     * residual may be NULL. */
    void (*dequantise_sums)(const int32_t *x, float *y, size_t count, float row_scale, const struct e8_dequant_row *p);
    void (*quantise)(const float *x, int8_t *y, size_t count, float inverse_scale, int32_t zero_point);
    void (*dequantise)(const int8_t *x, float *y, size_t count, float scale, int32_t zero_point);
    void (*lookup)(const int8_t *x, int8_t *y, size_t count, const int8_t *table);
    /* y = clamp(((x0 - zero0) * m0 + (x1 - zero1) * m1 + 2^(shift-1)) >> shift) + zero, multipliers below 2^15. */
    void (*add_s8)(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_add_s8 *p);
    /* y = requantise((x0 - zero0) * (x1 - zero1) * multiplier). */
    void (*mul_s8)(const int8_t *x0, const int8_t *x1, int8_t *y, size_t count, const struct e8_mul_s8 *p);
    void (*max_s8)(const int8_t *const *a, size_t taps, size_t count, int8_t *y);  /* y[c] = max over taps of a[t][c] */
    void (*sum_s8)(const int8_t *const *a, size_t taps, size_t count, int32_t *y); /* y[c] += sum over taps of a[t][c] */
    /* y[i] = f(x[i]) for a function of operator Unary, see unary_map.h; y may be x. */
    void (*unary_f32)(uint32_t kind, float alpha, float beta, const float *x, float *y, size_t count);
    /* Rows: see row_loops.h. Where it makes sense y may be x. `falling` is the int8 table backwards (256 entries), `table` scratch
     * of 256 bytes. */
    void (*softmax_f32)(const float *x, float *y, size_t n, int logarithm);
    void (*softmax_s8)(const int8_t *x, int8_t *y, size_t n, const uint16_t *falling, int8_t *table);
    void (*layer_norm_f32)(const float *x, float *y, size_t n, const struct e8_layer_norm *p);
    void (*layer_norm_s8)(const int8_t *x, int8_t *y, size_t n, const struct e8_layer_norm *p);
    /* Winograd convolution: see winograd_loops.h; counts of channels are multiples of 8. */
    void (*winograd_input)(const float *const pixels[16], float *v, size_t stride, size_t channels);
    void (*winograd_weights)(const float *w, float *u, size_t stride, size_t count, size_t row);
    void (*winograd_output)(const struct e8_winograd_output *p);
    /* int16 codes. y[i] = float32(x[i]) * scale; y[i] = rne(clamp(x[i] * multiplier, low, high)), NaN gives low. */
    void (*dequantise_s16)(const int16_t *x, float *y, size_t count, float scale);
    void (*quantise_s16)(const float *x, int16_t *y, size_t count, float multiplier, float low, float high);
    void (*gemm_s16)(const struct e8_gemm_s16 *g);
    void (*depthwise_s16)(const struct e8_depthwise_s16 *g);
    void (*finish_s16)(const double *sums, const int16_t *residual, int16_t *y, size_t count, const struct e8_requant_s16 *q);
    void (*requantise_channels)(const int32_t *x, int8_t *y, size_t count, const float *multiplier, const struct e8_requant_row *p);
    /* y[c] = the largest of a[t][c] over taps (NaN does not count, none gives -inf), or with divisor > 0 their sum / divisor. */
    void (*pool_f32)(const float *const *a, size_t taps, size_t count, float divisor, float *y);
    void (*resize_columns_f32)(const float *x, float *y, const struct e8_resize *p);
    void (*resize_rows_f32)(const float *const *rows, const float *w, size_t taps, float *y, size_t count);
    void (*resize_columns_s8)(const int8_t *x, int32_t *y, const struct e8_resize *p);
    void (*resize_rows_s8)(const int32_t *a, const int32_t *b, int32_t w0, int32_t w1, int8_t *y, size_t count, int32_t zero);
};

/* Levels in ascending order; each overwrites what it improves. e8_init_reference calls the other reference files. */
void e8_init_reference(struct e8_kernels *k);
void e8_init_reference_gemm(struct e8_kernels *k);
void e8_init_reference_elementwise(struct e8_kernels *k); /* quantise, dequantise, lookup, add_s8, mul_s8 */
void e8_init_reference_rows(struct e8_kernels *k);        /* softmax_f32 and what follows it */
void e8_init_reference_winograd(struct e8_kernels *k);    /* winograd_input and what follows it */
void e8_init_reference_int16(struct e8_kernels *k);       /* the int16 kernels */

/* Which kernels of the reference a pruned build holds: those that its operators call. Entries for others are NULL. */
#define E8_LINEAR_HAS(forms) (E8_HAS(Conv2D, forms) || E8_HAS(DepthwiseConv2D, forms) || E8_HAS(FullyConnected, forms))
#define E8_MATRIX_HAS(forms) (E8_HAS(Conv2D, forms) || E8_HAS(FullyConnected, forms) || E8_HAS(ConvTranspose2D, forms))

/* The kernels of the best level that the CPU has within the caller's mask. */
const struct e8_kernels *e8_kernels_for_cpu(void);

#endif
