/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread pool of edge8_pool.h. A run publishes a job and raises `round`; every worker takes task indices from a shared
 * counter until none is left. The counter carries the round in its upper half, so a worker that comes late from an earlier
 * round cannot take a task of the present one by mistake. The caller takes tasks too and then waits until `unfinished` is 0. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "edge8_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256, SPINS = 4000, CACHE_LINE = 64 };

typedef void (*_Atomic task_function)(void *argument, uint32_t index);

struct e8_pool {
    _Alignas(CACHE_LINE) atomic_uint_fast64_t next; /* round << 32 | next task index */
    _Alignas(CACHE_LINE) atomic_uint unfinished;    /* tasks of this round that have not returned */
    _Alignas(CACHE_LINE) atomic_uint round;         /* odd and even alike; a new value is a new job */
    atomic_uint sleepers;                           /* workers that wait on `wake` */
    atomic_bool stop;
    /* The job, written before `next` is. Atomic because a late worker of an earlier round may read it meanwhile. */
    task_function task;
    _Atomic(void *) argument;
    atomic_uint count;
    uint32_t workers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread[MAX_THREADS];
};

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* Take tasks of `round` until there are none. */
static void work(e8_pool *pool, uint32_t round)
{
    uint64_t seen = atomic_load_explicit(&pool->next, memory_order_acquire);
    for (;;) {
        if ((uint32_t)(seen >> 32) != round) return;
        uint32_t index = (uint32_t)seen;
        if (index >= atomic_load_explicit(&pool->count, memory_order_relaxed)) return;
        /* Only a successful exchange proves that the job read belongs to this round. */
        void (*task)(void *argument, uint32_t index) = atomic_load_explicit(&pool->task, memory_order_relaxed);
        void *argument = atomic_load_explicit(&pool->argument, memory_order_relaxed);
        if (!atomic_compare_exchange_weak_explicit(&pool->next, &seen, seen + 1, memory_order_acq_rel, memory_order_acquire)) continue;
        task(argument, index);
        atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_release);
        seen = atomic_load_explicit(&pool->next, memory_order_acquire);
    }
}

/* The next round after `last`, waiting for it; spins first. */
static uint32_t wait_for_round(e8_pool *pool, uint32_t last)
{
    for (int i = 0; i < SPINS; i++) {
        uint32_t round = atomic_load_explicit(&pool->round, memory_order_acquire);
        if (round != last) return round;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->round) == last) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return atomic_load_explicit(&pool->round, memory_order_acquire);
}

static void *worker(void *argument)
{
    e8_pool *pool = argument;
    uint32_t round = 0;
    for (;;) {
        round = wait_for_round(pool, round);
        if (atomic_load_explicit(&pool->stop, memory_order_acquire)) return NULL;
        work(pool, round);
    }
}

/* Raise the round and wake those who sleep. */
static void announce(e8_pool *pool, uint32_t round)
{
    atomic_store(&pool->round, round);
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void e8_pool_run(void *context, void (*task)(void *argument, uint32_t index), void *argument, uint32_t count)
{
    e8_pool *pool = context;
    if (pool->workers == 0 || count <= 1) {
        for (uint32_t i = 0; i < count; i++) task(argument, i);
        return;
    }
    uint32_t round = atomic_load_explicit(&pool->round, memory_order_relaxed) + 1;
    /* Close the old round before the job changes: nobody takes index UINT32_MAX. */
    atomic_store(&pool->next, (uint64_t)round << 32 | UINT32_MAX);
    atomic_store_explicit(&pool->task, task, memory_order_relaxed);
    atomic_store_explicit(&pool->argument, argument, memory_order_relaxed);
    atomic_store_explicit(&pool->count, count, memory_order_relaxed);
    atomic_store_explicit(&pool->unfinished, count, memory_order_relaxed);
    atomic_store_explicit(&pool->next, (uint64_t)round << 32, memory_order_release);
    announce(pool, round);
    work(pool, round);
    for (unsigned spins = 0; atomic_load_explicit(&pool->unfinished, memory_order_acquire) != 0; spins++) {
        pause_briefly();
        if (spins > SPINS) sched_yield(); /* a worker lost its CPU */
    }
}

/* CPUs that this thread may run on. */
static uint32_t usable_cpus(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (uint32_t)CPU_COUNT(&set);
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

e8_pool *e8_pool_create(uint32_t threads)
{
    uint32_t cpus = usable_cpus();
    if (threads > MAX_THREADS) return NULL;
    if (threads == 0 || threads > cpus) threads = cpus < MAX_THREADS ? cpus : MAX_THREADS;
    e8_pool *pool = aligned_alloc(CACHE_LINE, sizeof *pool);
    if (!pool) return NULL;
    atomic_init(&pool->next, UINT32_MAX);
    atomic_init(&pool->unfinished, 0);
    atomic_init(&pool->round, 0);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->stop, false);
    atomic_init(&pool->task, NULL);
    atomic_init(&pool->argument, NULL);
    atomic_init(&pool->count, 0);
    pool->workers = 0;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    while (pool->workers + 1 < threads) {
        if (pthread_create(&pool->thread[pool->workers], NULL, worker, pool) != 0) {
            e8_pool_destroy(pool);
            return NULL;
        }
        pool->workers++;
    }
    return pool;
}

uint32_t e8_pool_threads(const e8_pool *pool)
{
    return pool->workers + 1;
}

void e8_pool_destroy(e8_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->stop, true);
    announce(pool, atomic_load(&pool->round) + 1);
    for (uint32_t i = 0; i < pool->workers; i++) pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

uint64_t e8_clock_ns(void *context)
{
    struct timespec now;
    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
