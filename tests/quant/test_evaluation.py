# SPDX-License-Identifier: Apache-2.0
"""Accuracy targets: metrics of ours, the user's function, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge8 import Model, Session
from edge8.converter import ConvertError, convert
from edge8.converter.api import float_file, load_graph
from edge8.converter.cli import convert_main
from edge8.converter.quant.evaluation import load_evaluator, make_goal, read_labels

DEMO = Path(__file__).resolve().parents[2] / "converter" / "examples" / "fashion_mnist"
Array = np.ndarray[Any, Any]


def pictures(count: int) -> tuple[list[dict[str, Array]], Array]:
    with np.load(DEMO / "test.npz") as archive:
        x = ((archive["image"][:count].astype(np.float32) - 127.5) / np.float32(127.5)).transpose(0, 3, 1, 2)
        return [{"image": x[i : i + 1]} for i in range(count)], archive["label"][:count]


@pytest.fixture(scope="module")
def reference() -> bytes:
    return float_file(load_graph(DEMO / "model.onnx"))


@pytest.fixture(scope="module")
def full() -> bytes:
    return convert(DEMO / "model.onnx", calibration=pictures(30)[0]).data


def answers(data: bytes, samples: list[dict[str, Array]]) -> Array:
    session = Model(data).session(1)
    return np.concatenate([session(x) for x in samples])  # type: ignore[arg-type]


def test_top1_with_labels(reference: bytes, full: bytes) -> None:
    samples, labels = pictures(100)
    goal = make_goal(reference, samples, labels=labels, max_drop=1.5)
    expected = [100 * (answers(data, samples).argmax(axis=1) == labels).mean() for data in (reference, full)]
    assert goal.reference == pytest.approx(expected[0])
    assert goal.needed == pytest.approx(expected[0] - 1.5)
    assert goal.score(full) == pytest.approx(expected[1])
    assert str(goal) == f"top1 at least {goal.needed:.6g} % (float {goal.reference:.6g} %)"


def test_agreement_without_labels(reference: bytes, full: bytes) -> None:
    samples, _ = pictures(100)
    goal = make_goal(reference, samples, metric="top1", max_drop=2)
    assert (goal.name, goal.reference, goal.needed) == ("agreement with float", 100, 98)
    same = answers(reference, samples).argmax(axis=1) == answers(full, samples).argmax(axis=1)
    assert goal.score(full) == pytest.approx(100 * same.mean())


def test_cosine_and_sqnr(reference: bytes, full: bytes) -> None:
    samples, _ = pictures(40)
    x, y = answers(reference, samples).astype(np.float64), answers(full, samples).astype(np.float64)
    cosine = make_goal(reference, samples, max_drop=0.005)
    assert cosine.needed == pytest.approx(0.995)
    assert cosine.score(full) == pytest.approx((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
    sqnr = make_goal(reference, samples, target_sqnr=25)
    score = sqnr.score(full)
    assert score == pytest.approx(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))
    assert sqnr.reached(score)
    assert not make_goal(reference, samples, target_sqnr=score + 0.1).reached(score)
    assert make_goal(reference, samples, target_sqnr=score).reached(score)


SCRIPT = """
import helper
calls = []
def accuracy(model):
    calls.append(model)
    y = model(helper.picture())
    return helper.weight() * float(y.max())
def raises(model):
    return 1 / 0
def nothing(model):
    return None
def many(model):
    return [1, 2]
def nan(model):
    return float("nan")
def yes(model):
    return True
"""
HELPER = """
import numpy as np
def picture():
    return np.zeros((1, 1, 28, 28), np.float32)
def weight():
    return 2
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path / "script.py"


def test_function_of_a_script(script: Path, reference: bytes, full: bytes) -> None:
    goal = make_goal(reference, [], evaluator=load_evaluator(f"{script}:accuracy"), max_drop=0.5)
    session = Model(full).session(1)
    expected = 2 * float(np.max(session(np.zeros((1, 1, 28, 28), np.float32))))  # type: ignore[arg-type]
    assert goal.score(full) == pytest.approx(expected)
    assert goal.needed == pytest.approx(goal.reference - 0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", r"script\.py:raises: the function raises ZeroDivisionError: division by zero"),
        ("nothing", r"gives None, not a number"),
        ("many", r"gives \[1, 2\], not a number"),
        ("nan", r"gives nan\. It must give a finite number"),
        ("yes", r"gives True, not a number"),
        ("accurcy", r"has no function 'accurcy'\. It has: accuracy, raises"),
        ("calls", r"has no function 'calls'"),
    ],
)
def test_bad_functions(script: Path, reference: bytes, name: str, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        make_goal(reference, [], evaluator=load_evaluator(f"{script}:{name}"), max_drop=1)


def test_bad_scripts(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module_of_this_name")
    (tmp_path / "text.txt").write_text("")
    for spec, message in (
        ("script.py", "write script.py:function"),
        (":f", "write script.py:function"),
        (f"{tmp_path}/no.py:f", "no such script"),
        (f"{tmp_path}/broken.py:f", "the script raises ModuleNotFoundError"),
        (f"{tmp_path}/text.txt:f", "not a Python script"),
    ):
        with pytest.raises(ConvertError, match=message):
            load_evaluator(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of --max-drop and --target-sqnr"),
        ({"max_drop": 1, "target_sqnr": 20}, "give one of"),
        ({"max_drop": float("nan")}, "nan is not a number from 0 on"),
        ({"max_drop": -1}, "--max-drop: -1 is not a number"),
        ({"max_drop": 1, "metric": "f1"}, "unknown metric 'f1'. Known: top1, cosine, sqnr"),
        ({"max_drop": 1, "metric": "sqnr"}, "sqnr goes with --target-sqnr"),
        ({"target_sqnr": 20, "metric": "top1"}, "top1 goes with --max-drop"),
        ({"max_drop": 1, "metric": "cosine", "labels": [1]}, "takes no labels"),
        ({"max_drop": 1, "labels": [1, 2]}, "2 labels for 3 answers"),
        ({"max_drop": 1, "evaluator": float, "metric": "top1"}, "--eval goes with --max-drop alone"),
        ({"target_sqnr": 1, "evaluator": float}, "--eval goes with --max-drop alone"),
    ],
)
def test_flags_that_do_not_go_together(reference: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        make_goal(reference, pictures(3)[0], **options)


def test_no_samples(reference: bytes) -> None:
    with pytest.raises(ConvertError, match="there are no samples"):
        make_goal(reference, [], max_drop=1)


def test_labels_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([3, 1, 2], np.uint8))
    np.savez(tmp_path / "a.npz", label=np.array([[3], [1], [2]]), image=np.zeros(3))
    (tmp_path / "a.txt").write_text("3\n1\n2\n")
    for name in ("a.npy", "a.npz", "a.txt"):
        np.testing.assert_array_equal(read_labels(tmp_path / name), [3, 1, 2])
    np.save(tmp_path / "b.npy", np.zeros((2, 2), int))
    np.save(tmp_path / "c.npy", np.zeros(2, np.float32))
    np.savez(tmp_path / "d.npz", a=np.zeros(2, int), b=np.zeros(2, int))
    (tmp_path / "e.txt").write_text("cat\n")
    for name, message in (
        ("b.npy", "not a list"),
        ("c.npy", "not a list"),
        ("d.npz", "no array called labels"),
        ("e.txt", "read"),
        ("f.txt", "read"),
    ):
        with pytest.raises(ConvertError, match=message):
            read_labels(tmp_path / name)


def options(count: int = 30) -> dict[str, Any]:
    return {"calibration": pictures(count)[0]}


def test_convert_checks_the_target(tmp_path: Path) -> None:
    path = tmp_path / "a.e8"
    made = convert(DEMO / "model.onnx", path, target_sqnr=20, **options())
    assert made.search["target"] == "SQNR at least 20 dB"
    assert float(made.search["reached"].split()[0]) == pytest.approx(made.accuracy["logits"]["sqnr"], abs=3)
    assert path.exists()
    path.unlink()
    with pytest.raises(
        ConvertError,
        match=r"--target-sqnr: the target is SQNR at least 90 dB, the best of \d+ files is [\d.]+ dB with .*nothing is written",
    ):
        convert(DEMO / "model.onnx", path, target_sqnr=90, report=tmp_path / "a.html", **options())
    assert list(tmp_path.iterdir()) == [], "neither the file nor a report"
    made = convert(DEMO / "model.onnx", path, target_sqnr=90, best_effort=True, **options())
    assert made.search["reached"].endswith("which is less")
    assert path.exists()


def test_convert_with_labels_and_functions(tmp_path: Path, script: Path) -> None:
    samples, labels = pictures(60)
    np.save(tmp_path / "labels.npy", labels)
    made = convert(DEMO / "model.onnx", max_drop=2, validation=samples, labels=tmp_path / "labels.npy", **options())
    assert made.search["target"].startswith("top1 at least")
    made = convert(DEMO / "model.onnx", quant="weight", max_drop=1e6, evaluate=f"{script}:accuracy")
    assert made.search["target"].startswith("--eval at least")
    calls = []

    def count(session: Session) -> float:
        calls.append(session)
        return 1.0

    assert convert(DEMO / "model.onnx", quant="weight", max_drop=0, evaluate=count).search["reached"] == "1"
    assert len(calls) == 2
    with pytest.raises(ConvertError, match="an accuracy target needs data"):
        convert(DEMO / "model.onnx", quant="weight", max_drop=1)


def test_command_line(tmp_path: Path, script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = [str(DEMO / "model.onnx"), "-o", str(tmp_path / "a.e8"), "--preprocess", str(DEMO / "preprocess.toml")]
    demo += ["--calibration", str(DEMO / "calibration.npz"), "--samples", "20", "--max-drop"]
    assert convert_main([*demo, "3", "--validation", str(DEMO / "test.npz"), "--labels", str(DEMO / "test.npz")]) == 0
    assert "target: top1 at least" in capsys.readouterr().out
    (tmp_path / "a.e8").unlink()
    assert convert_main([*demo, "0", "--eval", f"{script}:nan"]) == 1
    assert "the function gives nan" in capsys.readouterr().err
    assert not (tmp_path / "a.e8").exists()
