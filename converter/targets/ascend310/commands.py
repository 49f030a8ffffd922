# SPDX-License-Identifier: Apache-2.0
"""atc.sh and run_on_board.md: the exact commands for this very model, with relative paths only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ConvertError
from .aipp import AippPlan
from .profiles import Profile
from .socs import Soc

__all__ = ["PATH_RULE", "AtcCommand", "atc_script", "board_page", "check_path", "parse_atc"]

PATH_RULE = re.compile(r"^[A-Za-z0-9_./\-\u4e00-\u9fa5]+$")


def check_path(text: str, where: str) -> None:
    """ATC takes letters, digits, ``_ - .``, slashes and Chinese characters.

    Raises:
        ConvertError: the first character it refuses.
    """
    for character in text:
        if not PATH_RULE.match(character):
            raise ConvertError(
                f"ATC refuses paths with the character {character!r}: {text!r}",
                rule="path.characters",
                where=where,
                hint="Use letters, digits, _ - . only",
            )


@dataclass(frozen=True)
class AtcCommand:
    """Arguments of one atc call, in order."""

    flags: tuple[tuple[str, str], ...]

    def script(self, note: str) -> str:
        """A shell script that runs it from its own folder."""
        lines = [f"    --{key}={_quoted(value)}" for key, value in self.flags]
        return f'#!/bin/sh\n# {note}\nset -eu\ncd "$(dirname "$0")"\natc \\\n' + " \\\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """Plain where the shell leaves it alone, else in double quotes as ATC's manual writes it."""
    if re.fullmatch(r"[A-Za-z0-9_./,\-]+", value):
        return value
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def parse_atc(text: str) -> dict[str, str]:
    """Flags of the atc call in a script.

    Raises:
        ValueError: no atc call, broken quoting, a word that is no flag, a flag given twice.
    """
    joined = text.replace("\\\n", " ")
    line = next((line.strip() for line in joined.splitlines() if line.strip().startswith("atc ")), "")
    if not line:
        raise ValueError("it has no atc command")
    flags: dict[str, str] = {}
    for word in shlex.split(line)[1:]:
        match = re.fullmatch(r"--([a-z_0-9]+)=(.*)", word, re.S)
        if match is None:
            raise ValueError(f"{word!r} is no --flag=value")
        if match.group(1) in flags:
            raise ValueError(f"--{match.group(1)} is given twice")
        flags[match.group(1)] = match.group(2)
    return flags


def atc_command(
    net: str, shapes: Mapping[str, Sequence[int]], soc: Soc, profile: Profile | None, aipp: AippPlan | None, *, quantised: bool = True
) -> AtcCommand:
    """The call that builds the model.

    Raises:
        ConvertError: an input name that --input_shape cannot carry.
    """
    for name in shapes:
        if ";" in name or '"' in name or "\n" in name:
            raise ConvertError(
                "ATC's --input_shape cannot carry this input name", rule="atc.name", where=name, hint="Rename the input in the model"
            )
    model = f"{net}_deploy_model.onnx" if quantised else f"{net}_float_model.onnx"
    flags = [("model", f"./{model}"), ("framework", "5"), ("output", f"./{net}_{'int8' if quantised else 'fp16'}")]
    images = all(len(sizes) == 4 for sizes in shapes.values())
    layout = aipp.layout if aipp is not None else "NCHW" if images and (profile is None or profile.flag != "dynamic_dims") else "ND"
    flags.append(("input_format", layout))
    flags.append(("input_shape", ";".join(f"{name}:{','.join(str(size) for size in sizes)}" for name, sizes in shapes.items())))
    if profile is not None:
        flags.append((profile.flag, profile.text()))
    if aipp is not None:
        flags.append(("insert_op_conf", "./insert_op.cfg"))
        flags.append(("enable_small_channel", "1"))
    flags += [("soc_version", soc.name), ("log", "error")]
    return AtcCommand(tuple(flags))


def atc_script(net: str, shapes: Mapping[str, Sequence[int]], soc: Soc, profile: Profile | None, aipp: AippPlan | None) -> str:
    """Text of atc.sh."""
    cann = f", CANN {soc.last_cann} or older" if soc.last_cann else ""
    note = f"Builds {net}_int8.om for {soc.name} ({soc.family}{cann}). ATC ends with: ATC run success, welcome to the next use."
    return atc_command(net, shapes, soc, profile, aipp).script(note)


_PYACL = '''import acl
import numpy as np

acl.init()
acl.rt.set_device(0)
context, _ = acl.rt.create_context(0)
model, _ = acl.mdl.load_from_file("{net}_int8.om")
desc = acl.mdl.create_desc()
acl.mdl.get_desc(desc, model)


def dataset(sizes):
    """Device buffers of these sizes."""
    out, pointers = acl.mdl.create_dataset(), []
    for size in sizes:
        pointer, _ = acl.rt.malloc(size, 0)
        acl.mdl.add_dataset_buffer(out, acl.create_data_buffer(pointer, size))
        pointers.append(pointer)
    return out, pointers


in_sizes = [acl.mdl.get_input_size_by_index(desc, i) for i in range(acl.mdl.get_num_inputs(desc))]
out_sizes = [acl.mdl.get_output_size_by_index(desc, i) for i in range(acl.mdl.get_num_outputs(desc))]
inputs, in_pointers = dataset(in_sizes)
outputs, out_pointers = dataset(out_sizes)
for path, pointer, size in zip({files}, in_pointers, in_sizes):
    data = np.fromfile(path, dtype=np.uint8)
    acl.rt.memcpy(pointer, size, acl.util.bytes_to_ptr(data.tobytes()), data.nbytes, 1)
acl.mdl.execute(model, inputs, outputs)
for i, (pointer, size) in enumerate(zip(out_pointers, out_sizes)):
    host, _ = acl.rt.malloc_host(size)
    acl.rt.memcpy(host, size, pointer, size, 2)
    print(i, np.frombuffer(acl.util.ptr_to_bytes(host, size), dtype=np.float32)[:8])
'''


def board_page(
    net: str,
    shapes: Mapping[str, Sequence[int]],
    dtypes: Mapping[str, Any],
    folders: Mapping[str, str],
    outputs: Sequence[str],
    soc: Soc,
    profile: Profile | None,
    aipp: AippPlan | None,
) -> str:
    """Text of run_on_board.md."""
    files = [f"calibration/{folder}/0000.bin" for folder in folders.values()]
    source = "the calibration data"
    if aipp is not None:
        files = [f"picture_{name}.bin" if name == aipp.input_name else f"calibration/{folder}/0000.bin" for name, folder in folders.items()]
        source = f"a raw {aipp.input_format} picture of {aipp.source[0]}x{aipp.source[1]} (AIPP normalises it on the chip)"
    extra = {"dynamic_batch_size": "--dymBatch", "dynamic_image_size": "--dymHW", "dynamic_dims": "--dymDims"}
    dynamic = ""
    if profile is not None:
        row = ",".join(str(size) for size in profile.rows[0])
        if profile.flag == "dynamic_dims":
            row = ";".join(f"{name}:{','.join(str(s) for s in _filled(sizes, profile.rows[0]))}" for name, sizes in shapes.items())
        dynamic = f' {extra[profile.flag]} "{row}"'
    om = f"{net}_int8.om"
    rows = "\n".join(f"| {name} | {', '.join(str(s) for s in sizes)} | {dtypes[name]} |" for name, sizes in shapes.items())
    loads = "".join(
        f'    "{name}": np.fromfile("calibration/{folder}/0000.bin", dtype="{dtypes[name]}").reshape({list(shapes[name])}),\n'
        for name, folder in folders.items()
    )
    cann = f"CANN {soc.last_cann} is the last release known to build for this chip. " if soc.last_cann else ""
    return f"""# Run {net} on {soc.name}

{soc.family}. {cann}An .om built with an older CANN runs on a newer one.

| input | shape | type |
| --- | --- | --- |
{rows}

Outputs: {", ".join(outputs)} (float32).

## 1. Build (any machine with CANN)

```sh
sh atc.sh
```

It ends with `ATC run success, welcome to the next use.` and leaves `{om}`.

## 2. Run once

With msame, on {source}:

```sh
./msame --model {om} --input {",".join(files)} --output out --outfmt BIN --loop 1{dynamic}
```

With ais_bench:

```sh
python3 -m ais_bench --model {om} --input {",".join(files)} --output out --outfmt NPY --loop 100
```

## 3. From Python (pyACL)

```python
{_PYACL.format(net=net, files=files)}```

## 4. Compare

`{net}_fake_quant_model.onnx` gives the same numbers in onnxruntime, without the chip's float16:

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{net}_fake_quant_model.onnx")
feeds = {{
{loads}}}
print(session.run(None, feeds))
```

`edge8 verify .` checks this folder; with `--data` it also simulates the chip, float16 included.
"""


def _filled(sizes: Sequence[int], row: Sequence[int]) -> list[int]:
    values = iter(row)
    return [next(values, 1) if size == -1 else size for size in sizes]
