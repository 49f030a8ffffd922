/* SPDX-License-Identifier: Apache-2.0
 *
 * The program's start, and the functions of POSIX that are system calls. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "alone.h"

/* A system call of one to six arguments, its result in C's manner. */
#define CALL(number, ...) alone_result(CALL6(number, __VA_ARGS__, 0, 0, 0, 0, 0, 0))
#define CALL6(number, a, b, c, d, e, f, ...) alone_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static int last_error; /* of the main thread: workers make no calls that fail */
static const uintptr_t *auxiliary;

int main(int count, char **arguments);

int *__errno_location(void)
{
    return &last_error;
}

long alone_result(long value)
{
    if (value > -4096 && value < 0) {
        last_error = (int)-value;
        return -1;
    }
    return value;
}

void exit(int code)
{
    fflush(stdout);
    for (;;) alone_call(SYS_exit_group, code, 0, 0, 0, 0, 0);
}

void alone_start(uintptr_t *stack)
{
    int count = (int)stack[0];
    uintptr_t *at = stack + 1 + count + 1;
    while (*at) at++;
    auxiliary = at + 1;
    exit(main(count, (char **)(stack + 1)));
}

unsigned long getauxval(unsigned long type)
{
    for (const uintptr_t *at = auxiliary; at[0]; at += 2)
        if (at[0] == type) return at[1];
    return 0;
}

/* What libgcc calls. */
unsigned long __getauxval(unsigned long type)
{
    return getauxval(type);
}

int raise(int number)
{
    return (int)CALL(SYS_kill, alone_call(SYS_getpid, 0, 0, 0, 0, 0, 0), number);
}

int open(const char *path, int flags, ...)
{
    return (int)CALL(SYS_openat, AT_FDCWD, path, flags, 0600);
}

int close(int descriptor)
{
    return (int)CALL(SYS_close, descriptor);
}

ssize_t read(int descriptor, void *bytes, size_t size)
{
    return CALL(SYS_read, descriptor, bytes, size);
}

ssize_t write(int descriptor, const void *bytes, size_t size)
{
    return CALL(SYS_write, descriptor, bytes, size);
}

int fsync(int descriptor)
{
    return (int)CALL(SYS_fsync, descriptor);
}

int fchmod(int descriptor, mode_t mode)
{
    return (int)CALL(SYS_fchmod, descriptor, mode);
}

int unlink(const char *path)
{
    return (int)CALL(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rename(const char *from, const char *to)
{
#if defined(SYS_renameat)
    return (int)CALL(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
#else
    return (int)CALL(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
#endif
}

int mkstemp(char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEF";
    char *end = name + strlen(name) - 6;
    struct timespec now;
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t state = (uint64_t)now.tv_nsec * 2654435761u + (uint64_t)alone_call(SYS_getpid, 0, 0, 0, 0, 0, 0) * 40503u + attempt;
        for (unsigned i = 0; i < 6; i++) end[i] = letters[state >> (5 * i + 3) & 31u];
        long descriptor = CALL(SYS_openat, AT_FDCWD, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (descriptor >= 0 || last_error != EEXIST) return (int)descriptor;
    }
    return -1;
}

#if defined(__arm__)
/* The kernel's stat64; glibc's struct stat is another. */
static int read_stat(int descriptor, const char *path, struct stat *info)
{
    _Alignas(8) uint8_t raw[128];
    uint64_t size;
    uint32_t mode;
    long code = path ? CALL(SYS_fstatat64, AT_FDCWD, path, raw, 0) : CALL(SYS_fstat64, descriptor, raw);
    memset(info, 0, sizeof *info);
    if (code != 0) return -1;
    memcpy(&mode, raw + 16, sizeof mode);
    memcpy(&size, raw + 48, sizeof size);
    if (size > INT32_MAX) {
        last_error = EOVERFLOW;
        return -1;
    }
    info->st_mode = mode;
    info->st_size = (off_t)size;
    return 0;
}
#else
static int read_stat(int descriptor, const char *path, struct stat *info)
{
    return (int)(path ? CALL(SYS_newfstatat, AT_FDCWD, path, info, 0) : CALL(SYS_fstat, descriptor, info));
}
#endif

int fstat(int descriptor, struct stat *info)
{
    return read_stat(descriptor, NULL, info);
}

int stat(const char *restrict path, struct stat *restrict info)
{
    return read_stat(-1, path, info);
}

void *mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t offset)
{
#if defined(SYS_mmap2)
    return (void *)CALL(SYS_mmap2, address, size, protection, flags, descriptor, offset / 4096);
#else
    return (void *)CALL(SYS_mmap, address, size, protection, flags, descriptor, offset);
#endif
}

int munmap(void *address, size_t size)
{
    return (int)CALL(SYS_munmap, address, size);
}

int mprotect(void *address, size_t size, int protection)
{
    return (int)CALL(SYS_mprotect, address, size, protection);
}

/* A folder that is read; entries as the kernel gives them. */
struct __dirstream {
    int descriptor;
    long filled, at;
    struct dirent entry;
    _Alignas(8) uint8_t block[4096];
};

enum { ENTRY_LENGTH = 16, ENTRY_NAME = 19 }; /* offsets in linux_dirent64 */

DIR *opendir(const char *path)
{
    int descriptor = (int)CALL(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    DIR *folder = descriptor < 0 ? NULL : calloc(1, sizeof *folder);
    if (!folder && descriptor >= 0) close(descriptor);
    if (folder) folder->descriptor = descriptor;
    return folder;
}

struct dirent *readdir(DIR *folder)
{
    uint16_t length;
    if (folder->at >= folder->filled) {
        folder->filled = CALL(SYS_getdents64, folder->descriptor, folder->block, sizeof folder->block);
        folder->at = 0;
        if (folder->filled <= 0) return NULL;
    }
    const uint8_t *raw = folder->block + folder->at;
    memcpy(&length, raw + ENTRY_LENGTH, sizeof length);
    folder->at += length;
    size_t name = strlen((const char *)raw + ENTRY_NAME);
    if (name >= sizeof folder->entry.d_name) name = sizeof folder->entry.d_name - 1;
    memcpy(folder->entry.d_name, raw + ENTRY_NAME, name);
    folder->entry.d_name[name] = 0;
    return &folder->entry;
}

int closedir(DIR *folder)
{
    int code = close(folder->descriptor);
    free(folder);
    return code;
}

/* The kernel's form of struct sigaction. */
struct kernel_action {
    void (*handler)(int number);
    unsigned long flags;
#if !defined(__riscv)
    void (*restorer)(void);
#endif
    uint64_t mask;
};

#if defined(__x86_64__)
void alone_restore(void);
#endif

int sigaction(int number, const struct sigaction *restrict action, struct sigaction *restrict old)
{
    struct kernel_action k = {.handler = action->sa_handler, .flags = (unsigned long)(unsigned)action->sa_flags};
    (void)old;
#if defined(__x86_64__)
    k.flags |= 0x04000000; /* SA_RESTORER */
    k.restorer = alone_restore;
#endif
    return (int)CALL(SYS_rt_sigaction, number, &k, 0, sizeof k.mask);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    return (int)CALL(SYS_clock_gettime, clock, now);
}

int getrusage(__rusage_who_t who, struct rusage *usage)
{
    return (int)CALL(SYS_getrusage, who, usage);
}

int sched_setaffinity(pid_t process, size_t size, const cpu_set_t *set)
{
    return (int)CALL(SYS_sched_setaffinity, process, size, set);
}

int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set)
{
    memset(set, 0, size);
    return CALL(SYS_sched_getaffinity, process, size, set) < 0 ? -1 : 0;
}

int __sched_cpucount(size_t size, const cpu_set_t *set)
{
    int count = 0;
    for (size_t i = 0; i < size; i++)
        for (unsigned byte = ((const uint8_t *)set)[i]; byte; byte &= byte - 1) count++;
    return count;
}

int sched_yield(void)
{
    return (int)CALL(SYS_sched_yield, 0);
}

long sysconf(int name)
{
    (void)name;
    return 1; /* processors, where sched_getaffinity does not tell */
}
