/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading FlatBuffers. flat_verify_table checks everything that the accessors below it rely on: offsets inside the buffer,
 * alignment, field sizes, zero-terminated strings. It looks at one table; the caller (model.c) walks from table to table,
 * so there is no recursion and the work is bounded by what the caller visits. Accessors may be used on verified tables only;
 * they read little-endian bytes on any host. */
#ifndef E8_FLAT_H
#define E8_FLAT_H

#include "names.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { FLAT_SCALAR, FLAT_VECTOR, FLAT_STRING, FLAT_TABLE, FLAT_TABLES };

/* One field of a table, from schema_generated.h. `size` is the bytes of a scalar or of a vector's element. */
struct flat_field {
    uint8_t kind, size, required;
};

/* The buffer under verification. */
struct flat_buffer {
    const uint8_t *bytes;
    uint32_t size;
};

/* A vector inside the buffer; count 0 and bytes NULL when the field is absent. */
struct flat_vector {
    const uint8_t *bytes;
    uint32_t count;
};

/* Position of the root table, or 0 when the buffer is too short, misaligned or lacks the identifier. */
uint32_t flat_root(struct flat_buffer buffer, const char identifier[4]);

/* True when the table at `position` and its own scalars, vectors and strings lie inside the buffer. Tables that it refers to
 * are checked for position only. */
bool flat_verify_table(struct flat_buffer buffer, uint32_t position, const struct flat_field *fields, size_t count);

static inline uint16_t flat_load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t flat_load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t flat_load64(const uint8_t *p)
{
    return (uint64_t)flat_load32(p) | (uint64_t)flat_load32(p + 4) << 32;
}

static inline float flat_load_float(const uint8_t *p)
{
    uint32_t bits = flat_load32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Address of field `id`, or NULL when the table does not carry it. */
static inline const uint8_t *flat_field_at(const uint8_t *table, uint32_t id)
{
    const uint8_t *vtable = table - (int32_t)flat_load32(table);
    uint32_t slot = 4 + 2 * id;
    if (slot + 2 > flat_load16(vtable)) return NULL;
    uint32_t offset = flat_load16(vtable + slot);
    return offset ? table + offset : NULL;
}

static inline int32_t flat_int(const uint8_t *table, uint32_t id, int32_t absent)
{
    const uint8_t *p = flat_field_at(table, id);
    return p ? (int32_t)flat_load32(p) : absent;
}

static inline uint32_t flat_uint(const uint8_t *table, uint32_t id, uint32_t absent)
{
    const uint8_t *p = flat_field_at(table, id);
    return p ? flat_load32(p) : absent;
}

static inline uint64_t flat_ulong(const uint8_t *table, uint32_t id, uint64_t absent)
{
    const uint8_t *p = flat_field_at(table, id);
    return p ? flat_load64(p) : absent;
}

static inline uint8_t flat_byte(const uint8_t *table, uint32_t id, uint8_t absent)
{
    const uint8_t *p = flat_field_at(table, id);
    return p ? *p : absent;
}

static inline float flat_float(const uint8_t *table, uint32_t id, float absent)
{
    const uint8_t *p = flat_field_at(table, id);
    return p ? flat_load_float(p) : absent;
}

/* The table, vector or string that offset field `id` refers to, or NULL. */
static inline const uint8_t *flat_target(const uint8_t *table, uint32_t id)
{
    const uint8_t *p = flat_field_at(table, id);
    return p ? p + flat_load32(p) : NULL;
}

static inline struct flat_vector flat_vector_at(const uint8_t *table, uint32_t id)
{
    const uint8_t *p = flat_target(table, id);
    struct flat_vector v = {p ? p + 4 : NULL, p ? flat_load32(p) : 0};
    return v;
}

static inline const char *flat_string(const uint8_t *table, uint32_t id)
{
    const uint8_t *p = flat_target(table, id);
    return p ? (const char *)(p + 4) : "";
}

/* Element `index` of a vector of tables. */
static inline const uint8_t *flat_element_table(struct flat_vector v, uint32_t index)
{
    const uint8_t *p = v.bytes + 4 * (size_t)index;
    return p + flat_load32(p);
}

static inline int32_t flat_element_int(struct flat_vector v, uint32_t index)
{
    return (int32_t)flat_load32(v.bytes + 4 * (size_t)index);
}

static inline float flat_element_float(struct flat_vector v, uint32_t index)
{
    return flat_load_float(v.bytes + 4 * (size_t)index);
}

#endif
