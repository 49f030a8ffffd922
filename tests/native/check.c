/* SPDX-License-Identifier: Apache-2.0
 *
 * usage: check_kernels [--bench] [--cases N] [--seed N] [--level NAME] [--family NAME] [--slack N] [--own] [--small] [--tally]
 * Runs every level that this CPU has, in ascending order; says which it lacks. Exit code 1 when a byte differs. --own checks of each
 * level only the kernels that differ from the level below, --small draws small sizes: both for very many cases. --tally counts the
 * comparisons of each kernel. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cpu.h"
#include "edge8.h"

static const struct family *const FAMILIES[] = {
    &family_gemm, &family_depthwise, &family_elementwise, &family_rows, &family_int16, &family_winograd,
};
enum { FAMILY_COUNT = sizeof FAMILIES / sizeof FAMILIES[0] };

/* Levels with the mask that forces them. */
static const struct {
    const char *name;
    uint32_t mask;
} LEVELS[] = {
    {"reference", 0},
    {"sse41", CPU_SSE4},
    {"avx2", CPU_SSE4 | CPU_AVX2},
    {"avxvnni", CPU_SSE4 | CPU_AVX2 | CPU_AVX_VNNI},
    {"avx512vnni", CPU_SSE4 | CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI},
    {"vfpv4", CPU_VFPV4},
    {"neon", CPU_NEON},
    {"neon-vfpv4", CPU_NEON | CPU_VFPV4},
    {"dotprod", CPU_NEON | CPU_DOTPROD},
    {"dotprod-wide", CPU_NEON | CPU_DOTPROD | CPU_WIDE},
    {"i8mm", CPU_NEON | CPU_DOTPROD | CPU_I8MM},
};
enum { LEVEL_COUNT = sizeof LEVELS / sizeof LEVELS[0] };

uint64_t draw(struct context *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random * 0x2545F4914F6CDD1Du;
}

size_t between(struct context *c, size_t low, size_t high)
{
    return low + (size_t)(draw(c) >> 32) % (high - low + 1);
}

int32_t draw_int(struct context *c, int32_t low, int32_t high)
{
    return (int32_t)(low + (int64_t)((draw(c) >> 32) % (uint64_t)((int64_t)high - low + 1)));
}

float draw_float(struct context *c)
{
    float unit = (float)draw_int(c, -1000000, 1000000) * 1e-6f;
    static const float magnitude[] = {1.0f, 1.0f, 1.0f, 100.0f, 1e-3f, 1e-6f};
    return unit * magnitude[between(c, 0, 5)];
}

/* Regions between unreadable pages, handed out in turn. */
enum { REGIONS = 24, REGION_BYTES = 1 << 21 };
static uint8_t *regions[REGIONS];
static int regions_taken;
static size_t slack; /* readable bytes after the end of a buffer */

static uint8_t *region(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size + slack > REGION_BYTES || regions_taken == REGIONS) {
        fprintf(stderr, "check: a case needs too much memory\n");
        exit(2);
    }
    if (!regions[regions_taken]) {
        uint8_t *p = mmap(NULL, REGION_BYTES + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + page, REGION_BYTES, PROT_READ | PROT_WRITE) != 0) {
            perror("check: mmap");
            exit(2);
        }
        regions[regions_taken] = p + page;
    }
    return regions[regions_taken++];
}

void *take(struct context *c, size_t size)
{
    (void)c;
    return region(size) + REGION_BYTES - slack - size;
}

void *take_front(struct context *c, size_t size)
{
    (void)c;
    return region(size);
}

void release(void)
{
    regions_taken = 0;
}

void fill_bytes(struct context *c, int8_t *p, size_t count, enum fill fill)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)(draw(c) >> 40);
        switch (fill) {
        case FILL_LOW: p[i] = -128; break;
        case FILL_HIGH: p[i] = 127; break;
        case FILL_ENDS: p[i] = bits & 1 ? 127 : -128; break;
        case FILL_ZERO: p[i] = 0; break;
        case FILL_SMALL: p[i] = (int8_t)((int)(bits % 33) - 16); break;
        default: p[i] = (int8_t)bits; break;
        }
    }
}

void fill_weights(struct context *c, int8_t *p, size_t count, enum fill fill)
{
    fill_bytes(c, p, count, fill);
    for (size_t i = 0; i < count; i++)
        if (p[i] == -128) p[i] = -127;
}

void fill_floats(struct context *c, float *p, size_t count)
{
    for (size_t i = 0; i < count; i++) p[i] = draw_float(c);
}

static void count_kernel(struct context *c, const char *kernel)
{
    size_t i = 0, most = sizeof c->tally / sizeof c->tally[0];
    while (i < most && c->tally[i].kernel && strcmp(c->tally[i].kernel, kernel) != 0) i++;
    if (i == most) {
        fprintf(stderr, "check: too many kernels for the tally\n");
        exit(2);
    }
    c->tally[i].kernel = kernel;
    c->tally[i].compared++;
}

void expect_same(struct context *c, const char *kernel, const void *expected, const void *got, size_t size, const char *what)
{
    const uint8_t *a = expected, *b = got;
    c->compared++;
    count_kernel(c, kernel);
    if (memcmp(a, b, size) == 0) return;
    size_t at = 0;
    while (a[at] == b[at]) at++;
    if (++c->failures <= 20)
        printf("FAIL %s/%s: byte %zu of %zu is %02x, expected %02x (%s)\n", c->kernels->level, kernel, at, size, b[at], a[at], what);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double time_call(void (*call)(void *argument), void *argument)
{
    double best = 1e9;
    unsigned repeat = 1;
    call(argument);
    for (int round = 0; round < 25; round++) {
        double begin = now();
        for (unsigned i = 0; i < repeat; i++) call(argument);
        double each = (now() - begin) / repeat;
        if (each < best) best = each;
        if (round == 0 && each < 1e-4) repeat = (unsigned)(1e-4 / (each + 1e-9)) + 1;
    }
    return best;
}

void report_rate(const struct context *c, const char *name, double amount, const char *unit, double limit, double seconds)
{
    double rate = amount / (seconds * c->hertz);
    printf("  %-44s %8.2f %s/cycle", name, rate, unit);
    if (limit > 0) printf("  %3.0f %% of %.1f", 100 * rate / limit, limit);
    printf("\n");
}

/* Core clock from a chain of dependent additions, one per cycle. */
static void add_chain(void *argument)
{
    uint64_t x = 1;
    for (int i = 0; i < 100000; i++) {
        for (int k = 0; k < 8; k++) {
            x += 3;
            __asm__ volatile("" : "+r"(x));
        }
    }
    *(uint64_t *)argument = x;
}

static double core_hertz(void)
{
    uint64_t sink;
    return 800000.0 / time_call(add_chain, &sink);
}

static const char *option(int argc, char **argv, const char *name, const char *absent)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0) return i + 1 < argc ? argv[i + 1] : "";
    return absent;
}

static uint64_t run_level(int argc, char **argv, const struct e8_kernels *reference, const struct e8_kernels *below)
{
    const char *family = option(argc, argv, "--family", NULL);
    bool bench = option(argc, argv, "--bench", NULL) != NULL;
    struct context c = {
        .reference = reference,
        .kernels = e8_kernels_for_cpu(),
        .below = option(argc, argv, "--own", NULL) ? below : NULL,
        .small = option(argc, argv, "--small", NULL) != NULL,
        .random = strtoull(option(argc, argv, "--seed", "1"), NULL, 10) * 0x9E3779B97F4A7C15u + 1,
        .cases = strtoull(option(argc, argv, "--cases", "2000"), NULL, 10),
        .hertz = bench ? core_hertz() : 0,
    };
    if (bench) measure_limits(&c);
    for (int i = 0; i < FAMILY_COUNT; i++) {
        if (family && strcmp(family, FAMILIES[i]->name) != 0) continue;
        if (bench) {
            printf("%s %s (%.2f GHz)\n", c.kernels->level, FAMILIES[i]->name, c.hertz * 1e-9);
            FAMILIES[i]->bench(&c);
        } else {
            uint64_t before = c.compared;
            FAMILIES[i]->check(&c);
            printf("%-12s %-12s %8llu comparisons, %llu failures\n", c.kernels->level, FAMILIES[i]->name,
                   (unsigned long long)(c.compared - before), (unsigned long long)c.failures);
        }
    }
    for (size_t i = 0; option(argc, argv, "--tally", NULL) && c.tally[i].kernel; i++)
        printf("  %-24s %10llu\n", c.tally[i].kernel, (unsigned long long)c.tally[i].compared);
    return c.failures;
}

int main(int argc, char **argv)
{
    const char *only = option(argc, argv, "--level", NULL);
    uint64_t failures = 0;
    slack = strtoull(option(argc, argv, "--slack", "0"), NULL, 10);
    e8_cpu_restrict(0);
    const struct e8_kernels *reference = e8_kernels_for_cpu();
    struct e8_kernels below = *reference;
    for (int i = 0; i < LEVEL_COUNT; i++) {
        e8_cpu_restrict(LEVELS[i].mask);
        bool wanted = !only || strcmp(only, LEVELS[i].name) == 0;
        if (strcmp(e8_cpu_level(), LEVELS[i].name) != 0) {
            if (!wanted) continue;
            printf("%-12s skipped: this CPU or this build does not have it\n", LEVELS[i].name);
            continue;
        }
        if (wanted) failures += run_level(argc, argv, reference, &below);
        below = *e8_kernels_for_cpu();
    }
    return failures != 0;
}
