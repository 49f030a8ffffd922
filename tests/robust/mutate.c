/* SPDX-License-Identifier: Apache-2.0
 *
 * mutate FILE VALUES: opens FILE truncated at every length, and with every byte changed to VALUES other values; what is accepted
 * is run. Links the fuzz target (built without the CRC check), so sanitizers see every access. Prints how many cases it tried. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    FILE *file = fopen(argv[1], "rb");
    if (!file) return 2;
    static uint8_t bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    unsigned values = (unsigned)atoi(argv[2]);
    unsigned long cases = 0;
    fclose(file);
    for (size_t length = 0; length < size; length++, cases++) (void)LLVMFuzzerTestOneInput(bytes, length);
    for (size_t at = 0; at < size; at++) {
        const uint8_t keep = bytes[at];
        const uint8_t telling[] = {0x01, 0x80, 0xFF, 0x7F, keep, (uint8_t)(keep ^ 0xFF), 0x04, 0x40};
        for (unsigned k = 0; k < values; k++, cases++) {
            bytes[at] = k < sizeof telling ? (uint8_t)(keep ^ telling[k]) : (uint8_t)(keep + k);
            (void)LLVMFuzzerTestOneInput(bytes, size);
        }
        bytes[at] = keep;
    }
    printf("%lu cases\n", cases);
    return 0;
}
