/* SPDX-License-Identifier: Apache-2.0
 *
 * Start-up of a Cortex-M program under QEMU or a debug probe: vectors, copying of .data, clearing of .bss, the FPU, and the
 * semihosting calls that a test needs. A product has its own start-up code; nothing here belongs to edge8. */
#include "start.h"

#include <stddef.h>

extern uint32_t link_stack_top, link_data_source, link_data_begin, link_data_end, link_bss_begin, link_bss_end;
int main(void);

enum { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

static int semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void print_text(const char *text)
{
    (void)semihost(SYS_WRITE0, text);
}

void print_number(uint32_t value, uint32_t base, int digits)
{
    char text[12];
    int at = sizeof text - 1;
    text[at] = 0;
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
        digits--;
    } while ((value != 0 || digits > 0) && at > 0);
    print_text(text + at);
}

int save_bytes(const char *path, const void *bytes, size_t size)
{
    size_t length = 0;
    while (path[length]) length++;
    uintptr_t opening[3] = {(uintptr_t)path, 5 /* "wb" */, length};
    int handle = semihost(SYS_OPEN, opening);
    if (handle < 0) return -1;
    uintptr_t writing[3] = {(uintptr_t)handle, (uintptr_t)bytes, size};
    int left = semihost(SYS_WRITE, writing);
    uintptr_t closing[1] = {(uintptr_t)handle};
    (void)semihost(SYS_CLOSE, closing);
    return left;
}

void stop(int code)
{
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    for (;;) (void)semihost(SYS_EXIT_EXTENDED, block);
}

/* Free stack is filled with this word; what is no longer there was used. */
static const uint32_t PAINT = 0xA55AA55Au;

void paint_stack(void)
{
    uint32_t here;
    for (volatile uint32_t *p = &link_bss_end; p < &here - 16; p++) *p = PAINT;
}

uint32_t stack_used(void)
{
    const volatile uint32_t *p = &link_bss_end;
    while (p < &link_stack_top && *p == PAINT) p++;
    return (uint32_t)((const volatile char *)&link_stack_top - (const volatile char *)p);
}

__attribute__((noreturn)) void start_reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the FPU (and MVE) */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    for (uint32_t *from = &link_data_source, *to = &link_data_begin; to < &link_data_end;) *to++ = *from++;
    for (uint32_t *to = &link_bss_begin; to < &link_bss_end;) *to++ = 0;
    paint_stack();
    stop(main());
    for (;;) {
    }
}

static void start_fault(void)
{
    print_text("fault\n");
    stop(99);
}

__attribute__((section(".vectors"), used)) static void *const start_vectors[16] = {
    (void *)&link_stack_top, (void *)start_reset, (void *)start_fault, (void *)start_fault,
    (void *)start_fault,     (void *)start_fault, (void *)start_fault,
};
