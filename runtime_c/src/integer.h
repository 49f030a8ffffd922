/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain numbers of any type as int64: loading widens, storing wraps to the type's width. */
#ifndef E8_INTEGER_H
#define E8_INTEGER_H

#include "op.h"

/* Element `i` of an array of `type`, which is not FLOAT32. BOOL gives 0 or 1. */
static inline int64_t load_integer(const void *array, uint32_t type, size_t i)
{
    switch (type) {
    case Type_INT8: return ((const int8_t *)array)[i];
    case Type_INT16: return ((const int16_t *)array)[i];
    case Type_INT32: return ((const int32_t *)array)[i];
    case Type_INT64: return ((const int64_t *)array)[i];
    case Type_BOOL: return ((const uint8_t *)array)[i] != 0;
    default: return ((const uint8_t *)array)[i];
    }
}

/* The value modulo 2^width; BOOL stores whether it is not 0. */
static inline void store_integer(void *array, uint32_t type, size_t i, int64_t value)
{
    switch (type) {
    case Type_INT8: ((uint8_t *)array)[i] = (uint8_t)value; break;
    case Type_INT16: ((uint16_t *)array)[i] = (uint16_t)value; break;
    case Type_INT32: ((uint32_t *)array)[i] = (uint32_t)value; break;
    case Type_INT64: ((int64_t *)array)[i] = value; break;
    case Type_BOOL: ((uint8_t *)array)[i] = value != 0; break;
    default: ((uint8_t *)array)[i] = (uint8_t)value; break;
    }
}

/* Toward zero, saturating at the ends of int64; NaN gives 0. */
static inline int64_t integer_of_float(float x)
{
    if (x != x) return 0;
    if (x >= 9223372036854775808.0f) return INT64_MAX;
    if (x < -9223372036854775808.0f) return INT64_MIN;
    return (int64_t)x;
}

/* Neither float nor codes with a scale. */
static inline bool tensor_is_integer(const struct tensor *t)
{
    return t->type != Type_FLOAT32 && !tensor_is_quantised(t);
}

#endif
