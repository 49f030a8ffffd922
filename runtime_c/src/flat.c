/* SPDX-License-Identifier: Apache-2.0 */
#include "flat.h"

/* Follow the forward offset stored at `at` (four bytes known to be inside): the target must leave room for four bytes. */
static bool follow(struct flat_buffer b, uint32_t at, uint32_t *target)
{
    uint32_t offset = flat_load32(b.bytes + at);
    if (offset < 4 || offset > b.size - at || b.size - at - offset < 4) return false;
    *target = at + offset;
    return (*target & 3u) == 0;
}

static bool verify_vector(struct flat_buffer b, uint32_t position, uint32_t element_bytes, uint32_t *count)
{
    *count = flat_load32(b.bytes + position);
    /* The data follows the count; eight-byte elements must be eight-byte aligned. */
    if (((position + 4) & (element_bytes - 1)) != 0) return false;
    return *count <= (b.size - position - 4) / element_bytes;
}

static bool verify_tables(struct flat_buffer b, uint32_t position)
{
    uint32_t count, target;
    if (!verify_vector(b, position, 4, &count)) return false;
    for (uint32_t i = 0; i < count; i++)
        if (!follow(b, position + 4 + 4 * i, &target)) return false;
    return true;
}

static bool verify_string(struct flat_buffer b, uint32_t position)
{
    uint32_t count;
    if (!verify_vector(b, position, 1, &count)) return false;
    return count < b.size - position - 4 && b.bytes[position + 4 + count] == 0;
}

static bool verify_field(struct flat_buffer b, uint32_t at, struct flat_field field)
{
    uint32_t target, count;
    if (field.kind == FLAT_SCALAR) return true;
    if (!follow(b, at, &target)) return false;
    switch (field.kind) {
    case FLAT_VECTOR: return verify_vector(b, target, field.size, &count);
    case FLAT_STRING: return verify_string(b, target);
    case FLAT_TABLES: return verify_tables(b, target);
    default: return true;
    }
}

uint32_t flat_root(struct flat_buffer b, const char identifier[4])
{
    uint32_t root;
    if (b.size < 12 || b.size > 0x7FFFFFFFu || memcmp(b.bytes + 4, identifier, 4) != 0) return 0;
    return follow(b, 0, &root) ? root : 0;
}

bool flat_verify_table(struct flat_buffer b, uint32_t position, const struct flat_field *fields, size_t count)
{
    if (position > b.size - 4 || (position & 3u)) return false;
    int64_t v = (int64_t)position - (int32_t)flat_load32(b.bytes + position);
    if (v < 0 || (v & 1) || v + 4 > (int64_t)b.size) return false;
    uint32_t vtable = (uint32_t)v;
    uint32_t vtable_bytes = flat_load16(b.bytes + vtable), table_bytes = flat_load16(b.bytes + vtable + 2);
    if (vtable_bytes < 4 || (vtable_bytes & 1u) || vtable_bytes > b.size - vtable) return false;
    if (table_bytes < 4 || table_bytes > b.size - position) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct flat_field field = fields[i];
        uint32_t slot = 4 + 2 * i;
        uint32_t offset = slot + 2 <= vtable_bytes ? flat_load16(b.bytes + vtable + slot) : 0;
        uint32_t inline_bytes = field.kind == FLAT_SCALAR ? field.size : 4;
        if (offset == 0) {
            if (field.required) return false;
            continue;
        }
        if (offset < 4 || offset > table_bytes || table_bytes - offset < inline_bytes) return false;
        if (((position + offset) & (inline_bytes - 1)) != 0) return false;
        if (!verify_field(b, position + offset, field)) return false;
    }
    return true;
}
