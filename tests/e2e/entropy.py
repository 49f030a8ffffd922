# SPDX-License-Identifier: Apache-2.0
"""What entropy coding saves of whole files: `python tests/e2e/entropy.py [NAME...]`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from edge8.converter.api import convert_graph, load_graph  # noqa: E402
from edge8.converter.quant.scheme import Scheme  # noqa: E402
from tests.fetch import NETWORKS, network, shared_models  # noqa: E402

SHARED = {"MobileNetV2": "mobilenetv2", "EfficientNet-Lite0": "efficientnet_lite0", "Fashion-MNIST DS-CNN": "fmnist_dscnn"}
FETCHED = {"PP-OCR recognition": "ppocr-recognition", "PP-OCR detection": "ppocr-detection", "magika": "magika-standard"}
KINDS = {
    "8 bits": {"bits": 8},
    "6": {"bits": 6},
    "4": {"bits": 4},
    "4, groups of 32": {"bits": 4, "group": 32},
    "3": {"bits": 3},
    "2": {"bits": 2},
}


def main() -> None:
    """Print the table: bytes of the file as it is, and the part that coding leaves out."""
    folder = shared_models()
    print("| network | " + " | ".join(KINDS) + " |\n|" + " --- |" * (1 + len(KINDS)))
    for title in sys.argv[1:] or [*SHARED, *FETCHED]:
        if title in FETCHED:
            path, shapes = Path(network(FETCHED[title])), NETWORKS[FETCHED[title]].shapes
        elif folder is None:
            print(f"skipped {title}: EDGE8_MODELS names no folder", file=sys.stderr)
            continue
        else:
            path, shapes = folder / f"{SHARED[title]}.onnx", None
        graph = load_graph(path, shapes)
        cells = []
        for options in KINDS.values():
            plain, coded = (len(convert_graph(graph, Scheme(mode="weight", entropy=entropy, **options))[0]) for entropy in ("off", "on"))
            cells.append(f"{plain / 1e3:,.0f} - {100 * (1 - coded / plain):.0f} %")
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
