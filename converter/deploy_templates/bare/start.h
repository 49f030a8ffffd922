/* SPDX-License-Identifier: Apache-2.0
 *
 * What start.c gives to a program that runs under QEMU or a debug probe. */
#ifndef START_H
#define START_H

#include <stddef.h>
#include <stdint.h>

void print_text(const char *text);
void print_number(uint32_t value, uint32_t base, int digits);

/* Write a file on the host; 0 when all bytes were written. */
int save_bytes(const char *path, const void *bytes, size_t size);

/* End the emulation with an exit code. */
void stop(int code) __attribute__((noreturn));

/* Fill the free stack with a pattern; the most bytes of stack in use since then. */
void paint_stack(void);
uint32_t stack_used(void);

#endif
