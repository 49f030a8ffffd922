/* SPDX-License-Identifier: Apache-2.0
 *
 * What the system shows: memory, temperature, clocks; and keeping to cores. All of it may be absent. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <sched.h>
#endif

#include "run.h"

static long read_number(const char *path)
{
    long value = -1;
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    if (fscanf(file, "%ld", &value) != 1) value = -1;
    fclose(file);
    return value;
}

uint64_t available_memory(void)
{
    char line[128];
    unsigned long long kilobytes = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file) return UINT64_MAX;
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) found = sscanf(line, "MemAvailable: %llu", &kilobytes) == 1;
    fclose(file);
    return found ? kilobytes * 1024 : UINT64_MAX;
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
