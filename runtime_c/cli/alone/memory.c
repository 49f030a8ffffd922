/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory, strings and sorting. The heap: blocks of powers of two, kept in lists by size when they are freed; large ones are
 * mapped, and unmapped. Only the main thread allocates. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "alone.h"

typedef uint8_t block16 __attribute__((vector_size(16), aligned(1), may_alias));

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    for (; size >= 16; t += 16, f += 16, size -= 16) *(block16 *)t = *(const block16 *)f;
    for (; size > 0; size--) *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= size) return memcpy(to, from, size);
    for (; size >= 16; size -= 16) *(block16 *)(t + size - 16) = *(const block16 *)(f + size - 16);
    for (; size > 0; size--) t[size - 1] = f[size - 1];
    return to;
}

void *memset(void *to, int value, size_t size)
{
    uint8_t *t = to, byte = (uint8_t)value;
    block16 all = {byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte};
    for (; size >= 16; t += 16, size -= 16) *(block16 *)t = all;
    for (; size > 0; size--) *t++ = byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

size_t strlen(const char *text)
{
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

int strncmp(const char *a, const char *b, size_t most)
{
    for (size_t i = 0; i < most; i++) {
        if (a[i] != b[i]) return (uint8_t)a[i] < (uint8_t)b[i] ? -1 : 1;
        if (!a[i]) break;
    }
    return 0;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, SIZE_MAX);
}

char *strchr(const char *text, int letter)
{
    for (; *text != (char)letter; text++)
        if (!*text) return NULL;
    return (char *)(uintptr_t)text;
}

char *strrchr(const char *text, int letter)
{
    const char *found = NULL;
    do
        if (*text == (char)letter) found = text;
    while (*text++);
    return (char *)(uintptr_t)found;
}

char *strstr(const char *text, const char *part)
{
    size_t length = strlen(part);
    for (; *text; text++)
        if (strncmp(text, part, length) == 0) return (char *)(uintptr_t)text;
    return length ? NULL : (char *)(uintptr_t)text;
}

/* Before each block. Mapped blocks remember where their mapping starts. */
struct head {
    size_t bytes;  /* of the block or the mapping */
    void *mapping; /* NULL: from the heap */
};
_Static_assert(sizeof(struct head) <= 16, "a head must not move blocks off 16 bytes");

enum { HEAD = 16, SMALLEST = 5, LARGEST = 15, CHUNK = 1 << 18 };
struct free_block {
    struct free_block *next;
};
static struct free_block *free_blocks[LARGEST + 1];
static uint8_t *heap, *heap_end;

static void *map_pages(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

static void *map_block(size_t alignment, size_t size)
{
    size_t total = size + alignment + HEAD;
    uint8_t *pages = total < size ? NULL : map_pages(total);
    if (!pages) {
        errno = ENOMEM;
        return NULL;
    }
    uint8_t *block = (uint8_t *)(((uintptr_t)pages + HEAD + alignment - 1) & ~(uintptr_t)(alignment - 1));
    *(struct head *)(void *)(block - HEAD) = (struct head){total, pages};
    return block;
}

void *malloc(size_t size)
{
    unsigned rank = SMALLEST;
    while (rank <= LARGEST && ((size_t)1 << rank) - HEAD < size) rank++;
    if (rank > LARGEST) return map_block(16, size);
    struct free_block *freed = free_blocks[rank];
    if (freed) {
        free_blocks[rank] = freed->next;
        return freed;
    }
    size_t bytes = (size_t)1 << rank;
    if (bytes > (size_t)(heap_end - heap)) {
        heap = map_pages(CHUNK);
        heap_end = heap ? heap + CHUNK : NULL;
        if (!heap) return NULL;
    }
    uint8_t *block = heap + HEAD;
    heap += bytes;
    *(struct head *)(void *)(block - HEAD) = (struct head){bytes, NULL};
    return block;
}

void free(void *block)
{
    if (!block) return;
    struct head *head = (struct head *)(void *)((uint8_t *)block - HEAD);
    if (head->mapping) {
        munmap(head->mapping, head->bytes);
        return;
    }
    unsigned rank = (unsigned)__builtin_ctzl((unsigned long)head->bytes);
    ((struct free_block *)block)->next = free_blocks[rank];
    free_blocks[rank] = block;
}

void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    void *block = malloc(bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

void *realloc(void *block, size_t size)
{
    void *larger = malloc(size);
    if (!larger || !block) return larger;
    struct head *head = (struct head *)(void *)((uint8_t *)block - HEAD);
    size_t had = head->mapping ? head->bytes - HEAD - 16 : head->bytes - HEAD;
    memcpy(larger, block, had < size ? had : size);
    free(block);
    return larger;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return map_block(alignment < 16 ? 16 : alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = aligned_alloc(alignment, size);
    return *block ? 0 : ENOMEM;
}

static void swap(uint8_t *a, uint8_t *b, size_t size)
{
    for (; size > 0; size--, a++, b++) {
        uint8_t keep = *a;
        *a = *b;
        *b = keep;
    }
}

/* Heap sort: no recursion, no memory, never slow. */
void qsort(void *base, size_t count, size_t size, int (*compare)(const void *a, const void *b))
{
    uint8_t *b = base;
    for (size_t start = count / 2, end = count; end > 1;) {
        if (start > 0)
            start--;
        else
            swap(b, b + --end * size, size);
        for (size_t root = start, child; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && compare(b + child * size, b + (child + 1) * size) < 0) child++;
            if (compare(b + root * size, b + child * size) >= 0) break;
            swap(b + root * size, b + child * size, size);
        }
    }
}
