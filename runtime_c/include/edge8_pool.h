/* SPDX-License-Identifier: Apache-2.0
 *
 * edge8_pool.h - a small thread pool whose parallel-for fits e8_session_parallel. It is a library of its own beside the
 * runtime (it needs POSIX threads and malloc, which the runtime does not).
 *
 *     e8_pool *pool = e8_pool_create(4);
 *     e8_session_parallel(&session, e8_pool_run, pool);
 *     ...
 *     e8_pool_destroy(pool);
 *
 * A pool of n threads has n - 1 workers; the caller of e8_pool_run is the n-th. Workers that wait spin for a few
 * microseconds, since a network's operators follow each other closely, and sleep afterwards: a pool that has nothing to do
 * uses no time. Workers inherit the CPU affinity of the thread that creates the pool, and a pool has at most as many threads
 * as that thread has CPUs, so a pinned process is not slowed down by threads that wait for each other.
 *
 * One pool serves one caller at a time: two sessions that run at once need two pools. */
#ifndef EDGE8_POOL_H
#define EDGE8_POOL_H

#include "edge8.h"

#ifdef __cplusplus
extern "C" {
#endif

/* CFFI-BEGIN */

typedef struct e8_pool e8_pool;

/* A pool of `threads` (1 to 256; 0: one per CPU that the process may use), or NULL when memory or threads are not to be had. */
E8_API e8_pool *e8_pool_create(uint32_t threads);

/* Threads of the pool, with the caller. */
E8_API uint32_t e8_pool_threads(const e8_pool *pool);

/* The e8_parallel of a pool: `context` is the e8_pool. */
E8_API void e8_pool_run(void *context, void (*task)(void *argument, uint32_t index), void *argument, uint32_t count);

/* End the workers and free the pool; NULL is allowed. No e8_pool_run may be under way. */
E8_API void e8_pool_destroy(e8_pool *pool);

/* An e8_clock: nanoseconds of the system's monotonic clock. */
E8_API uint64_t e8_clock_ns(void *context);

/* CFFI-END */

#ifdef __cplusplus
}
#endif
#endif
