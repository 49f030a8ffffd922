# SPDX-License-Identifier: Apache-2.0
"""Forms that preparation never leaves in a model: the evaluator names the node instead of computing something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge8.converter.errors import ConvertError
from edge8.converter.targets.ascend310.evaluate import Executor


def model(op: str, inputs: list[str], outputs: list[str], constants: dict[str, np.ndarray[Any, Any]], **attributes: Any) -> onnx.ModelProto:
    """One node named "odd" over x [1, 2, 4, 4]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
    ys = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([helper.make_node(op, inputs, outputs, "odd", **attributes)], "g", [x], ys, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


KERNEL = np.ones((2, 1, 2, 2), np.float32)
SIZES = np.array([1, 2, 8, 8], np.int64)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (model("ConvTranspose", ["x", "w"], ["y"], {"w": KERNEL}, auto_pad="SAME_UPPER", strides=[2, 2]), "auto_pad"),
        (model("MaxPool", ["x"], ["y", "i"], {}, kernel_shape=[2, 2]), "index output"),
        (model("Resize", ["x", "", "", "s"], ["y"], {"s": SIZES}, antialias=1, mode="linear"), "antialias"),
        (
            model("Resize", ["x", "", "", "s"], ["y"], {"s": SIZES}, coordinate_transformation_mode="half_pixel_symmetric"),
            "half_pixel_symmetric",
        ),
    ],
    ids=["auto_pad", "indices", "antialias", "coordinates"],
)
def test_unprepared_forms_are_refused_by_name(made: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ConvertError, match=words) as caught:
        Executor(made).run({"x": np.ones((1, 2, 4, 4), np.float32)})
    assert caught.value.where == "odd"
