/* SPDX-License-Identifier: Apache-2.0 */
#ifndef E8_CRC32C_H
#define E8_CRC32C_H

#include "names.h"

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, initial value and final xor 0xFFFFFFFF), as RFC 3720 defines it. */
uint32_t crc32c(const uint8_t *bytes, size_t size);

#endif
