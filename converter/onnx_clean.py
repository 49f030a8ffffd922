# SPDX-License-Identifier: Apache-2.0
"""Clean a model with static input shapes: functions inlined, shapes inferred, constants folded, dead nodes dropped.

The work is done by onnxscript's optimizer over onnx-ir. It needs no inference engine (constants are evaluated by ONNX's own reference
evaluator), and gives the same model for the same input.
"""

from __future__ import annotations

import logging
import math
import warnings

import onnx
import onnx_ir
from onnxscript import optimizer

from .errors import ConvertError

__all__ = ["clean"]

FOLD_LIMIT = 1 << 26
"""Most elements of a folded constant."""

_GROWS = ("ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "Pad", "OneHot")
_KEPT = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def clean(proto: onnx.ModelProto, remarks: list[str]) -> onnx.ModelProto:
    """The simplified model; ``remarks`` gets a line when the optimizer gives up and the model is taken as it is."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = onnx_ir.serde.deserialize_model(proto)
            optimizer.optimize_ir(
                model,
                num_iterations=4,
                onnx_shape_inference=True,
                output_size_limit=FOLD_LIMIT,
                should_fold=_should_fold,
                inline=True,
            )
            return onnx_ir.serde.serialize_model(model)
    except ConvertError:
        raise
    except Exception as error:  # the optimizer meets any model; whatever it raises, the model itself may still be convertible
        remarks.append(
            f"the ONNX optimizer stopped ({type(error).__name__}: {str(error).splitlines()[0][:200]}); the model is taken as it is"
        )
        return proto


def _should_fold(node: onnx_ir.Node) -> bool | None:
    """Fold every constant expression but quantisation, unless its result could be huge."""
    if node.op_type in _KEPT:
        return False
    sizes = []
    for output in node.outputs:
        if output.shape is None or not output.shape.is_static():
            return None if node.op_type in _GROWS else True
        sizes.append(math.prod(int(d) for d in output.shape.numpy()))
    return max(sizes, default=0) <= FOLD_LIMIT
