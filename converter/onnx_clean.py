# SPDX-License-Identifier: Apache-2.0
"""Clean a model with static input shapes: functions inlined, shapes inferred, constants folded, dead nodes dropped.

The work is done by onnxscript's optimizer over onnx-ir. It needs no inference engine (constants are evaluated by ONNX's own reference
evaluator), and gives the same model for the same input.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import onnx
import onnx.inliner
import onnx_ir
from onnxscript import optimizer

from .errors import ConvertError

__all__ = ["clean", "expand_functions"]

FOLD_LIMIT = 1 << 26
"""Most elements of a folded constant."""

_DEPTH = 4
"""How many times a function may consist of functions."""

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
            result: onnx.ModelProto = onnx_ir.serde.serialize_model(model)
            # The optimizer's pattern matchers remember their last match, and with it this graph: keep its weights out of that.
            for value in model.graph.initializers.values():
                value.const_value = None
            return result
    except ConvertError:
        raise
    except Exception as error:  # the optimizer meets any model; whatever it raises, the model itself may still be convertible
        remarks.append(
            f"the ONNX optimizer stopped ({type(error).__name__}: {str(error).splitlines()[0][:200]}); the model is taken as it is"
        )
        return proto


def expand_functions(proto: onnx.ModelProto, known: Callable[[str], bool], remarks: list[str]) -> onnx.ModelProto:
    """Replace standard operators that are not ``known`` by the functions that ONNX defines them as, where it does.

    Args:
        proto: a clean model.
        known: whether an operator of the standard domain can be imported.
        remarks: see `clean`.
    """
    for _ in range(_DEPTH):
        names = {n.op_type for n in proto.graph.node if n.domain in ("", "ai.onnx") and not known(n.op_type)}
        wanted = sorted(name for name in names if _is_function(name, proto))
        if not wanted:
            break
        _write_defaults(proto, wanted)
        # Shape inference tells the types that some of the functions depend on.
        typed = onnx.shape_inference.infer_shapes(proto)
        try:
            expanded = onnx.inliner.inline_selected_functions(typed, [("", name) for name in wanted], inline_schema_functions=True)
        except (TypeError, RuntimeError, ValueError):  # an onnx without this feature, or a node outside its function's conditions
            break
        if [n.op_type for n in expanded.graph.node] == [n.op_type for n in proto.graph.node]:
            break
        proto = clean(expanded, remarks)
    return proto


def _write_defaults(proto: onnx.ModelProto, names: list[str]) -> None:
    """Give nodes the attributes that their schema has by default: the inliner takes absent ones for absent in the function, too."""
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
    for node in proto.graph.node:
        if node.op_type not in names or node.domain not in ("", "ai.onnx"):
            continue
        present = {a.name for a in node.attribute}
        for name, attribute in onnx.defs.get_schema(node.op_type, version, "").attributes.items():
            if name not in present and attribute.default_value.name:
                node.attribute.append(attribute.default_value)


def _is_function(name: str, proto: onnx.ModelProto) -> bool:
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
    try:
        schema: Any = onnx.defs.get_schema(name, version, "")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


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
