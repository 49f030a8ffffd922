# SPDX-License-Identifier: Apache-2.0
"""Run ONNX graphs in numpy: onnx's reference evaluator with vectorised operators, values freed as soon as nothing reads them.

The operator classes are ordinary custom operators of ``onnx.reference`` (``ReferenceEvaluator(model, new_ops=FAST_OPS)`` works too);
``Executor`` adds a bounded memory, a hook that sees every value, and a hook that may change it (float16 rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_roi_align import RoiAlign as _RoiAlign

from ...errors import ConvertError
from ...progress import track
from . import kernels

__all__ = ["FAST_OPS", "Executor"]

Array = npt.NDArray[Any]
Visit = Callable[[str, Array], None]


def _spatial(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str | None,
) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and explicit pads with ONNX's defaults filled in."""
    rank = len(kernel)
    stride = list(strides or [1] * rank)
    dilation = list(dilations or [1] * rank)
    if auto_pad in (None, "", "NOTSET"):
        return stride, dilation, list(pads or [0] * (2 * rank))
    return stride, dilation, kernels.same_pads(str(auto_pad), x.shape[2:], kernel, stride, dilation)


def integer_sums(x: Array, w: Array, reduce_axes: tuple[int, ...], product: Callable[[Array, Array], Array]) -> Array:
    """Exact sums of products of integers, computed in the narrowest float type that cannot round.

    |sum| <= max|x| * max over outputs of sum|w|; below 2^24 every partial sum is a float32 integer, else a float64 one.
    Returns int32, or int64 where a sum does not fit int32 (the caller reports the overflow).
    """
    largest = float(max(int(x.max(initial=0)), -int(x.min(initial=0))))
    bound = largest * float(np.abs(w.astype(np.int32)).sum(axis=reduce_axes, dtype=np.int64).max(initial=0))
    dtype = kernels.exact_dtype(bound)
    sums = product(x.astype(dtype), w.astype(dtype))
    return _as_int(sums)


def _as_int(sums: Array) -> Array:
    """Integers held in floats -> int32, or int64 where one does not fit."""
    if sums.size and (sums.max() > np.iinfo(np.int32).max or sums.min() < np.iinfo(np.int32).min):
        return sums.astype(np.int64)
    return sums.astype(np.int32)


def _add_bias(y: Array, bias: Array | None, axis: int) -> Array:
    """Bias along ``axis``. Integer sums are widened first, so that an overflow stays visible."""
    if bias is None:
        return y
    shape = [1] * y.ndim
    shape[axis] = bias.size
    if np.issubdtype(y.dtype, np.integer):
        return _as_int(y.astype(np.float64) + bias.reshape(shape).astype(np.float64))
    return np.asarray(y + bias.reshape(shape).astype(y.dtype))


class Conv(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override, no-untyped-def]
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None
    ):
        stride, dilation, pad = _spatial(x, w.shape[2:], strides, dilations, pads, auto_pad)
        product = lambda p, q: kernels.conv(p, q, group or 1, stride, dilation, pad)  # noqa: E731
        if np.issubdtype(x.dtype, np.integer):
            return (_add_bias(integer_sums(x, w, tuple(range(1, w.ndim)), product), b, 1),)
        return (_add_bias(product(x, w), b, 1),)


class ConvTranspose(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override, no-untyped-def]
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=None,
        kernel_shape=None,
        output_padding=None,
        output_shape=None,
        pads=None,
        strides=None,
    ):
        rank = w.ndim - 2
        if output_shape or auto_pad not in (None, "", "NOTSET"):
            raise ValueError("output_shape and auto_pad are for preparation to resolve")
        stride, dilation, pad = _spatial(x, w.shape[2:], strides, dilations, pads, None)
        extra = list(output_padding or [0] * rank)
        product = lambda p, q: kernels.conv_transpose(p, q, group or 1, stride, dilation, pad, extra)  # noqa: E731
        if np.issubdtype(x.dtype, np.integer):
            # An output meets each input channel of its group with every tap at most once.
            return (_add_bias(integer_sums(x, w, (0, *range(2, w.ndim)), product), b, 1),)
        return (_add_bias(product(x, w), b, 1),)


class MatMul(OpRun):
    op_domain = ""

    def _run(self, a, b):  # type: ignore[override, no-untyped-def]
        if np.issubdtype(a.dtype, np.integer):
            return (integer_sums(a, b, (b.ndim - 2,) if b.ndim > 1 else (0,), np.matmul),)
        return (np.matmul(a, b),)


class Gemm(OpRun):
    op_domain = ""

    def _run(self, a, b, c=None, alpha=None, beta=None, transA=None, transB=None):  # type: ignore[override, no-untyped-def]  # noqa: N803
        a = a.T if transA else a
        b = b.T if transB else b
        if np.issubdtype(a.dtype, np.integer):
            return (_add_bias(integer_sums(a, b, (0,), np.matmul), None if c is None else c.ravel(), 1),)
        y = np.matmul(a, b)
        if alpha not in (None, 1.0):
            y = y * a.dtype.type(alpha)
        if c is not None:
            y = y + (c if beta in (None, 1.0) else c * c.dtype.type(beta))
        return (y.astype(a.dtype),)


class MaxPool(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override, no-untyped-def]
        self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None, storage_order=None, strides=None
    ):
        if len(self.onnx_node.output) > 1:
            raise ValueError("an index output has no form on the chip")
        stride, dilation, pad = _spatial(x, kernel_shape, strides, dilations, pads, auto_pad)
        return (kernels.max_pool(x, kernel_shape, stride, dilation, pad, bool(ceil_mode)),)


class AveragePool(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override, no-untyped-def]
        self, x, auto_pad=None, ceil_mode=None, count_include_pad=None, dilations=None, kernel_shape=None, pads=None, strides=None
    ):
        stride, dilation, pad = _spatial(x, kernel_shape, strides, dilations, pads, auto_pad)
        values = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)
        return (kernels.average_pool(values, kernel_shape, stride, dilation, pad, bool(ceil_mode), bool(count_include_pad)),)


class GlobalAveragePool(OpRun):
    op_domain = ""

    def _run(self, x):  # type: ignore[override, no-untyped-def]
        # Summed in float64: the nearest float32 to the true mean, whatever order another runtime adds in.
        return (x.mean(axis=tuple(range(2, x.ndim)), keepdims=True, dtype=np.float64).astype(x.dtype),)


class GlobalMaxPool(OpRun):
    """onnx's own drops the spatial axes of 3-D inputs."""

    op_domain = ""

    def _run(self, x):  # type: ignore[override, no-untyped-def]
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class Sigmoid(OpRun):
    """1/(1+e^-|x|) or its complement: no overflow, one exponential."""

    op_domain = ""

    def _run(self, x):  # type: ignore[override, no-untyped-def]
        small = np.exp(-np.abs(x))
        return ((np.where(x >= 0, x.dtype.type(1), small) / (1 + small)).astype(x.dtype),)


class BatchNormalization(OpRun):
    """Inference only. onnx's own version 9 takes the default momentum as a request for training statistics."""

    op_domain = ""

    def _run(self, x, scale, bias, mean, var, epsilon=None, momentum=None, training_mode=None):  # type: ignore[override, no-untyped-def]
        shape = (-1, *(1,) * (x.ndim - 2))
        factor = scale / np.sqrt(var + np.float32(1e-5 if epsilon is None else epsilon))
        return (((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)).astype(x.dtype),)


class RoiAlign(_RoiAlign):
    """The form before opset 16 has no half-pixel shift; onnx's own evaluator always applies the later default."""

    op_domain = ""

    def _run(self, x, rois, indices, **attrs):  # type: ignore[override, no-untyped-def]
        return super()._run(x, rois, indices, **{**attrs, "coordinate_transformation_mode": "output_half_pixel"})


class Resize(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override, no-untyped-def]
        self,
        x,
        roi=None,
        scales=None,
        sizes=None,
        antialias=None,
        axes=None,
        coordinate_transformation_mode=None,
        cubic_coeff_a=None,
        exclude_outside=None,
        extrapolation_value=None,
        keep_aspect_ratio_policy=None,
        mode=None,
        nearest_mode=None,
    ):
        if axes or antialias:
            raise ValueError("axes and antialias have no form on the chip")
        if (coordinate_transformation_mode or "half_pixel") not in kernels.COORDINATE_MODES:
            raise ValueError(f"coordinate_transformation_mode {coordinate_transformation_mode} has no form on the chip")
        if sizes is not None and sizes.size:
            target = [int(v) for v in sizes]
            factors = [out / length for out, length in zip(target, x.shape, strict=True)]
        else:
            factors = [float(v) for v in scales]
            target = [int(np.floor(length * factor)) for length, factor in zip(x.shape, factors, strict=True)]
        y = kernels.resize(
            x,
            target,
            factors,
            mode or "nearest",
            coordinate_transformation_mode or "half_pixel",
            nearest_mode or "round_prefer_floor",
            -0.75 if cubic_coeff_a is None else cubic_coeff_a,
            bool(exclude_outside),
        )
        return (y,)


FAST_OPS: list[type[OpRun]] = [
    Conv,
    ConvTranspose,
    MatMul,
    Gemm,
    MaxPool,
    AveragePool,
    GlobalAveragePool,
    GlobalMaxPool,
    Sigmoid,
    BatchNormalization,
    Resize,
    RoiAlign,
]


class _Step:
    """One node, ready to run, with the values that die after it."""

    def __init__(self, node: onnx.NodeProto, opset: int, ops: Sequence[type[OpRun]]) -> None:
        self.node = node
        self.inputs = [name for name in dict.fromkeys(node.input) if name]
        self.outputs = [name for name in node.output if name]
        self.dead: list[str] = []
        wrapped = onnx.NodeProto()
        wrapped.CopyFrom(node)
        graph = helper.make_graph(
            [wrapped],
            "step",
            [helper.make_empty_tensor_value_info(name) for name in self.inputs],
            [helper.make_empty_tensor_value_info(name) for name in self.outputs],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        self.evaluator = ReferenceEvaluator(model, new_ops=list(ops))


class Executor:
    """Runs one model many times.

    Args:
        model: main graph in the default domain.
        ops: custom operators that come before onnx's own.
        adjust: called with (value name, array) for each constant and computed value; its result takes the value's place.

    Raises:
        ConvertError: an operator has no evaluator, or a node fails on its inputs (named).
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        ops: Sequence[type[OpRun]] = FAST_OPS,
        adjust: Callable[[str, Array], Array] | None = None,
    ) -> None:
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        constants = {tensor.name for tensor in model.graph.initializer}
        self.input_names = [value.name for value in model.graph.input if value.name not in constants]
        self.output_names = [value.name for value in model.graph.output]
        self._adjust = adjust
        self._constants: dict[str, Array] = {}
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            self._constants[tensor.name] = adjust(tensor.name, array) if adjust else array
        self._steps: list[_Step] = []
        for node in model.graph.node:
            try:
                self._steps.append(_Step(node, opset, ops))
            except Exception as error:
                raise ConvertError(
                    f"no numpy evaluator for operator {node.op_type}", rule="evaluate.op", where=node.name, hint=str(error).splitlines()[0]
                ) from error
        self._plan()

    def _plan(self) -> None:
        last: dict[str, int] = {}
        for index, step in enumerate(self._steps):
            for name in [*step.inputs, *step.outputs]:
                last[name] = index
        for name, index in last.items():
            if name not in self._constants:
                self._steps[index].dead.append(name)

    def run(self, feeds: Mapping[str, Array], outputs: Collection[str] | None = None, visit: Visit | None = None) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: one array per graph input.
            outputs: values to return, also intermediate ones; the graph's outputs when None.
            visit: called with each graph input and each computed value, in order of computation.
        """
        order = list(self.output_names if outputs is None else outputs)
        wanted = set(order)
        values: dict[str, Array] = dict(self._constants)
        kept: dict[str, Array] = {name: values[name] for name in wanted if name in values}
        for name in self.input_names:
            if name not in feeds:
                raise ConvertError("no array was given for this input", rule="evaluate.feed", where=name)
            array = np.asarray(feeds[name])
            values[name] = self._adjust(name, array) if self._adjust else array
            if visit:
                visit(name, values[name])
            if name in wanted:
                kept[name] = values[name]
        for step in self._steps:
            try:
                results = step.evaluator.run(step.outputs, {name: values[name] for name in step.inputs})
            except Exception as error:
                shapes = ", ".join(f"{name} {list(values[name].shape)}" for name in step.inputs)
                raise ConvertError(f"{step.node.op_type} failed on {shapes}: {error}", rule="evaluate.run", where=step.node.name) from error
            for name, result in zip(step.outputs, results, strict=True):
                array = np.asarray(result)
                values[name] = self._adjust(name, array) if self._adjust else array
                if visit:
                    visit(name, values[name])
                if name in wanted:
                    kept[name] = values[name]
            for name in step.dead:
                values.pop(name, None)
        return {name: kept[name] for name in order}

    def run_together(
        self, feeds: Sequence[Mapping[str, Array]], change: Callable[[str, list[Array]], list[Array]], *, quiet: bool = True
    ) -> None:
        """Run all batches in lockstep, node by node. ``change`` gets each computed value of all batches and gives what takes its place."""
        values = [{**self._constants, **{name: np.asarray(batch[name]) for name in self.input_names}} for batch in feeds]
        for step in track(self._steps, "correcting", len(self._steps), quiet=quiet):
            results = [step.evaluator.run(step.outputs, {name: held[name] for name in step.inputs}) for held in values]
            for position, name in enumerate(step.outputs):
                arrays = change(name, [np.asarray(result[position]) for result in results])
                for held, array in zip(values, arrays, strict=True):
                    held[name] = array
            for held in values:
                for name in step.dead:
                    held.pop(name, None)
