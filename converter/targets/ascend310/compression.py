# SPDX-License-Identifier: Apache-2.0
"""compression_optimize.cfg: lets ATC calibrate the float model by itself, on a machine with the chip. Optional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .socs import Soc

__all__ = ["compression_config", "parse_compression"]


def compression_config(net: str, shapes: Mapping[str, Sequence[int]], folders: Mapping[str, str], soc: Soc) -> str:
    """Text of the file. It is no proto text: values stand without quotes."""
    data = ",".join(f"./calibration/{folder}/0000.bin" for folder in folders.values())
    shape = ";".join(f"{name}:{','.join(str(size) for size in sizes)}" for name, sizes in shapes.items())
    return (
        f"# atc --model=./{net}_float_model.onnx --compression_optimize_conf=./compression_optimize.cfg ...; needs an NPU and amct_acl\n"
        "calibration:\n{\n"
        f"    input_data_dir: {data}\n    input_shape: {shape}\n"
        f"    infer_soc: {soc.name}\n    infer_device_id: 0\n    log: info\n}}\n"
    )


def parse_compression(text: str) -> dict[str, str]:
    """Keys and values of the calibration block.

    Raises:
        ValueError: a line that is no ``key: value``, or a missing block.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if "calibration:" not in lines or lines[-1] != "}":
        raise ValueError("it has no calibration block")
    out = {}
    for line in lines[lines.index("calibration:") + 2 : -1]:
        key, colon, value = line.partition(":")
        if not colon or not value.strip():
            raise ValueError(f"{line!r} is no key: value")
        out[key.strip()] = value.strip()
    return out
