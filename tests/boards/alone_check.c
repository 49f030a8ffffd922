/* SPDX-License-Identifier: Apache-2.0
 *
 * What cli/alone offers, tried: each argument is read as a number and printed in every form that the programs use, for
 * test_alone.py to compare; memory, sorting and threads check themselves. Exit code: 0, or the part that failed. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 600, NUMBERS = 1000, THREADS = 6, ROUNDS = 3000 };

static uint32_t state = 1;

static uint32_t next(void)
{
    return state = state * 1664525u + 1013904223u;
}

static int holds(const uint8_t *block, size_t size, uint8_t value)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != value) return 0;
    return 1;
}

/* Blocks keep their content while others come, grow and go. */
static int check_memory(void)
{
    static uint8_t *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    for (int i = 0; i < 20 * BLOCKS; i++) {
        size_t k = (next() >> 8) % BLOCKS, size = next() >> 8 & (next() & 1024 ? 0xFFFFu : 0xFFu);
        if (blocks[k] && !holds(blocks[k], sizes[k], (uint8_t)k)) return 0;
        if (next() & 2048) {
            free(blocks[k]);
            blocks[k] = malloc(size);
        } else {
            size_t kept = sizes[k] < size ? sizes[k] : size;
            blocks[k] = realloc(blocks[k], size);
            if (blocks[k] && !holds(blocks[k], kept, (uint8_t)k)) return 0;
        }
        if (!blocks[k] || ((uintptr_t)blocks[k] & 15u)) return 0;
        sizes[k] = size;
        memset(blocks[k], (int)k, size);
    }
    return malloc(SIZE_MAX - 64) == NULL && calloc(SIZE_MAX / 2, 4) == NULL;
}

/* Overlapping moves against moves by bytes. */
static int check_moves(void)
{
    uint8_t a[200], b[200];
    for (int round = 0; round < 2000; round++) {
        size_t size = (next() >> 8) % 100, from = (next() >> 8) % 100, to = (next() >> 8) % 100;
        for (size_t i = 0; i < sizeof a; i++) a[i] = b[i] = (uint8_t)next();
        memmove(a + to, a + from, size);
        for (size_t i = 0; i < size; i++) {
            size_t at = to < from ? i : size - 1 - i;
            b[to + at] = b[from + at];
        }
        if (memcmp(a, b, sizeof a) != 0) return 0;
    }
    return 1;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int check_sort(void)
{
    static double numbers[NUMBERS];
    for (size_t count = 0; count <= NUMBERS; count = 2 * count + 1) {
        double before = 0, after = 0;
        for (size_t i = 0; i < count; i++) before += numbers[i] = next() >> 20;
        qsort(numbers, count, sizeof numbers[0], by_value);
        for (size_t i = 0; i < count; i++) after += numbers[i];
        for (size_t i = 1; i < count; i++)
            if (numbers[i - 1] > numbers[i]) return 0;
        if (before != after) return 0;
    }
    return 1;
}

static pthread_mutex_t lock;
static pthread_cond_t changed;
static int started, total;

/* All wait for each other, then count under the lock. */
static void *work(void *argument)
{
    pthread_mutex_lock(&lock);
    started++;
    pthread_cond_broadcast(&changed);
    while (started < THREADS) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        total++;
        pthread_mutex_unlock(&lock);
    }
    return argument;
}

static int check_threads(void)
{
    pthread_t threads[THREADS];
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&changed, NULL);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0) return 0;
    for (int i = 0; i < THREADS; i++)
        if (pthread_join(threads[i], NULL) != 0) return 0;
    return total == THREADS * ROUNDS;
}

int main(int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        char *end;
        float value = strtof(arguments[i], &end);
        char cut[6];
        int length = snprintf(cut, sizeof cut, "%.3f", (double)value);
        printf("%.9g|%.1f|%.3f|%9.4f|%.6f|%s|%d|%d\n", (double)value, (double)value, (double)value, (double)value, (double)value, cut,
               length, *end);
        printf("%d|%ld|%llu|%08x|%-20s|%6s|%.*s|%c\n", (int)value, (long)value, (unsigned long long)(uint32_t)(int)value,
               (unsigned)(int)value, arguments[i], arguments[i], 2, arguments[i], arguments[i][0]);
    }
    if (!check_memory()) return 1;
    if (!check_moves()) return 2;
    if (!check_sort()) return 3;
    return check_threads() ? 0 : 4;
}
