# SPDX-License-Identifier: Apache-2.0
"""The report: errors of layers are what numpy says, bad ranges are found, the page opens offline in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge8 import Edge8Error, Model
from edge8.calibrate import Calibration
from edge8.converter import ConvertError, convert
from edge8.converter.api import float_file, load_graph
from edge8.converter.cli import convert_main, host_main
from edge8.converter.quant.equalisation import equalise, find_spaces
from edge8.converter.report import build_report, write_report
from edge8.converter.report.command import report_file
from edge8.converter.report.histogram import Observer, scratch
from edge8.converter.report.layers import compare_layers, partners

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "converter" / "examples" / "fashion_mnist"


def inputs(count: int, name: str = "calibration.npz") -> list[dict[str, Array]]:
    with np.load(DEMO / name) as archive:
        pictures = archive["image"][:count]
    return [{"image": ((x.astype(np.float32) - 127.5) / np.float32(127.5)).transpose(2, 0, 1)[None]} for x in pictures]


@pytest.fixture(scope="module")
def reference() -> Model:
    return Model(float_file(load_graph(DEMO / "model.onnx")))


@pytest.fixture(scope="module")
def full() -> bytes:
    return convert(DEMO / "model.onnx", calibration=inputs(30)).data


@pytest.fixture(scope="module")
def content(full: bytes, reference: Model) -> dict[str, Any]:
    facts = {
        "model": "net.e8",
        "quant": "full",
        "samples": 30,
        "method": "auto",
        "warnings": ["a remark"],
        "corrections": [{"name": "bias correction", "state": "kept", "before": 20.5, "after": 23.25, "remark": "<b>on</b> 14 layers"}],
    }
    return build_report(Model(full), reference, inputs(12, "test.npz"), onnx_bytes=200_297, facts=facts)


def activations(model: Model, sample: dict[str, Array]) -> dict[str, Array]:
    """Real numbers of every operator's result."""
    session, tensors, ops, found = model.session(1), model.tensors, model.ops, {}

    def after(op: int) -> None:
        t = tensors[ops[op].outputs[0]]
        values = session.tensor(t.index).astype(np.float64)
        found[t.name] = (values - t.zero_point) * t.scale if t.scale else values

    with session.hook(after=after):
        session(sample)
    return found


def test_layers_are_what_numpy_says(content: dict[str, Any], full: bytes, reference: Model) -> None:
    model = Model(full)
    runs = [(activations(reference, x), activations(model, x)) for x in inputs(12, "test.npz")]
    checked = 0
    for entry in content["layers"]:
        name = entry["tensor"]
        if name not in runs[0][0] or name not in runs[0][1] or entry["kind"] == "Quantize":
            continue
        x = np.stack([a[name] for a, _ in runs])
        y = np.stack([b[name] for _, b in runs])
        assert entry["sqnr"] == pytest.approx(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()), abs=1e-3)
        assert entry["cosine"] == pytest.approx((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()), abs=1e-6)
        assert entry["max_error"] == pytest.approx(np.abs(x - y).max(), rel=1e-4)
        low, high = entry["range"]
        assert entry["clip_rate"] == pytest.approx(((x < low - entry["scale"] / 2) | (x > high + entry["scale"] / 2)).mean(), abs=1e-6)
        codes = np.clip(np.rint(x / entry["scale"]), -128 - entry["zero_point"], 127 - entry["zero_point"])
        own = 10 * np.log10((x**2).sum() / ((x - codes * entry["scale"]) ** 2).sum())
        assert entry["own_sqnr"] == pytest.approx(own, abs=0.01)
        checked += 1
    assert checked >= 14
    assert [e["op"] for e in content["layers"]] == sorted(e["op"] for e in content["layers"])


def test_outputs_and_summary(content: dict[str, Any], full: bytes) -> None:
    model = Model(full)
    assert content["accuracy"]["logits"]["sqnr"] > 25
    assert content["compared_samples"] == 12
    summary = content["summary"]
    assert (summary["file_bytes"], summary["arena_bytes"], summary["macs"]) == (
        len(full),
        model.arena_bytes(1),
        summary["macs_by_type"]["int8"],
    )
    assert summary["operators"] + summary["borders"] == len(model.ops)
    arena = content["arena"]
    assert max(arena["used"]) == arena["peak"]["bytes"] <= model.activation_bytes
    assert max(t["offset"] + t["bytes"] for t in arena["tensors"]) == arena["peak"]["bytes"]
    assert len(arena["used"]) == len(model.ops)


def test_parts_give_the_same(full: bytes, reference: Model) -> None:
    """With little memory the network is compared in parts; no figure changes."""
    whole, _ = compare_layers(reference, Model(full), inputs(3))
    parts, count = compare_layers(reference, Model(full), inputs(3), memory=1)
    assert count == 3
    assert [(e.sqnr, e.cosine, e.own, e.clipped, e.largest) for e in whole] == [
        (e.sqnr, e.cosine, e.own, e.clipped, e.largest) for e in parts
    ]


def test_bad_range_is_found(reference: Model) -> None:
    """A range that cuts a layer to a quarter shows at that layer, as clipping and as its own error, and among the worst."""
    model = Model(convert(DEMO / "model.onnx", quant="weight").data)
    calibration = Calibration(model)
    calibration.run(inputs(20))
    victim = next(op for op in model.ops if op.name == "/16/Conv").outputs[0]
    low, high = calibration.range(victim)
    calibration.set_range(victim, low / 4, high / 4)
    content = build_report(Model(calibration.fill()), reference, inputs(8, "test.npz"))
    name = model.tensors[victim].name
    by_clipping = max(content["layers"], key=lambda e: e.get("clip_rate", 0))
    assert by_clipping["tensor"] == name
    assert by_clipping["clip_rate"] > 0.01
    assert min(content["layers"], key=lambda e: e.get("own_sqnr", 300))["tensor"] == name
    shown = {h["tensor"]: h for h in content["histograms"]}
    assert name in shown
    assert shown[name]["high"] > 2 * shown[name]["range"][1]
    assert content["layers"][-1]["sqnr"] < 25


def test_weights_quantisation_has_errors_too(reference: Model) -> None:
    content = build_report(Model(convert(DEMO / "model.onnx", quant="weight", bits=4).data), reference, inputs(4))
    convolutions = [e for e in content["layers"] if "Conv2D" in e["kind"]]
    assert {e["type"] for e in convolutions} == {"weight"}
    assert all(0 < e["sqnr"] < 40 for e in convolutions)
    assert "own_sqnr" not in convolutions[0]
    assert content["summary"]["operators_by_type"]["weight"] == 14


def test_reasons(tmp_path: Path) -> None:
    convert(DEMO / "model.onnx", calibration=inputs(5), skip=["/16/Conv"], report=tmp_path / "a.json", quiet=True)
    content = json.loads((tmp_path / "a.json").read_text())
    (skipped,) = [o for o in content["operators"] if o["node"] == "/16/Conv" and o["type"] != "int8"]
    assert skipped["reason"] == "named by --skip /16/Conv"
    assert content["summary"]["macs_by_type"]["float"] == skipped["macs"] > 0


def test_histogram_keeps_every_value() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 30000), rng.uniform(5, 6, 2000)]).astype(np.float32)
    observer = Observer()
    observer.add(values, scratch())
    low, high, shares = observer.histogram(50)
    assert (low, high) == (values.min(), values.max())
    assert sum(shares) == pytest.approx(1)
    expected = np.histogram(values, 50, (low, high))[0] / values.size
    np.testing.assert_allclose(shares, expected, atol=0.012)
    assert Observer().histogram() == (0.0, 0.0, [])


def two_convolutions() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    weights = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in (("a", (8, 3, 3, 3)), ("b", (4, 8, 3, 3)))]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    ends = [info("x", TensorProto.FLOAT, [1, 3, 8, 8])], [info("y", TensorProto.FLOAT, [1, 4, 6, 6])]
    model = helper.make_model(helper.make_graph(nodes, "two", *ends, weights), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def test_equalised_channels_are_brought_to_one_scale(tmp_path: Path) -> None:
    """A file whose metadata name tensors with scaled channels is compared with the ONNX model as if they were not."""
    onnx.save(two_convolutions(), tmp_path / "two.onnx")
    graph = load_graph(tmp_path / "two.onnx")
    rng = np.random.default_rng(0)
    spaces = find_spaces(graph)
    extremes = {name: np.outer([-1, 1], rng.uniform(0.1, 9, space.channels)) for space in spaces for name in space.tensors}
    assert set(equalise(graph, extremes)) == {"c.Conv2D"}
    data = [{"x": rng.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    path = tmp_path / "a.e8"
    for names, low, high in ((list(extremes), 90, 301), ([], -50, 20)):
        graph.metadata["equalised"] = names
        path.write_bytes(float_file(graph))
        content = report_file(path, against=tmp_path / "two.onnx", data=data)
        assert low < min(e["sqnr"] for e in content["layers"]) < high
        assert content["accuracy"]["y"]["sqnr"] > 90


def test_partners_cross_borders(full: bytes, reference: Model) -> None:
    model = Model(full)
    found = {model.tensors[i].name: name for i, name in partners(model, reference).items()}
    assert found["logits"] == found["logits_int8"] == "logits"
    assert found["image_int8"] == "image"


# ---- files -----------------------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a page refers to, its identifiers and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data") and value:
                self.references.append(value)
            if name == "id" and value:
                self.ids.append(value)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read_page(path: Path) -> tuple[str, Page]:
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    return text, page


def test_html_is_complete_and_offline(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    write_report(content, path)
    text, page = read_page(path)
    assert all(reference.startswith("#") for reference in page.references)
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids)), "identifiers of two plots clash"
    assert {r[1:] for r in page.references} | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert page.tags.count("svg") == 2 + len(content["histograms"])
    words = " ".join(page.text)
    for entry in content["layers"]:
        assert entry["tensor"] in words
        tip = f"{entry['op']} {entry['kind']} {entry['tensor']}: SQNR {entry['sqnr']:.1f} dB"
        assert words.count(tip) == 2, "each point of the two plots says which layer it is"
    for needed in ("bias correction", "<b>on</b> 14 layers", "20.5", "23.2", "a remark", "Arena over time", "net.e8"):
        assert needed in words
    assert "<b>on</b> 14 layers" not in text, "text from outside must be escaped"


def test_same_content_same_bytes(content: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a.html", "b.html", "a.json", "b.json"):
        write_report(content, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_json_holds_the_same(content: dict[str, Any], tmp_path: Path) -> None:
    write_report({**content, "search": {"reached": float("inf")}}, tmp_path / "a.json")
    back = json.loads((tmp_path / "a.json").read_text())
    assert back["search"] == {"reached": None}
    assert {key: value for key, value in back.items() if key != "search"} == content


@pytest.mark.parametrize("quant", ["full", "weight", "float"])
def test_convert_writes_a_report(tmp_path: Path, quant: str) -> None:
    convert(DEMO / "model.onnx", tmp_path / "a.e8", quant=quant, calibration=inputs(5), report=tmp_path / "a.html")
    _, page = read_page(tmp_path / "a.html")
    assert ("All layers" in " ".join(page.text)) == (quant != "float") or quant == "float"
    assert "a.e8" in " ".join(page.text)


def test_no_samples_no_errors_but_a_report(tmp_path: Path) -> None:
    convert(DEMO / "model.onnx", quant="weight", report=tmp_path / "a.html")
    text, page = read_page(tmp_path / "a.html")
    assert "Error of every layer" not in text
    assert page.tags.count("svg") == 1


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--calibration", str(DEMO / "calibration.npz"), "--preprocess", str(DEMO / "preprocess.toml"), "--samples", "10"]
    assert convert_main([str(DEMO / "model.onnx"), "-o", "net.e8", *flags]) == 0
    capsys.readouterr()
    against = ["--against", str(DEMO / "model.onnx"), "--data", str(DEMO / "test.npz"), "--samples", "20"]
    assert host_main(["report", "net.e8", *against]) == 0
    printed = capsys.readouterr().out
    assert "output logits: cosine 0.99" in printed
    assert "layers with the lowest SQNR" in printed
    assert "written: net.report.html" in printed
    assert (tmp_path / "net.report.html").exists()
    assert host_main(["report", "net.e8", "-o", "net.json"]) == 0
    assert json.loads((tmp_path / "net.json").read_text())["layers"] == []


def test_command_errors(tmp_path: Path, full: bytes) -> None:
    path = tmp_path / "net.e8"
    path.write_bytes(full)
    with pytest.raises(ConvertError, match=r"an \.html or a \.json"):
        report_file(path, output=tmp_path / "a.pdf")
    with pytest.raises(ConvertError, match="folder does not exist"):
        report_file(path, output=tmp_path / "no" / "a.html")
    with pytest.raises(ConvertError, match="--against, --data"):
        report_file(path, against=DEMO / "model.onnx")
    with pytest.raises(Edge8Error):
        report_file(path, against=path.with_name("no.e8"), data=inputs(1))
    other = tmp_path / "other.e8"
    other.write_bytes((ROOT / "tests" / "golden" / "v1" / "conv2d.float.e8").read_bytes())
    with pytest.raises(ConvertError, match="Give the model that the file was made from"):
        report_file(path, against=other, data=inputs(1))
    with pytest.raises(ConvertError, match=r"an \.html or a \.json"):
        convert(DEMO / "model.onnx", calibration=inputs(2), report="a.txt")


def test_codes_as_inputs(tmp_path: Path) -> None:
    made = convert(DEMO / "model.onnx", io="int8", calibration=inputs(10), report=tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["accuracy"]["logits"]["sqnr"] == pytest.approx(made.accuracy["logits"]["sqnr"], abs=1e-3)
    assert content["accuracy"]["logits"]["sqnr"] > 25


# ---- in a browser ----------------------------------------------------------------------------------------------------------------------

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def chromium(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--hide-scrollbars", "--enable-logging=stderr", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@browser
def test_page_in_a_browser(content: dict[str, Any], tmp_path: Path) -> None:
    """The script runs, sorts the table, and nothing is fetched or goes wrong on the console."""
    path = tmp_path / "a.html"
    write_report(content, path)
    click = "<script>document.querySelectorAll('#layers th')[5].click();document.title='sorted'</script></main>"
    path.write_text(path.read_text().replace("</main>", click))
    done = chromium(tmp_path, "--dump-dom", path.as_uri())
    assert "<title>sorted</title>" in done.stdout
    rows = done.stdout.split('id="layers"')[1].split("<tbody>")[1].split("</table>")[0].split("</tr>")[:-1]
    values = [float(match[1]) for row in rows if (match := re.search(r'data-value="([^"]+)"', row))]
    assert len(values) == len(content["layers"])
    assert values == sorted(values)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@browser
def test_page_has_plots_that_are_seen(content: dict[str, Any], tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "a.html"
    write_report(content, path)
    chromium(tmp_path, "--window-size=1200,3000", f"--screenshot={tmp_path / 'a.png'}", path.as_uri())
    pixels = np.asarray(image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert pixels.shape == (3000, 1200, 3)
    blue = (np.abs(pixels - [0x1F, 0x6F, 0xB4]).sum(axis=2) < 60).sum(axis=1)
    assert (blue > 0).sum() > 300, "the points and bars of int8 layers are blue"
    assert (pixels[:, -12:] == pixels[0, -1]).all(), "something sticks out of the page"
