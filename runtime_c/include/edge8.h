/* SPDX-License-Identifier: Apache-2.0
 *
 * edge8.h - the whole public interface of the edge8 inference runtime.
 *
 * What the library does
 *   It verifies an .e8 model that lies in memory and runs it, in int8 or in float32, on a block of memory that the caller
 *   hands in. It never allocates, opens files, prints, starts threads or keeps mutable global state, with one exception:
 *   the CPU mask of e8_cpu_restrict. Of the C library it needs memcpy, memmove and memset.
 *
 * What it promises
 *   - Any bytes may be handed to e8_model_open. It either returns an error and says which rule was broken, or the model is
 *     safe to run: no access outside the file, the arena and the caller's buffers, no division by zero, no recursion, and
 *     no more than e8_limits allows of work and memory.
 *   - The same model and input give the same output bytes on every CPU, at every CPU level and for every thread count,
 *     but for the bits of NaNs. That holds for files whose int8 weights lie in [-127, 127] and whose weight sums are right, as in
 *     every file of the converter and of calibration. Others are as safe, but other CPUs may give other numbers.
 *   - e8_model_open does not copy weights; a memory-mapped file is used in place. Weights that the file holds entropy-coded are
 *     decoded by e8_session_init, into the arena.
 *
 * What it does not promise
 *   - That a model is the one you meant: the CRC finds damage, not forgery. Sign the file if that matters.
 *   - Anything once the bytes of an open model or a running session's arena are changed behind its back.
 *
 * Life of a program
 *     e8_model model;  e8_session session;
 *     e8_status status = e8_model_open(&model, file, file_bytes, NULL, &diag);
 *     size_t bytes = e8_model_arena(&model, 1);              (how much memory a session needs)
 *     status = e8_session_init(&session, &model, arena, bytes, 1);
 *     memcpy(e8_session_data(&session, E8_INPUT, 0), picture, picture_bytes);
 *     status = e8_session_run(&session);
 *     const float *scores = e8_session_data(&session, E8_OUTPUT, 0);
 *   There is nothing to close: forget the structs and free the memory that you gave.
 *
 * Threads
 *   An open model is read-only; any number of sessions on any threads may share it. A session belongs to one thread at a
 *   time. e8_cpu_restrict must not run while another thread opens a session. */
#ifndef EDGE8_H
#define EDGE8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(E8_BUILD_SHARED) && defined(__GNUC__)
#define E8_API __attribute__((visibility("default")))
#else
#define E8_API
#endif

/* CFFI-BEGIN: everything up to CFFI-END is also the Python binding's declaration; constants are literals. */

/* Result of a call. Numbers are never reused; a later version may append. */
typedef enum e8_status {
    E8_OK = 0,
    E8_ERR_ARGUMENT = 1,    /* the caller broke a documented precondition, or input data is unusable (a Gather index) */
    E8_ERR_FORMAT = 2,      /* the bytes are not a well-formed model; e8_diag.rule says which rule is broken */
    E8_ERR_VERSION = 3,     /* well-formed, but written for a newer runtime */
    E8_ERR_CHECKSUM = 4,    /* the stored CRC-32C and the content disagree: the file is damaged */
    E8_ERR_UNSUPPORTED = 5, /* an operator, type or shape that this build does not have */
    E8_ERR_LIMIT = 6,       /* valid, but beyond the caller's e8_limits */
    E8_ERR_ARENA = 7,       /* the arena is too small or not aligned to 64 bytes */
    E8_ERR_STOPPED = 8      /* the caller's hook asked to stop */
} e8_status;

/* Which side of a model. */
typedef enum e8_io { E8_INPUT = 0, E8_OUTPUT = 1 } e8_io;

/* Element types, as in the file. */
typedef enum e8_type { E8_FLOAT32 = 0, E8_INT8 = 1, E8_INT16 = 2, E8_INT32 = 3, E8_INT64 = 4, E8_BOOL = 5, E8_UINT8 = 6 } e8_type;

/* An open model and a session. Allocate them anywhere; the content is private. */
typedef struct e8_model {
    uint64_t opaque[32];
} e8_model;
typedef struct e8_session {
    uint64_t opaque[32];
} e8_session;

/* What a model may demand. A model beyond a limit is refused with E8_ERR_LIMIT when it is opened. */
typedef struct e8_limits {
    uint64_t macs;    /* multiply-accumulates (or element operations) of one run */
    uint64_t arena;   /* bytes for activations and decoded weights together; of scratch alike, and of what sessions keep */
    uint32_t ops;     /* operators */
    uint32_t tensors; /* tensors */
} e8_limits;

/* Why a model was refused: the stable name of the rule ("conv2d.stride"), and where. 0xFFFFFFFF = no particular one. */
typedef struct e8_diag {
    uint32_t op;
    uint32_t tensor;
    const char *rule;
} e8_diag;

/* One tensor of an open model. Pointers live as long as the model's bytes. */
typedef struct e8_tensor {
    const char *name; /* as in the ONNX model */
    int32_t dims[8];  /* outermost first */
    int32_t rank;     /* 0 to 8 */
    int32_t type;     /* e8_type of the elements in memory: a tensor that was not calibrated is E8_FLOAT32 */
    float scale;      /* real = scale * (code - zero_point); 0 where the tensor is not quantised */
    int32_t zero_point;
    size_t bytes;     /* of all elements in memory */
    int32_t constant; /* 1: stored in the file */
    size_t offset;    /* activations: place in the arena */
    uint32_t first;   /* activations: operator that writes it (0 for a model input) */
    uint32_t last;    /* activations: last operator that reads it (the operator count for a model output) */
    size_t stored;    /* constants: bytes in the file, fewer than `bytes` where they are entropy-coded */
} e8_tensor;

/* One operator of an open model. */
typedef struct e8_op {
    const char *name; /* of the ONNX node it came from, "" if none */
    const char *kind; /* "Conv2D", ... as in schemas/ops.fbs */
    uint32_t inputs;  /* how many; an absent optional input counts */
    uint32_t outputs;
    uint64_t macs;
} e8_op;

/* A caller's parallel-for: must call task(argument, i) once for every i below count, in any order and on any threads, and
 * return when all calls have returned. It may run everything on the calling thread. */
typedef void (*e8_parallel)(void *context, void (*task)(void *argument, uint32_t index), void *argument, uint32_t count);

/* Called before (after = 0) and after (after = 1) each operator of a run. Tensor data may be read through
 * e8_session_tensor. A nonzero result ends the run with E8_ERR_STOPPED. */
typedef int (*e8_hook)(void *context, uint32_t op, int after);

/* A monotonic clock of the caller's; any unit. */
typedef uint64_t (*e8_clock)(void *context);

/* "major.minor.patch" of the library. */
E8_API const char *e8_version(void);

/* A few words for a status ("the checksum does not match"); never NULL. */
E8_API const char *e8_status_text(e8_status status);

/* Instruction sets: the bits that this CPU has, before the mask. x86: 1 SSE4.1, 2 AVX2 and FMA, 4 AVX-512 (F, BW, VL, DQ),
 * 8 AVX-512 VNNI. ARM: 256 NEON, 512 dot product, 1024 int8 matrix multiply, 2048 VFPv4
 * (32-bit ARM), 4096 a core not known to run instructions in order (64-bit ARM). */
E8_API uint32_t e8_cpu_features(void);

/* Sessions opened later use only features that are also in mask. Results do not change, only speed. All bits at start. */
E8_API void e8_cpu_restrict(uint32_t mask);

/* The name of the kernel level that a session opened now would use: "reference", "avx2", "avx512vnni", "neon", ... */
E8_API const char *e8_cpu_level(void);

/* Limits for an ordinary computer: 10^12 MACs, 4 GB arena, 65536 operators, 262144 tensors. */
E8_API e8_limits e8_default_limits(void);

/* Verify `size` bytes at `file` and open them as a model. `file` must be 64-byte aligned (a mapped file is) and must stay
 * unchanged while the model is used. `limits` NULL means e8_default_limits(); `diag` may be NULL and is written on error.
 * The CRC takes time proportional to the file's size, usually most of the time. What several tensors share in the file is checked for
 * each of them; for entropy-coded weights that is bounded by e8_limits.arena. */
E8_API e8_status e8_model_open(e8_model *model, const void *file, size_t size, const e8_limits *limits, e8_diag *diag);

/* Number of inputs or outputs, of all tensors and of operators. */
E8_API uint32_t e8_model_count(const e8_model *model, e8_io io);
E8_API uint32_t e8_model_tensors(const e8_model *model);
E8_API uint32_t e8_model_ops(const e8_model *model);

/* Describe input or output `index`; its tensor number; any tensor by number; an operator and the numbers of its tensors
 * (0xFFFFFFFF where an optional input is absent). E8_ERR_ARGUMENT (or 0xFFFFFFFF) for a number out of range. */
E8_API e8_status e8_model_io(const e8_model *model, e8_io io, uint32_t index, e8_tensor *tensor);
E8_API uint32_t e8_model_io_tensor(const e8_model *model, e8_io io, uint32_t index);
E8_API e8_status e8_model_tensor(const e8_model *model, uint32_t index, e8_tensor *tensor);
E8_API e8_status e8_model_op(const e8_model *model, uint32_t index, e8_op *op);
E8_API uint32_t e8_model_op_tensor(const e8_model *model, uint32_t op, e8_io io, uint32_t index);

/* The input or output with this name, or -1. */
E8_API int32_t e8_model_find(const e8_model *model, e8_io io, const char *name);

/* 1 when activation scales are present (or none is needed): int8 operators run in int8. 0: a weights-quantised model whose
 * activations wait for calibration and are computed in float32. */
E8_API int e8_model_calibrated(const e8_model *model);

/* Who wrote the file, and its JSON metadata ("" if none). 1 when the ONNX model's batch was free and is fixed in the file. */
E8_API const char *e8_model_producer(const e8_model *model);
E8_API const char *e8_model_metadata(const e8_model *model);
E8_API int e8_model_dynamic_batch(const e8_model *model);

/* Stored CRC-32C of the content, and the total multiply-accumulates of a run. */
E8_API uint32_t e8_model_crc(const e8_model *model);
E8_API uint64_t e8_model_macs(const e8_model *model);

/* Arena bytes for a session with so many threads (at least 1) on this CPU, or SIZE_MAX where so many threads need more than
 * it can address; the activations alone are e8_model_activation_bytes, decoded weights (0 where the file holds none entropy-coded)
 * e8_model_decoded_bytes. A model that cannot run here with one thread is not opened. */
E8_API size_t e8_model_arena(const e8_model *model, uint32_t threads);

/* The least that a session takes: without the memory in which it keeps, from the beginning, what operators derive from weights and
 * scales (biases as codes, multipliers). With less than e8_model_arena each run derives it anew, to the same results. */
E8_API size_t e8_model_arena_least(const e8_model *model, uint32_t threads);
E8_API size_t e8_model_activation_bytes(const e8_model *model);
E8_API size_t e8_model_decoded_bytes(const e8_model *model);

/* Prepare a session in `arena`: `bytes` should be e8_model_arena(model, threads) and must be at least e8_model_arena_least(model,
 * threads), 64-byte aligned. So much of the arena is zeroed and belongs to the session until it is forgotten. Without e8_session_parallel
 * the work runs on the calling thread. E8_ERR_FORMAT: entropy-coded weights do not end where they should (a file that was made so;
 * damage is found by the checksum). */
E8_API e8_status e8_session_init(e8_session *session, const e8_model *model, void *arena, size_t bytes, uint32_t threads);

/* Use a parallel-for; it is called with a count of at most the session's threads. NULL returns to the calling thread. */
E8_API void e8_session_parallel(e8_session *session, e8_parallel parallel, void *context);

/* Call `hook` around every operator; NULL ends it. */
E8_API void e8_session_hook(e8_session *session, e8_hook hook, void *context);

/* Add the ticks of `clock` that operator i takes to ticks[i], on every run; `ticks` has e8_model_ops() entries and belongs
 * to the caller. NULL ends it. */
E8_API void e8_session_times(e8_session *session, e8_clock clock, void *context, uint64_t *ticks);

/* Where the data of an input or output lies in the arena: e8_tensor.bytes bytes. Inputs are written before a run and may be
 * overwritten by it; outputs are valid until the next run. NULL for an index out of range. */
E8_API void *e8_session_data(e8_session *session, e8_io io, uint32_t index);

/* Data of any tensor (a constant's stored form, or the arena). An activation is valid in a hook, from the operator that
 * writes it until the last one that reads it. NULL for a number out of range. */
E8_API const void *e8_session_tensor(const e8_session *session, uint32_t index);

/* Run once. E8_OK, E8_ERR_STOPPED, or E8_ERR_ARGUMENT if data of the inputs cannot be used. */
E8_API e8_status e8_session_run(e8_session *session);

/* Run operator `op` alone, for tools that step through a model: every operator once, in order, makes a run. No hook is called
 * and no time is taken. E8_ERR_ARGUMENT also for a number out of range. */
E8_API e8_status e8_session_step(e8_session *session, uint32_t op);

/* CRC-32C (Castagnoli, as RFC 3720 defines it) of `size` bytes: the checksum of the file format, for programs that write
 * or patch files. */
E8_API uint32_t e8_crc32c(const uint8_t *bytes, size_t size);

/* CFFI-END */

#ifdef __cplusplus
}
#endif
#endif
