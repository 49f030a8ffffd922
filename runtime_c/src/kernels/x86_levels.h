/* SPDX-License-Identifier: Apache-2.0
 *
 * Which x86 kernels this build has. They are compiled by target attributes, whatever the base architecture is; the CPU decides
 * at run time. */
#ifndef E8_X86_LEVELS_H
#define E8_X86_LEVELS_H

#if defined(__x86_64__) && defined(__GNUC__)
#define E8_KERNELS_AVX2 1
#define E8_KERNELS_AVX512VNNI 1
#endif

struct e8_kernels;
struct e8_gemm_s8;
struct e8_conv_picture;
struct e8_requant;

void e8_init_avx2(struct e8_kernels *k);
void e8_init_avx512vnni(struct e8_kernels *k);

/* Parts of e8_init_avx2. */
void e8_init_avx2_gemm(struct e8_kernels *k);
void e8_init_avx2_bounded(struct e8_kernels *k);
void e8_init_avx2_picture(struct e8_kernels *k);
void e8_init_avx2_float(struct e8_kernels *k);
void e8_init_avx2_decode(struct e8_kernels *k);
void e8_init_avx2_depthwise(struct e8_kernels *k);
void e8_init_avx2_window(struct e8_kernels *k);
void e8_init_avx2_elementwise(struct e8_kernels *k);
void e8_init_avx2_unary(struct e8_kernels *k);
void e8_init_avx2_rows(struct e8_kernels *k);
void e8_init_avx2_winograd(struct e8_kernels *k);
void e8_init_avx2_int16(struct e8_kernels *k);

/* gemm_s8 when weight limits are given. */
void e8_avx2_gemm_bounded(const struct e8_gemm_s8 *g, const struct e8_requant *q);

/* conv_picture_s8 when kernel rows are short. */
void e8_avx2_conv_narrow(const struct e8_conv_picture *g, const struct e8_requant *q);

#endif
