/* SPDX-License-Identifier: Apache-2.0
 *
 * What the system shows: memory, temperature, clocks; and keeping to cores. All of it may be absent. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <sched.h>
#endif

#include "run.h"

void read_start(const char *path, char *text, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = descriptor < 0 ? 0 : read(descriptor, text, size - 1);
    text[count > 0 ? count : 0] = 0;
    if (descriptor >= 0) close(descriptor);
}

/* The number that follows `name` in a text, or -1. */
static long number_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    if (!at) return -1;
    for (at += strlen(name); *at == ' ' || *at == '\t'; at++) {
    }
    return *at >= '0' && *at <= '9' ? strtol(at, NULL, 10) : -1;
}

static long read_number(const char *path)
{
    char text[32];
    read_start(path, text, sizeof text);
    return number_after(text, "");
}

uint64_t available_memory(void)
{
    char text[512];
    read_start("/proc/meminfo", text, sizeof text);
    long kilobytes = number_after(text, "MemAvailable:");
    return kilobytes < 0 ? UINT64_MAX : (uint64_t)kilobytes * 1024;
}

double temperature(void)
{
    double hottest = -1;
    for (int zone = 0; zone < 32; zone++) {
        char path[80];
        snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", zone);
        long value = read_number(path);
        if (value > 0 && (double)value / 1000 > hottest) hottest = (double)value / 1000;
    }
    return hottest;
}

long frequency(int core, const char *what)
{
    char path[100];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/%s", core, what);
    return read_number(path);
}

#ifdef __linux__
enum { MOST_CORES = 256 };

/* The cores with the highest or lowest maximal clock. */
static int cores_by_clock(bool fastest, cpu_set_t *set)
{
    long best = -1;
    bool differ = false;
    for (int core = 0; core < MOST_CORES; core++) {
        long clock = frequency(core, "cpuinfo_max_freq");
        if (clock < 0) continue;
        if (best >= 0 && clock != best) differ = true;
        if (best < 0 || (fastest ? clock > best : clock < best)) best = clock;
    }
    if (!differ) return complain(EXIT_USAGE, "--cores: the system shows no big and little cores; give numbers, such as 0,1");
    for (int core = 0; core < MOST_CORES; core++)
        if (frequency(core, "cpuinfo_max_freq") == best) CPU_SET((size_t)core, set);
    return EXIT_DONE;
}

static int cores_by_number(const char *text, cpu_set_t *set)
{
    for (const char *at = text;;) {
        char *end;
        long core = strtol(at, &end, 10);
        if (end == at || core < 0 || core >= MOST_CORES || (*end != ',' && *end != 0))
            return complain(EXIT_USAGE, "--cores takes numbers such as 0,1, or big, or little; got %s", text);
        CPU_SET((size_t)core, set);
        if (*end == 0) return EXIT_DONE;
        at = end + 1;
    }
}

int pin_cores(const char *cores)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    bool big = strcmp(cores, "big") == 0, little = strcmp(cores, "little") == 0;
    int code = big || little ? cores_by_clock(big, &set) : cores_by_number(cores, &set);
    if (code != EXIT_DONE) return code;
    if (sched_setaffinity(0, sizeof set, &set) != 0) return complain(EXIT_USAGE, "--cores %s: %s", cores, strerror(errno));
    return EXIT_DONE;
}
#else
int pin_cores(const char *cores)
{
    return complain(EXIT_USAGE, "--cores %s: this system cannot keep a process on cores", cores);
}
#endif
