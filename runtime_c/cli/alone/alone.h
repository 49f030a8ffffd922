/* SPDX-License-Identifier: Apache-2.0
 *
 * A program without a C library: what edge8-run and edge8-calibrate take from one, on Linux system calls alone. A static glibc
 * brings half a megabyte to every program; this brings some kilobytes. The declarations are those of the system's own headers,
 * so the programs also build with any C library; only deploy links them this way (converter/cross.py). */
#ifndef E8_ALONE_H
#define E8_ALONE_H

#include <stddef.h>
#include <stdint.h>

/* A raw system call: the result, or -errno. */
long alone_call(long number, long a, long b, long c, long d, long e, long f);

/* The result of a system call in C's manner: -1 and errno. */
long alone_result(long value);

/* Start a thread that runs alone_thread(record) on a stack that ends at `top`. The kernel clears *tid, and wakes who waits there,
 * when it ends. Gives the thread's number or -errno. */
long alone_clone(void *top, void *record, int *tid);
void alone_thread(void *record) __attribute__((noreturn));

/* Called by the first instruction of the program with the stack as the kernel left it: argc, argv, 0, environment, 0, auxv. */
void alone_start(uintptr_t *stack) __attribute__((noreturn));

#endif
