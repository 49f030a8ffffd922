/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator sees of a model. Each operator is one file ops/<name>.c that defines
 *     const struct op_type e8_op_<name>;
 * `check` runs once, when a model is opened, on unverified numbers: it must refuse with REQUIRE whatever `run` does not
 * handle, recompute the output shape, and state scratch memory and work. `run` then computes without further checks.
 *
 * A tensor that the file calls INT8 but whose scale is still 0 (a weights-quantised model before calibration) is shown to
 * operators as FLOAT32. So every operator has two forms only: quantised (type INT8/INT16, scale > 0) and plain. */
#ifndef E8_OP_H
#define E8_OP_H

#include "build.h"
#include "checked.h"
#include "edge8.h"
#include "flat.h"
#include "kernels/kernel.h"
#include "schema_generated.h"

enum { E8_MAX_RANK = 8, E8_NO_TENSOR = -1 };
#define E8_ABSENT 0xFFFFFFFFu

/* The private content of e8_model. */
struct model {
    const uint8_t *file;
    size_t file_bytes;
    const uint8_t *table; /* the root */
    struct flat_vector tensors, ops, inputs, outputs;
    uint64_t activation_bytes; /* arena for activations, already multiplied by `widen` */
    uint64_t decoded_bytes;    /* arena for weights that are stored entropy-coded; follows that for activations */
    uint64_t scratch_shared;   /* largest over the operators */
    uint64_t scratch_thread;   /* largest over the operators, per thread */
    uint64_t kept;             /* what the operators keep, each aligned to 64 */
    uint64_t macs;
    uint32_t widen; /* 1, or the factor by which offsets grow while int8 activations are computed in float32 */
    uint32_t calibrated;
};

/* A tensor, decoded. */
struct tensor {
    int32_t dims[E8_MAX_RANK];
    uint32_t rank;
    uint32_t type;      /* of the elements in memory (e8_type) */
    uint32_t index;     /* in the model */
    int32_t zero_point; /* per tensor */
    float scale;        /* per tensor: the only or first scale; 0 = not quantised */
    bool constant;
    uint64_t elements;    /* product of dims */
    uint64_t bytes;       /* elements * width of the type; what a constant stores, or decodes to, is data.count */
    uint64_t offset;      /* place among the arena's activations, or decoded weights */
    uint32_t first, last; /* activations: life */
    uint32_t bits, group; /* weights: width of a code (the type's own when the file says 0), inputs per scale */
    struct flat_vector scales;
    struct flat_vector data;  /* constants: stored bytes, little-endian; coded ones have an address in a run only */
    struct flat_vector coded; /* constants: the entropy-coded bytes, or none */
    void *address;            /* in run: where the elements are */
};

/* One operator of an open model. */
struct op {
    const struct model *model;
    const uint8_t *params; /* table of its parameters, verified */
    struct flat_vector inputs, outputs;
    uint32_t index;
    uint32_t kind; /* member of the union Params */
};

/* State of a check. */
struct check {
    struct op op;
    const char *rule;                        /* the broken rule */
    uint32_t tensor;                         /* the tensor that breaks it, or E8_ABSENT */
    uint64_t scratch_shared, scratch_thread; /* bytes that run needs; any alignment, the session aligns to 64 */
    uint64_t kept;                           /* bytes that `keep` fills; any alignment */
    uint64_t macs;
};

/* State of a run of one operator. */
struct run {
    struct op op;
    const struct e8_kernels *kernels;
    uint8_t *arena;
    uint8_t *shared;  /* scratch_shared bytes, 64-byte aligned */
    uint8_t *kept;    /* what `keep` wrote, 64-byte aligned; NULL in a session that has no room for it */
    uint8_t *swapped; /* big-endian machines: constants in this machine's byte order, each 64-byte aligned; else NULL */
    uint8_t *thread;  /* scratch of task 0; task i has it at thread + i * thread_bytes */
    size_t thread_bytes;
    uint32_t threads;
    e8_parallel parallel;
    void *parallel_context;
};

struct op_type {
    e8_status (*check)(struct check *c);
    e8_status (*run)(const struct run *r);
    /* NULL, or: write to r->kept what is the same in every run (biases, multipliers), and tell how many bytes: `kept` of the check.
     * Called when a session begins, if it has room; the operator's inputs hold nothing yet, constants in the machine's byte order
     * neither. `run` does without where r->kept is NULL. */
    size_t (*keep)(const struct run *r);
    uint32_t in_place; /* bit i: the output may take the place of input i (same bytes, that input's last use) */
    uint32_t packed;   /* bit i: constant input i is not stored plainly; check must compare its data with the layout */
};

#define X(number, table, name) extern const struct op_type e8_op_##name;
E8_OPS(X)
#undef X

/* In a check: return E8_ERR_FORMAT naming `rule_name` unless the condition holds. */
#define REQUIRE(c, rule_name, condition)                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            (c)->rule = (rule_name);                                                                                                       \
            return E8_ERR_FORMAT;                                                                                                          \
        }                                                                                                                                  \
    } while (0)

/* The same for what is well-formed but not implemented. */
#define SUPPORTED(c, rule_name, condition)                                                                                                 \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            (c)->rule = (rule_name);                                                                                                       \
            return E8_ERR_UNSUPPORTED;                                                                                                     \
        }                                                                                                                                  \
    } while (0)

#define TRY(expression)                                                                                                                    \
    do {                                                                                                                                   \
        e8_status try_status = (expression);                                                                                               \
        if (try_status != E8_OK) return try_status;                                                                                        \
    } while (0)

/* False (with the rule) when the description of tensor `index` is not sound: asked once for each tensor, when a model is opened.
 * Decode one that is. Defined in tensor.c. */
bool tensor_is_sound(const struct model *model, uint32_t index, const char **rule);
void tensor_decode(const struct model *model, uint32_t index, struct tensor *t);

/* Where a session keeps a constant's bytes: in the file, or decoded in the arena. */
const uint8_t *tensor_bytes(const struct model *model, const uint8_t *arena, const struct tensor *t);

/* Input or output `i` of an operator. An absent optional input gives false and a zeroed tensor. In a check the address is NULL. */
bool op_input(const struct op *op, uint32_t i, struct tensor *t);
void op_output(const struct op *op, uint32_t i, struct tensor *t);
static inline uint32_t op_inputs(const struct op *op)
{
    return op->inputs.count;
}
static inline uint32_t op_outputs(const struct op *op)
{
    return op->outputs.count;
}

/* The same in a run, with addresses; run_locate adds that of input `i`, or of an output, to a decoded tensor. */
bool run_input(const struct run *r, uint32_t i, struct tensor *t);
void run_output(const struct run *r, uint32_t i, struct tensor *t);
void run_locate(const struct run *r, uint32_t i, struct tensor *t);

/* Checks that many operators share (check.c). */
e8_status check_counts(struct check *c, uint32_t inputs_min, uint32_t inputs_max, uint32_t outputs);
e8_status check_same_quantisation(struct check *c, const struct tensor *a, const struct tensor *b);
bool tensor_same_shape(const struct tensor *a, const struct tensor *b);
bool tensor_is_quantised(const struct tensor *t); /* INT8 or INT16 with a scale */
bool tensor_is_float(const struct tensor *t);
/* clamp(rne(real / scale) + zero_point), the code of a number in a quantised tensor. */
int32_t tensor_code(const struct tensor *t, float real);
/* dims of `t` aligned right in 8 slots, padded with 1 on the left. */
void tensor_dims8(const struct tensor *t, int32_t dims[E8_MAX_RANK]);
size_t type_bytes(uint32_t type);

/* Run task(argument, i) for i in [0, count), count <= r->threads, through the caller's parallel-for if there is one. */
void run_parallel(const struct run *r, void (*task)(void *argument, uint32_t index), void *argument, uint32_t count);

/* The part [*begin, *end) of `total` units that task `index` of `count` takes; parts differ by at most `unit`, boundaries are
 * multiples of it. */
void run_share(size_t total, size_t unit, uint32_t index, uint32_t count, size_t *begin, size_t *end);

/* How many tasks are worth starting for `work` element operations: 1 up to r->threads. */
uint32_t run_tasks(const struct run *r, uint64_t work, uint64_t units);

#endif
