/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers on the command line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

int whole_number(const char *name, const char *text, uint32_t most, uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long long number = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 0) : 0;
    if (!text || *text < '0' || *text > '9' || *end != 0 || errno != 0 || number > most)
        return complain(EXIT_USAGE, "%s takes a whole number of at most %u, got %s", name, most, text ? text : "nothing");
    *value = (uint32_t)number;
    return EXIT_DONE;
}

/* "a,b,c", or one number for all. */
int three_numbers(const char *name, const char *text, bool zero, float values[3])
{
    const char *at = text;
    int count = 0;
    while (at && *at && count < 3) {
        char *end;
        values[count] = strtof(at, &end);
        if (end == at || (!zero && values[count] == 0.0f)) break;
        count++;
        at = *end == ',' ? end + 1 : end;
        if (*end != ',') break;
    }
    if (!at || *at || (count != 1 && count != 3))
        return complain(EXIT_USAGE, "%s takes one or three numbers%s, such as 127.5,127.5,127.5", name, zero ? "" : " that are not 0");
    if (count == 1) values[1] = values[2] = values[0];
    return EXIT_DONE;
}
