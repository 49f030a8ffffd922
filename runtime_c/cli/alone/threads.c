/* SPDX-License-Identifier: Apache-2.0
 *
 * As much of POSIX threads as the pool takes, on futexes. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "alone.h"

enum { STACK_BYTES = 256 * 1024 };

/* At the lowest bytes of the thread's stack. */
struct thread {
    void *(*function)(void *argument);
    void *argument;
    int tid;
};

static void futex(void *word, int what, int value)
{
    alone_call(SYS_futex, (long)(uintptr_t)word, what, value, 0, 0, 0);
}

void alone_thread(void *record)
{
    struct thread *t = record;
    t->function(t->argument);
    for (;;) alone_call(SYS_exit, 0, 0, 0, 0, 0, 0);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
    (void)attributes;
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) return 11; /* EAGAIN */
    struct thread *t = stack;
    *t = (struct thread){.function = function, .argument = argument, .tid = 1};
    long made = alone_clone((uint8_t *)stack + STACK_BYTES, t, &t->tid);
    if (made < 0) {
        munmap(stack, STACK_BYTES);
        return (int)-made;
    }
    *thread = (pthread_t)(uintptr_t)t;
    return 0;
}

int pthread_join(pthread_t thread, void **result)
{
    struct thread *t = (struct thread *)(uintptr_t)thread;
    (void)result;
    for (int tid; (tid = __atomic_load_n(&t->tid, __ATOMIC_ACQUIRE)) != 0;) futex(&t->tid, FUTEX_WAIT, tid);
    return munmap(t, STACK_BYTES);
}

/* A mutex's first word: 0 free, 1 locked, 2 locked and somebody waits. */
static atomic_int *word_of(void *object)
{
    return object;
}

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    (void)attributes;
    atomic_store(word_of(mutex), 0);
    return 0;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    int expected = 0;
    if (atomic_compare_exchange_strong(word_of(mutex), &expected, 1)) return 0;
    while (atomic_exchange(word_of(mutex), 2) != 0) futex(mutex, FUTEX_WAIT_PRIVATE, 2);
    return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    if (atomic_exchange(word_of(mutex), 0) == 2) futex(mutex, FUTEX_WAKE_PRIVATE, 1);
    return 0;
}

int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

/* A condition's first word counts the broadcasts. */
int pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    (void)attributes;
    atomic_store(word_of(condition), 0);
    return 0;
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    int seen = atomic_load(word_of(condition));
    pthread_mutex_unlock(mutex);
    futex(condition, FUTEX_WAIT_PRIVATE, seen);
    return pthread_mutex_lock(mutex);
}

int pthread_cond_broadcast(pthread_cond_t *condition)
{
    atomic_fetch_add(word_of(condition), 1);
    futex(condition, FUTEX_WAKE_PRIVATE, INT32_MAX);
    return 0;
}

int pthread_cond_destroy(pthread_cond_t *condition)
{
    (void)condition;
    return 0;
}
