/* SPDX-License-Identifier: Apache-2.0
 *
 * The instructions that C cannot express: the program's entry, system calls, and the birth of a thread. */
#include "alone.h"

/* 0x350F00: CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, PARENT_SETTID, CHILD_CLEARTID. */

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n"
        "  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call alone_start\n"
        ".globl alone_restore\nalone_restore:\n  mov $15, %eax\n  syscall\n"
        /* clone(flags, stack, parent_tid, child_tid, tls); the record waits on the new stack. */
        ".globl alone_clone\nalone_clone:\n"
        "  sub $16, %rdi\n  mov %rsi, (%rdi)\n  mov %rdi, %rsi\n  mov $0x350F00, %edi\n  mov %rdx, %r10\n  xor %r8d, %r8d\n"
        "  mov $56, %eax\n  syscall\n  test %eax, %eax\n  jnz 1f\n  xor %ebp, %ebp\n  pop %rdi\n  pop %rax\n  call alone_thread\n1: ret\n");
long alone_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n"
        "  mov x29, #0\n  mov x30, #0\n  mov x0, sp\n  and sp, x0, #-16\n  bl alone_start\n"
        /* clone(flags, stack, parent_tid, tls, child_tid) */
        ".globl alone_clone\nalone_clone:\n"
        "  str x1, [x0, #-16]!\n  mov x1, x0\n  mov x4, x2\n  mov x3, #0\n  mov w0, #0x0F00\n  movk w0, #0x35, lsl #16\n"
        "  mov x8, #220\n  svc #0\n  cbnz x0, 1f\n  mov x29, #0\n  mov x30, #0\n  ldr x0, [sp], #16\n  bl alone_thread\n1: ret\n");
long alone_call(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
__asm__(".globl _start\n_start:\n"
        ".option push\n.option norelax\n  la gp, __global_pointer$\n.option pop\n"
        "  li s0, 0\n  mv a0, sp\n  andi sp, sp, -16\n  call alone_start\n"
        ".globl alone_clone\nalone_clone:\n"
        "  addi a0, a0, -16\n  sd a1, 0(a0)\n  mv a1, a0\n  mv a4, a2\n  li a3, 0\n  li a0, 0x350F00\n  li a7, 220\n  ecall\n"
        "  bnez a0, 1f\n  li s0, 0\n  ld a0, 0(sp)\n  addi sp, sp, 16\n  call alone_thread\n1: ret\n");
long alone_call(long number, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}
#elif defined(__arm__)
/* In ARM instructions, which every ARMv7 Linux has, so that r7 need not be free for the system call's number. */
__asm__(".arm\n.globl _start\n.type _start, %function\n_start:\n"
        "  mov r11, #0\n  mov r0, sp\n  bic sp, sp, #7\n  bl alone_start\n"
        ".globl alone_call\n.type alone_call, %function\nalone_call:\n"
        "  push {r4, r5, r6, r7}\n  mov r7, r0\n  mov r0, r1\n  mov r1, r2\n  mov r2, r3\n  ldr r3, [sp, #16]\n  ldr r4, [sp, #20]\n"
        "  ldr r5, [sp, #24]\n  svc #0\n  pop {r4, r5, r6, r7}\n  bx lr\n"
        ".globl alone_clone\n.type alone_clone, %function\nalone_clone:\n"
        "  push {r4, r7}\n  str r1, [r0, #-8]!\n  mov r1, r0\n  mov r4, r2\n  mov r3, #0\n  ldr r0, =0x350F00\n  mov r7, #120\n  svc #0\n"
        "  cmp r0, #0\n  bne 1f\n  mov r11, #0\n  ldr r0, [sp], #8\n  bl alone_thread\n1: pop {r4, r7}\n  bx lr\n  .ltorg\n");
#else
#error "edge8: no entry for this processor; link the program with a C library"
#endif
