/* SPDX-License-Identifier: Apache-2.0
 *
 * Which ARM kernels this build has. AArch64: NEON always, dot product and int8 matrix multiply by target attributes, which
 * clang accepts from version 16 on. ARMv7: arm_neon*.c are compiled with -mfpu=neon and arm_v7_vfp.c with -mfpu=vfpv4,
 * whatever the base architecture is; the CPU decides at run time. */
#ifndef E8_ARM_LEVELS_H
#define E8_ARM_LEVELS_H

#if defined(__aarch64__) && !defined(__AARCH64EB__)
#define E8_KERNELS_NEON 1
#if !defined(__clang__) || __clang_major__ >= 16
#define E8_KERNELS_DOTPROD 1
#define E8_KERNELS_I8MM 1
#endif
#elif defined(__arm__) && !defined(__ARMEB__) && defined(__ARM_ARCH) && __ARM_ARCH >= 7 && __ARM_ARCH_PROFILE == 'A' && !defined(__SOFTFP__)
#define E8_KERNELS_NEON 1
#define E8_KERNELS_VFPV4 1
#endif

struct e8_kernels;

void e8_init_vfpv4(struct e8_kernels *k); /* ARMv7: float by fused multiply-add of the scalar unit */
void e8_init_neon(struct e8_kernels *k);
void e8_init_neon_vfpv4(struct e8_kernels *k); /* ARMv7: both */
void e8_init_dotprod(struct e8_kernels *k);
void e8_init_dotprod_wide(struct e8_kernels *k); /* cores that reorder instructions */
void e8_init_i8mm(struct e8_kernels *k);

/* Parts of e8_init_neon. */
void e8_init_neon_elementwise(struct e8_kernels *k);
void e8_init_neon_depthwise(struct e8_kernels *k);
void e8_init_neon_int16(struct e8_kernels *k);
void e8_init_neon_decode(struct e8_kernels *k);
/* AArch64 only. */
void e8_init_neon_float(struct e8_kernels *k);
void e8_init_neon_depthwise_image(struct e8_kernels *k);

#endif
