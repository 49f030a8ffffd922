/* SPDX-License-Identifier: Apache-2.0
 *
 * The first process of an emulated board: mounts what programs expect, runs the program whose arguments are the lines of
 * /command, prints how it ended, and switches the machine off. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    static char text[4096];
    char *arguments[64];
    int count = 0, status = -1;
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    setenv("LD_LIBRARY_PATH", "/usr/lib/aarch64-linux-gnu/blas:/usr/lib/aarch64-linux-gnu/lapack", 1);
    setenv("PYTHONPATH", "/site", 1);
    FILE *file = fopen("/command", "r");
    if (file) {
        size_t size = fread(text, 1, sizeof text - 1, file);
        text[size] = 0;
        fclose(file);
    }
    for (char *line = strtok(text, "\n"); line && count < 63; line = strtok(NULL, "\n")) arguments[count++] = line;
    arguments[count] = NULL;
    pid_t child = fork();
    if (child == 0) {
        execv(arguments[0], arguments);
        perror(arguments[0]);
        _exit(127);
    }
    waitpid(child, &status, 0);
    printf("\nboard: ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 0;
}
