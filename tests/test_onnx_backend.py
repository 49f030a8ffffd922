# SPDX-License-Identifier: Apache-2.0
"""Every operator case that the onnx package generates, through the importer, the passes, numpy and the C runtime.

A case is run as it is and with every input but the first as a constant; whatever converts must give the expected output. Cases whose
operators or types edge8 does not have must end in a clear error, and count as unsupported.

    python -m pytest tests/test_onnx_backend.py -s            # prints every name
    python tests/test_onnx_backend.py test_conv               # the cases whose name begins so, with what happened
"""

from __future__ import annotations

import functools
import sys
import textwrap
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest

from edge8 import Model
from edge8.converter.errors import ConvertError
from edge8.converter.evaluate import evaluate
from edge8.converter.graph import Graph, Tensor, numpy_dtype
from edge8.converter.onnx_in import load
from edge8.converter.passes.base import optimise
from edge8.converter.targets.cpu_lite import write

Array = np.ndarray[Any, Any]
AT_LEAST = 370


@dataclass
class Outcome:
    """What became of a case: the variants that matched, and reasons for the others."""

    name: str
    matched: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """``passed``, ``unsupported`` or ``failed``."""
        return "failed" if self.failed else "passed" if self.matched else "unsupported"


@functools.cache
def cases() -> list[Any]:
    """The cases that the installed onnx package generates."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(collect_testcases(None))


def bound(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto:
    """The model with every input but the first as an initialiser."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    values = list(result.graph.input)
    for value, array in list(zip(values, inputs, strict=False))[1:]:
        if isinstance(array, np.ndarray) and value.type.HasField("tensor_type"):
            result.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
            result.graph.input.remove(value)
    return result


def tolerance(expected: Array, case: Any) -> tuple[float, float]:
    """rtol and atol; the model's float16, bfloat16 and double are computed in float32."""
    if expected.dtype in (np.float32, np.float64):
        return max(case.rtol, 1e-3), max(case.atol, 1e-6)
    return max(case.rtol, 1e-2), max(case.atol, 1e-3)


def mismatch(result: Array, expected: Any, case: Any) -> str:
    """Why the arrays differ, or nothing."""
    expected = np.asarray(expected)
    if result.shape != expected.shape:
        return f"shape {result.shape} instead of {expected.shape}"
    if expected.dtype.kind in "iub":
        return "" if np.array_equal(result, expected) else "integers differ"
    rtol, atol = tolerance(expected, case)
    close = np.allclose(result.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True)
    return "" if close else f"largest difference {np.nanmax(np.abs(result.astype(np.float64) - expected.astype(np.float64))):.3g}"


def arrays(values: list[Any]) -> list[Any]:
    """Tensors as arrays; sequences and the like stay what they are."""
    return [onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]


def feeds(graph: Graph, model: onnx.ModelProto, inputs: list[Any]) -> dict[str, Array]:
    """The case's inputs in the graph's types."""
    given = {value.name: array for value, array in zip(model.graph.input, inputs, strict=False)}
    return {name: _feed(graph.tensors[name], np.asarray(given[name])) for name in graph.inputs}


def _feed(tensor: Tensor, array: Array) -> Array:
    """int8 codes as the real numbers that the graph takes in their place."""
    if tensor.scale is not None and array.dtype == np.int8:
        return ((array.astype(np.float32) - tensor.zero_point) * tensor.scale[0]).astype(np.float32)
    return array.astype(numpy_dtype(tensor.dtype))


def on_runtime(graph: Graph, values: dict[str, Array]) -> dict[str, Array]:
    """Outputs of the C runtime."""
    model = Model(write(graph))
    result = model.session()(values)
    return result if isinstance(result, dict) else {graph.outputs[0]: result}


def run_variant(outcome: Outcome, label: str, case: Any, model: onnx.ModelProto, inputs: list[Any], expected: list[Any]) -> None:
    """Convert, run both ways, compare; the result goes into ``outcome``."""
    try:
        graph = load(model)
    except ConvertError as error:
        outcome.refused.append(f"{label}: {error}")
        return
    except Exception as error:  # anything but a ConvertError is a defect
        outcome.failed.append(f"{label}, import: {type(error).__name__}: {error}")
        return
    try:
        values = feeds(graph, case.model, inputs)
        before = evaluate(graph, values)
        optimise(graph)
        after = evaluate(graph, values)
        c = on_runtime(graph, values)
    except Exception as error:  # whatever it is, it is this case's failure
        outcome.failed.append(f"{label}: {type(error).__name__}: {error}")
        return
    for what, results in (("import", before), ("passes", after), ("runtime", c)):
        for name, result, wanted in zip(graph.outputs, results.values(), expected, strict=False):
            reason = mismatch(np.asarray(result), wanted, case)
            if reason:
                outcome.failed.append(f"{label}, {what}, {name}: {reason}")
                return
    outcome.matched.append(label)


def run_case(case: Any) -> Outcome:
    """Both variants of a case on its first data set."""
    outcome = Outcome(case.name)
    if not case.data_sets:
        outcome.refused.append("the case has no data")
        return outcome
    inputs, expected = (arrays(list(values)) for values in case.data_sets[0])
    run_variant(outcome, "as it is", case, case.model, inputs, expected)
    if len(case.model.graph.input) > 1:
        run_variant(outcome, "bound", case, bound(case.model, inputs), inputs, expected)
    return outcome


def report(outcomes: list[Outcome]) -> str:
    """Counts and names by verdict."""
    lines = []
    for verdict in ("passed", "unsupported", "failed"):
        names = [o.name for o in outcomes if o.verdict == verdict]
        lines.append(f"{verdict}: {len(names)}")
        lines.append(textwrap.fill(" ".join(names), 140, initial_indent="  ", subsequent_indent="  "))
    lines += [f"FAILED {o.name}: {reason}" for o in outcomes for reason in o.failed]
    return "\n".join(lines)


def test_onnx_backend_cases(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [run_case(case) for case in cases()]
    with capsys.disabled():
        print("\n" + report(outcomes))
    assert [o.name for o in outcomes if o.verdict == "failed"] == []
    assert sum(o.verdict == "passed" for o in outcomes) >= AT_LEAST


def main() -> None:
    """Run the cases whose name begins with one of the arguments, verbosely."""
    outcomes = [run_case(case) for case in cases() if any(case.name.startswith(prefix) for prefix in sys.argv[1:] or [""])]
    for outcome in outcomes:
        print(outcome.name, outcome.verdict, *outcome.matched, *outcome.refused, *outcome.failed, sep="\n    ")
    print(report(outcomes))


if __name__ == "__main__":
    main()
