/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C by tables, eight bytes per step, or by the crc32 instruction of SSE4.2 where the CPU has it. That instruction takes 3
 * cycles but starts one per cycle, so three stretches of the buffer run side by side. Their values are then joined: the
 * checksum is linear, so a value is moved over a stretch by xoring what each of its bits becomes on that way. */
#include "crc32c.h"

#include "build.h"
#include "cpu.h"

/* One table: the value that each byte leaves, from the values that its eight bits leave. */
#define ENTRY(n, a, b, c, d, e, f, g, h)                                                                                                   \
    (((n) & 1 ? (a) : 0) ^ ((n) & 2 ? (b) : 0) ^ ((n) & 4 ? (c) : 0) ^ ((n) & 8 ? (d) : 0) ^ ((n) & 16 ? (e) : 0) ^ ((n) & 32 ? (f) : 0) ^ \
     ((n) & 64 ? (g) : 0) ^ ((n) & 128 ? (h) : 0))
#define ENTRY4(n, ...) ENTRY(n, __VA_ARGS__), ENTRY((n) + 1, __VA_ARGS__), ENTRY((n) + 2, __VA_ARGS__), ENTRY((n) + 3, __VA_ARGS__)
#define ENTRY16(n, ...) ENTRY4(n, __VA_ARGS__), ENTRY4((n) + 4, __VA_ARGS__), ENTRY4((n) + 8, __VA_ARGS__), ENTRY4((n) + 12, __VA_ARGS__)
#define ENTRY64(n, ...)                                                                                                                    \
    ENTRY16(n, __VA_ARGS__), ENTRY16((n) + 16, __VA_ARGS__), ENTRY16((n) + 32, __VA_ARGS__), ENTRY16((n) + 48, __VA_ARGS__)
#define TABLE(...) {ENTRY64(0, __VA_ARGS__), ENTRY64(64, __VA_ARGS__), ENTRY64(128, __VA_ARGS__), ENTRY64(192, __VA_ARGS__)}

#if UINTPTR_MAX > 0xFFFFFFFFu
enum { STEP = 8 };
#else
enum { STEP = 1 }; /* 1 kB of tables instead of 8 */
#endif

#if defined(E8_OPS_HEADER) && UINTPTR_MAX <= 0xFFFFFFFFu
/* A pruned build for a small machine: half a byte at a time from the values that its four bits leave. */
static const uint32_t HALF_TABLE[16] = {ENTRY16(0, 0x105EC76Fu, 0x20BD8EDEu, 0x417B1DBCu, 0x82F63B78u, 0, 0, 0, 0)};

static uint32_t advance(uint32_t crc, const uint8_t *bytes, size_t size)
{
    for (; size > 0; bytes++, size--) {
        crc ^= *bytes;
        crc = crc >> 4 ^ HALF_TABLE[crc & 15u];
        crc = crc >> 4 ^ HALF_TABLE[crc & 15u];
    }
    return crc;
}
#else

/* TABLES[i]: a byte followed by i zero bytes. */
static const uint32_t TABLES[STEP][256] = {
    TABLE(0xF26B8303u, 0xE13B70F7u, 0xC79A971Fu, 0x8AD958CFu, 0x105EC76Fu, 0x20BD8EDEu, 0x417B1DBCu, 0x82F63B78u),
#if UINTPTR_MAX > 0xFFFFFFFFu
    TABLE(0x13A29877u, 0x274530EEu, 0x4E8A61DCu, 0x9D14C3B8u, 0x3FC5F181u, 0x7F8BE302u, 0xFF17C604u, 0xFBC3FAF9u),
    TABLE(0xA541927Eu, 0x4F6F520Du, 0x9EDEA41Au, 0x38513EC5u, 0x70A27D8Au, 0xE144FB14u, 0xC76580D9u, 0x8B277743u),
    TABLE(0xDD45AAB8u, 0xBF672381u, 0x7B2231F3u, 0xF64463E6u, 0xE964B13Du, 0xD725148Bu, 0xABA65FE7u, 0x52A0C93Fu),
    TABLE(0x38116FACu, 0x7022DF58u, 0xE045BEB0u, 0xC5670B91u, 0x8F2261D3u, 0x1BA8B557u, 0x37516AAEu, 0x6EA2D55Cu),
    TABLE(0xEF306B19u, 0xDB8CA0C3u, 0xB2F53777u, 0x6006181Fu, 0xC00C303Eu, 0x85F4168Du, 0x0E045BEBu, 0x1C08B7D6u),
    TABLE(0x68032CC8u, 0xD0065990u, 0xA5E0C5D1u, 0x4E2DFD53u, 0x9C5BFAA6u, 0x3D5B83BDu, 0x7AB7077Au, 0xF56E0EF4u),
    TABLE(0x493C7D27u, 0x9278FA4Eu, 0x211D826Du, 0x423B04DAu, 0x847609B4u, 0x0D006599u, 0x1A00CB32u, 0x34019664u),
#endif
};

static uint32_t advance(uint32_t crc, const uint8_t *bytes, size_t size)
{
    for (; STEP == 8 && size >= 8; bytes += 8, size -= 8) {
        uint32_t next = 0;
        for (size_t i = 0; i < 8; i++) {
            uint32_t byte = bytes[i] ^ (i < 4 ? crc >> 8 * i & 255u : 0);
            next ^= TABLES[(7 - i) % STEP][byte];
        }
        crc = next;
    }
    for (; size > 0; bytes++, size--) crc = crc >> 8 ^ TABLES[0][(crc ^ *bytes) & 255u];
    return crc;
}
#endif

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <string.h>

enum { STRETCH = 4096 };

/* What each bit of a value becomes over STRETCH zero bytes. */
static const uint32_t OVER_STRETCH[32] = {
    0xC2A5B65Eu, 0x80A71A4Du, 0x04A2426Bu, 0x094484D6u, 0x128909ACu, 0x25121358u, 0x4A2426B0u, 0x94484D60u,
    0x2D7CEC31u, 0x5AF9D862u, 0xB5F3B0C4u, 0x6E0B1779u, 0xDC162EF2u, 0xBDC02B15u, 0x7E6C20DBu, 0xFCD841B6u,
    0xFC5CF59Du, 0xFD559DCBu, 0xFF474D67u, 0xFB62EC3Fu, 0xF329AE8Fu, 0xE3BF2BEFu, 0xC292212Fu, 0x80C834AFu,
    0x047C1FAFu, 0x08F83F5Eu, 0x11F07EBCu, 0x23E0FD78u, 0x47C1FAF0u, 0x8F83F5E0u, 0x1AEB9D31u, 0x35D73A62u,
};

static uint32_t over_stretch(uint32_t crc)
{
    uint32_t next = 0;
    for (size_t i = 0; i < 32; i++) next ^= OVER_STRETCH[i] & (0u - (crc >> i & 1u));
    return next;
}

__attribute__((target("sse4.2,crc32"))) static uint64_t advance8(uint64_t crc, const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return _mm_crc32_u64(crc, value);
}

__attribute__((target("sse4.2,crc32"))) static uint32_t advance_sse42(uint32_t crc, const uint8_t *bytes, size_t size)
{
    uint64_t a = crc;
    for (; size >= 3 * STRETCH; bytes += 3 * STRETCH, size -= 3 * STRETCH) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < STRETCH; i += 8) {
            a = advance8(a, bytes + i);
            b = advance8(b, bytes + STRETCH + i);
            c = advance8(c, bytes + 2 * STRETCH + i);
        }
        a = over_stretch(over_stretch((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    for (; size >= 8; bytes += 8, size -= 8) a = advance8(a, bytes);
    return advance((uint32_t)a, bytes, size);
}
#endif

uint32_t crc32c(const uint8_t *bytes, size_t size)
{
    uint32_t crc = UINT32_MAX;
#if defined(__x86_64__)
    if (cpu_features() & CPU_SSE4) return ~advance_sse42(crc, bytes, size);
#endif
    return ~advance(crc, bytes, size);
}
