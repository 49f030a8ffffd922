# SPDX-License-Identifier: Apache-2.0
"""Constant folding and clean-up by onnxscript's optimizer (it evaluates with onnx's own reference operators)."""

from __future__ import annotations

import logging

import onnx
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import _constant_folding  # the pass class has no public alias that takes should_fold and keeps fusion out

from ...errors import ConvertError

__all__ = ["fold", "raise_opset"]

# Evaluated wrongly or not at all by the reference operators, or random.
_KEEP = frozenset({"BatchNormalization", "QuantizeLinear", "DequantizeLinear", "RandomNormal", "RandomUniform", "Multinomial", "Bernoulli"})
_SIZE_LIMIT = 1 << 28


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline functions, evaluate what depends on constants and known shapes only, drop identities and unused parts.

    Nothing is fused and no initialisers are merged: fusion has its own pass with its own switches, and shared weights cannot be
    quantised.

    Raises:
        ConvertError: the model is broken in a way the optimizer cannot read.
    """
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    passes = ir.passes.Sequential(
        common.InlinePass(),
        ir.passes.PassManager(
            [
                _constant_folding.FoldConstantsPass(
                    shape_inference=True,
                    input_size_limit=_SIZE_LIMIT,
                    output_size_limit=_SIZE_LIMIT,
                    should_fold=lambda node: node.op_type not in _KEEP,
                ),
                common.IdentityEliminationPass(),
                common.RemoveUnusedNodesPass(),
                common.RemoveUnusedFunctionsPass(),
                common.RemoveUnusedOpsetsPass(),
            ],
            steps=4,
            early_stop=True,
        ),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.OutputFixPass(),
    )
    try:
        return ir.to_proto(passes(ir.from_proto(model)).model)
    except Exception as error:
        raise ConvertError(
            f"the model cannot be simplified: {_first_line(error)}",
            rule="onnx.fold",
            hint="Check it with onnx.checker.check_model(full_check=True)",
        ) from error


def raise_opset(model: onnx.ModelProto, target: int) -> onnx.ModelProto:
    """Move a model of an older opset up to ``target`` with onnx's own converter.

    Raises:
        ConvertError: an operator has no upgrade path.
    """
    # The converter wants every initialiser among the inputs, as IR version 3 has them; the graph reader takes them out again.
    listed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in listed:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        return onnx.version_converter.convert_version(model, target)
    except Exception as error:
        raise ConvertError(
            f"cannot move the model up to opset {target}: {_first_line(error)}",
            rule="opset.raise",
            hint="Export the model with opset 11, 12 or 13",
        ) from error


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
