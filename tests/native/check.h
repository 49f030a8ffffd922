/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel checks: every kernel of every level that this CPU has is compared with the reference, byte for byte, on buffers that end
 * or begin at an unreadable page. */
#ifndef E8_CHECK_H
#define E8_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernel.h"

/* What values an int8 buffer gets. */
enum fill { FILL_RANDOM, FILL_LOW, FILL_HIGH, FILL_ENDS, FILL_ZERO, FILL_SMALL, FILL_COUNT };

/* How often a kernel was compared. */
struct tally {
    const char *kernel;
    uint64_t compared;
};

struct context {
    const struct e8_kernels *reference, *kernels; /* kernels: the level under test */
    const struct e8_kernels *below;               /* with --own: the level below it */
    bool small;                                   /* small sizes, for very many cases */
    uint64_t random;
    uint64_t cases; /* how many to run per kernel */
    uint64_t compared;
    uint64_t failures;
    struct tally tally[64];
    /* For --bench: the core's clock, and what it can do in a cycle (0: unknown). A byte counts when it is read and when it is written. */
    double hertz, limit_s8, limit_f32, limit_bytes;
};

/* Whether a kernel is to be checked: with --own those that the level below does not have as they are. */
#define WANTED(c, kernel) (!(c)->below || (c)->kernels->kernel != (c)->below->kernel)

/* A family of kernels. */
struct family {
    const char *name;
    void (*check)(struct context *c);
    void (*bench)(struct context *c);
};
extern const struct family family_gemm, family_depthwise, family_elementwise, family_rows, family_int16, family_winograd;

/* Parts of family gemm. */
void check_picture(struct context *c);
void bench_picture(struct context *c);

/* Random numbers. */
uint64_t draw(struct context *c);
size_t between(struct context *c, size_t low, size_t high); /* inclusive */
int32_t draw_int(struct context *c, int32_t low, int32_t high);
float draw_float(struct context *c); /* of all magnitudes up to about 100 */

/* Memory whose last byte (or first, when `front`) touches an unreadable page (with --slack, lies so many bytes before it: emulators
 * read whole vectors where the processor reads a part). take() gives bytes aligned to `align` only if size
 * is a multiple of it or front is set. All of it is returned to the pool by release(). */
void *take(struct context *c, size_t size);
void *take_front(struct context *c, size_t size);
void release(void);

void fill_bytes(struct context *c, int8_t *p, size_t count, enum fill fill);
/* Weight codes: never -128. */
void fill_weights(struct context *c, int8_t *p, size_t count, enum fill fill);
void fill_floats(struct context *c, float *p, size_t count);

/* Count a comparison; report the first differing byte of a failure with `what`. */
void expect_same(struct context *c, const char *kernel, const void *expected, const void *got, size_t size, const char *what);

/* Seconds per call of `call` (best of several). */
double time_call(void (*call)(void *argument), void *argument);
/* Set the limits of c for its level. */
void measure_limits(struct context *c);
/* Print `amount` per cycle, and the share of `limit` unless that is 0. */
void report_rate(const struct context *c, const char *name, double amount, const char *unit, double limit, double seconds);

#endif
