/* SPDX-License-Identifier: Apache-2.0
 * Generated from schemas/ by `python schemas/generate.py`; do not edit. */
#ifndef E8_SCHEMA_GENERATED_H
#define E8_SCHEMA_GENERATED_H
#include "flat.h"

enum { BinaryKind_ADD = 0, BinaryKind_SUB = 1, BinaryKind_MUL = 2, BinaryKind_DIV = 3, BinaryKind_POW = 4, BinaryKind_MIN = 5, BinaryKind_MAX = 6, BinaryKind_PRELU = 7, BinaryKind_EQUAL = 8, BinaryKind_LESS = 9, BinaryKind_LESS_EQUAL = 10, BinaryKind_GREATER = 11, BinaryKind_GREATER_EQUAL = 12, BinaryKind_AND = 13, BinaryKind_OR = 14, BinaryKind_XOR = 15, BinaryKind_MOD = 16, BinaryKind_COUNT = 17 };
enum { UnaryKind_IDENTITY = 0, UnaryKind_CLIP = 1, UnaryKind_LEAKY_RELU = 2, UnaryKind_ELU = 3, UnaryKind_SIGMOID = 4, UnaryKind_HARD_SIGMOID = 5, UnaryKind_HARD_SWISH = 6, UnaryKind_TANH = 7, UnaryKind_GELU = 8, UnaryKind_GELU_TANH = 9, UnaryKind_SILU = 10, UnaryKind_ERF = 11, UnaryKind_EXP = 12, UnaryKind_LOG = 13, UnaryKind_SQRT = 14, UnaryKind_ABS = 15, UnaryKind_NEG = 16, UnaryKind_POW = 17, UnaryKind_RECIPROCAL = 18, UnaryKind_FLOOR = 19, UnaryKind_CEIL = 20, UnaryKind_ROUND = 21, UnaryKind_SIN = 22, UnaryKind_COS = 23, UnaryKind_SOFTPLUS = 24, UnaryKind_NOT = 25, UnaryKind_SELU = 26, UnaryKind_CELU = 27, UnaryKind_MISH = 28, UnaryKind_SOFTSIGN = 29, UnaryKind_SIGN = 30, UnaryKind_THRESHOLDED_RELU = 31, UnaryKind_COUNT = 32 };
enum { PoolKind_MAX = 0, PoolKind_AVERAGE = 1, PoolKind_COUNT = 2 };
enum { ReduceKind_MEAN = 0, ReduceKind_SUM = 1, ReduceKind_MAX = 2, ReduceKind_MIN = 3, ReduceKind_PROD = 4, ReduceKind_L1 = 5, ReduceKind_L2 = 6, ReduceKind_SUM_SQUARE = 7, ReduceKind_LOG_SUM_EXP = 8, ReduceKind_COUNT = 9 };
enum { PadKind_CONSTANT = 0, PadKind_REFLECT = 1, PadKind_EDGE = 2, PadKind_WRAP = 3, PadKind_COUNT = 4 };
enum { ResizeKind_NEAREST = 0, ResizeKind_LINEAR = 1, ResizeKind_CUBIC = 2, ResizeKind_COUNT = 3 };
enum { Type_FLOAT32 = 0, Type_INT8 = 1, Type_INT16 = 2, Type_INT32 = 3, Type_INT64 = 4, Type_BOOL = 5, Type_UINT8 = 6, Type_COUNT = 7 };

enum { Conv2D_stride_h, Conv2D_stride_w, Conv2D_dilation_h, Conv2D_dilation_w, Conv2D_pad_top, Conv2D_pad_left, Conv2D_pad_bottom, Conv2D_pad_right, Conv2D_group, Conv2D_act_min, Conv2D_act_max };
static const struct flat_field Conv2D_fields[] = { {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0} };
enum { DepthwiseConv2D_stride_h, DepthwiseConv2D_stride_w, DepthwiseConv2D_dilation_h, DepthwiseConv2D_dilation_w, DepthwiseConv2D_pad_top, DepthwiseConv2D_pad_left, DepthwiseConv2D_pad_bottom, DepthwiseConv2D_pad_right, DepthwiseConv2D_multiplier, DepthwiseConv2D_act_min, DepthwiseConv2D_act_max };
static const struct flat_field DepthwiseConv2D_fields[] = { {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0} };
enum { ConvTranspose2D_stride_h, ConvTranspose2D_stride_w, ConvTranspose2D_dilation_h, ConvTranspose2D_dilation_w, ConvTranspose2D_pad_top, ConvTranspose2D_pad_left, ConvTranspose2D_pad_bottom, ConvTranspose2D_pad_right, ConvTranspose2D_output_pad_h, ConvTranspose2D_output_pad_w, ConvTranspose2D_group, ConvTranspose2D_act_min, ConvTranspose2D_act_max };
static const struct flat_field ConvTranspose2D_fields[] = { {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0} };
enum { FullyConnected_act_min, FullyConnected_act_max, FullyConnected_dynamic };
static const struct flat_field FullyConnected_fields[] = { {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 1, 0} };
enum { MatMul_transpose_b, MatMul_act_min, MatMul_act_max };
static const struct flat_field MatMul_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0} };
enum { Binary_kind, Binary_act_min, Binary_act_max, Binary_fmod };
static const struct flat_field Binary_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 1, 0} };
enum { Unary_kind, Unary_alpha, Unary_beta, Unary_table };
static const struct flat_field Unary_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_VECTOR, 1, 0} };
enum { Pool2D_kind, Pool2D_kernel_h, Pool2D_kernel_w, Pool2D_stride_h, Pool2D_stride_w, Pool2D_dilation_h, Pool2D_dilation_w, Pool2D_pad_top, Pool2D_pad_left, Pool2D_pad_bottom, Pool2D_pad_right, Pool2D_count_include_pad };
static const struct flat_field Pool2D_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 1, 0} };
enum { Reduce_kind, Reduce_axes, Reduce_keep_dims };
static const struct flat_field Reduce_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_VECTOR, 4, 0}, {FLAT_SCALAR, 1, 0} };
enum { Softmax_log, Softmax_table };
static const struct flat_field Softmax_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_VECTOR, 1, 0} };
enum { LayerNorm_epsilon };
static const struct flat_field LayerNorm_fields[] = { {FLAT_SCALAR, 4, 0} };
enum { Concat_axis };
static const struct flat_field Concat_fields[] = { {FLAT_SCALAR, 4, 0} };
enum { Slice_start, Slice_step };
static const struct flat_field Slice_fields[] = { {FLAT_VECTOR, 4, 0}, {FLAT_VECTOR, 4, 0} };
enum { Pad_kind, Pad_before, Pad_after, Pad_value };
static const struct flat_field Pad_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_VECTOR, 4, 0}, {FLAT_VECTOR, 4, 0}, {FLAT_SCALAR, 4, 0} };
enum { Reshape_unused };
static const struct flat_field Reshape_fields[] = { {FLAT_SCALAR, 1, 0} };
enum { Transpose_perm };
static const struct flat_field Transpose_fields[] = { {FLAT_VECTOR, 4, 0} };
enum { Expand_unused };
static const struct flat_field Expand_fields[] = { {FLAT_SCALAR, 1, 0} };
enum { Tile_unused };
static const struct flat_field Tile_fields[] = { {FLAT_SCALAR, 1, 0} };
enum { Gather_axis };
static const struct flat_field Gather_fields[] = { {FLAT_SCALAR, 4, 0} };
enum { Resize_kind, Resize_y_index, Resize_x_index, Resize_y_weight, Resize_x_weight };
static const struct flat_field Resize_fields[] = { {FLAT_SCALAR, 1, 0}, {FLAT_VECTOR, 4, 0}, {FLAT_VECTOR, 4, 0}, {FLAT_VECTOR, 4, 0}, {FLAT_VECTOR, 4, 0} };
enum { ArgMax_axis, ArgMax_keep_dims, ArgMax_select_last, ArgMax_smallest };
static const struct flat_field ArgMax_fields[] = { {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 1, 0}, {FLAT_SCALAR, 1, 0}, {FLAT_SCALAR, 1, 0} };
enum { Where_unused };
static const struct flat_field Where_fields[] = { {FLAT_SCALAR, 1, 0} };
enum { Cast_unused };
static const struct flat_field Cast_fields[] = { {FLAT_SCALAR, 1, 0} };
enum { Quantize_unused };
static const struct flat_field Quantize_fields[] = { {FLAT_SCALAR, 1, 0} };
enum { Dequantize_unused };
static const struct flat_field Dequantize_fields[] = { {FLAT_SCALAR, 1, 0} };
enum { NormalizePicture_mean, NormalizePicture_std };
static const struct flat_field NormalizePicture_fields[] = { {FLAT_VECTOR, 4, 0}, {FLAT_VECTOR, 4, 0} };
enum { Tensor_name, Tensor_shape, Tensor_type, Tensor_scale, Tensor_zero_point, Tensor_bits, Tensor_group, Tensor_data, Tensor_offset, Tensor_first, Tensor_last, Tensor_share, Tensor_preset_scale, Tensor_preset_zero_point, Tensor_decoded };
static const struct flat_field Tensor_fields[] = { {FLAT_STRING, 1, 1}, {FLAT_VECTOR, 4, 0}, {FLAT_SCALAR, 1, 0}, {FLAT_VECTOR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 1, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_VECTOR, 1, 0}, {FLAT_SCALAR, 8, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0}, {FLAT_SCALAR, 4, 0} };
enum { Op_params_type, Op_params, Op_inputs, Op_outputs, Op_name };
static const struct flat_field Op_fields[] = { {FLAT_SCALAR, 1, 1}, {FLAT_TABLE, 4, 1}, {FLAT_VECTOR, 4, 1}, {FLAT_VECTOR, 4, 1}, {FLAT_STRING, 1, 0} };
enum { Model_tensors, Model_ops, Model_inputs, Model_outputs, Model_arena, Model_producer, Model_dynamic_batch, Model_metadata };
static const struct flat_field Model_fields[] = { {FLAT_TABLES, 4, 1}, {FLAT_TABLES, 4, 1}, {FLAT_VECTOR, 4, 1}, {FLAT_VECTOR, 4, 1}, {FLAT_SCALAR, 8, 0}, {FLAT_STRING, 1, 0}, {FLAT_SCALAR, 1, 0}, {FLAT_STRING, 1, 0} };

/* Every operator in the order of the union: X(number, Table, file name). */
#define E8_OPS(X) \
    X(1, Conv2D, conv2d) \
    X(2, DepthwiseConv2D, depthwise_conv2d) \
    X(3, ConvTranspose2D, conv_transpose2d) \
    X(4, FullyConnected, fully_connected) \
    X(5, MatMul, mat_mul) \
    X(6, Binary, binary) \
    X(7, Unary, unary) \
    X(8, Pool2D, pool2d) \
    X(9, Reduce, reduce) \
    X(10, Softmax, softmax) \
    X(11, LayerNorm, layer_norm) \
    X(12, Concat, concat) \
    X(13, Slice, slice) \
    X(14, Pad, pad) \
    X(15, Reshape, reshape) \
    X(16, Transpose, transpose) \
    X(17, Expand, expand) \
    X(18, Tile, tile) \
    X(19, Gather, gather) \
    X(20, Resize, resize) \
    X(21, ArgMax, arg_max) \
    X(22, Where, where) \
    X(23, Cast, cast) \
    X(24, Quantize, quantize) \
    X(25, Dequantize, dequantize) \
    X(26, NormalizePicture, normalize_picture)
enum { Params_Conv2D = 1, Params_DepthwiseConv2D = 2, Params_ConvTranspose2D = 3, Params_FullyConnected = 4, Params_MatMul = 5, Params_Binary = 6, Params_Unary = 7, Params_Pool2D = 8, Params_Reduce = 9, Params_Softmax = 10, Params_LayerNorm = 11, Params_Concat = 12, Params_Slice = 13, Params_Pad = 14, Params_Reshape = 15, Params_Transpose = 16, Params_Expand = 17, Params_Tile = 18, Params_Gather = 19, Params_Resize = 20, Params_ArgMax = 21, Params_Where = 22, Params_Cast = 23, Params_Quantize = 24, Params_Dequantize = 25, Params_NormalizePicture = 26, E8_OP_COUNT = 26 };

#endif
