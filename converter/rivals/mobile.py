# SPDX-License-Identifier: Apache-2.0
"""The runtimes of phones and boards, which have files of their own: LiteRT, ncnn, MNN, ExecuTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .contestant import Array, Contestant, Run, Unusable
from .network import Network

__all__ = ["contestants"]


def _tool(*command: str, folder: Path | None = None) -> None:
    """Run a converter; its last lines are the reason when it fails."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, check=False)
    if result.returncode != 0:
        raise Unusable(f"{Path(command[0]).name}: {' '.join(result.stdout.split())[-300:] or f'exit code {result.returncode}'}")


def _beside_python(name: str) -> str:
    path = Path(sys.executable).parent / name
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise Unusable(f"the program {name} is missing")
    return found


def _prepare_float(contestant: Contestant, network: Network) -> str | None:
    if not contestant.path(network).exists():
        try:
            contestant.prepare(network, 0)
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


class LiteRtFloat(Contestant):
    """LiteRT (XNNPACK), converted from a torch module of the same operators."""

    name, runtime, suffix, modules = "litert fp32", "litert", ".tflite", ("ai_edge_litert.interpreter",)
    tools: ClassVar[tuple[str, ...]] = ("torch", "litert_torch")
    packages = "ai-edge-litert litert-torch ai-edge-quantizer"

    def prepare(self, network: Network, samples: int) -> None:
        import litert_torch
        import torch

        from .torch_model import torch_module

        litert_torch.convert(torch_module(network.path), (torch.from_numpy(network.sample(0)),)).export(str(self.path(network)))

    def load(self, network: Network, threads: int) -> Run:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(self.path(network)), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.ends = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]

        def run(x: Array) -> Array:
            return self._real(self._plain(self._codes(x)))

        return run

    def _plain(self, x: Array) -> Array:
        self.interpreter.set_tensor(self.ends[0]["index"], x)
        self.interpreter.invoke()
        y: Array = self.interpreter.get_tensor(self.ends[1]["index"])
        return y

    def _codes(self, x: Array) -> Array:
        if self.ends[0]["dtype"] == np.float32:
            return x
        scale, zero = self.ends[0]["quantization"]
        codes: Array = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
        return codes

    def _real(self, y: Array) -> Array:
        if self.ends[1]["dtype"] == np.float32:
            return y
        scale, zero = self.ends[1]["quantization"]
        real: Array = (y.astype(np.float32) - zero) * scale
        return real

    def unpack(self, run: Run, x: Array) -> tuple[Run, Array]:
        return self._plain, self._codes(x)


class LiteRtInt8(LiteRtFloat):
    """ai-edge-quantizer, static int8. Where the model takes codes, codes are what it is timed with."""

    name, int8 = "litert int8", True
    tools: ClassVar[tuple[str, ...]] = ("torch", "litert_torch", "ai_edge_quantizer")

    def prepare_source(self, network: Network) -> str | None:
        return _prepare_float(LiteRtFloat(), network)

    def prepare(self, network: Network, samples: int) -> None:
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import quantizer, recipe

        source = LiteRtFloat().path(network)
        if reason := self.prepare_source(network):
            raise Unusable(reason)
        signatures = Interpreter(str(source)).get_signature_list()
        name, ends = next(iter(signatures.items()))
        made = quantizer.Quantizer(str(source))
        made.load_quantization_recipe(recipe.static_wi8_ai8())
        data = {name: [{ends["inputs"][0]: x} for x in network.samples(samples)]}
        made.quantize(made.calibrate(data)).export_model(str(self.path(network)), overwrite=True)


class NcnnFloat(Contestant):
    """ncnn, converted by pnnx."""

    name, runtime, suffix, modules = "ncnn fp32", "ncnn", ".param", ("ncnn",)
    tools, packages = ("pnnx",), "ncnn pnnx"

    def file_bytes(self, network: Network) -> int:
        return super().file_bytes(network) + self.path(network).with_suffix(".bin").stat().st_size

    def prepare(self, network: Network, samples: int) -> None:
        folder = network.folder / "pnnx"
        folder.mkdir(exist_ok=True)
        shutil.copy(network.path, folder / "net.onnx")
        _tool(_beside_python("pnnx"), "net.onnx", "fp16=0", folder=folder)
        for suffix in (".param", ".bin"):
            made = folder / f"net.ncnn{suffix}"
            if not made.exists():
                raise Unusable("pnnx made no ncnn model")
            made.replace(self.path(network).with_suffix(suffix))
        shutil.rmtree(folder)

    def load(self, network: Network, threads: int) -> Run:
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads, net.opt.use_vulkan_compute = threads, False
        if net.load_param(str(self.path(network))) != 0 or net.load_model(str(self.path(network).with_suffix(".bin"))) != 0:
            raise Unusable("ncnn does not load what pnnx made")
        first, outputs = net.input_names()[0], net.output_names()

        def run(x: Array) -> Array:
            extractor = net.create_extractor()
            extractor.input(first, ncnn.Mat(x[0]))
            # It computes what is asked for, the others compute all outputs.
            results = [extractor.extract(name) for name in outputs]
            if any(status != 0 for status, _ in results):
                raise Unusable("ncnn cannot compute an output")
            return np.array(results[0][1])

        return run


class NcnnInt8(NcnnFloat):
    """Its quantiser's programs are in no wheel; where they are on PATH they are used."""

    name, int8, method = "ncnn int8", True, "kl"

    def prepare_source(self, network: Network) -> str | None:
        return _prepare_float(NcnnFloat(), network)

    def prepare(self, network: Network, samples: int) -> None:
        if shutil.which("ncnn2table") is None or shutil.which("ncnn2int8") is None:
            raise Unusable("ncnn2table and ncnn2int8 are in no wheel and not on PATH")
        source, mine = NcnnFloat().path(network), self.path(network)
        if reason := self.prepare_source(network):
            raise Unusable(reason)
        channels, height, width = _picture_size(network)
        pictures = _write_pictures(network, samples)
        (network.folder / "pictures.txt").write_text("".join(f"{p}\n" for p in sorted(pictures.glob("*.png"))))
        table = str(mine.with_suffix(".table"))
        mean, scale = (",".join(map(str, values)) for values in network.normalisation())
        options = [f"mean=[{mean}]", f"norm=[{scale}]", f"shape=[{width},{height},{channels}]"]
        options += [f"pixel={'RGB' if channels == 3 else 'GRAY'}", "thread=2", f"method={self.method}"]
        weights = str(source.with_suffix(".bin"))
        _tool("ncnn2table", str(source), weights, str(network.folder / "pictures.txt"), table, *options)
        _tool("ncnn2int8", str(source), weights, str(mine), str(mine.with_suffix(".bin")), table)


def _picture_size(network: Network) -> tuple[int, int, int]:
    if not network.is_picture or network.channels_last:
        raise Unusable("its quantiser calibrates on picture files only")
    return network.shape[1], network.shape[2], network.shape[3]


def _write_pictures(network: Network, samples: int) -> Path:
    from PIL import Image

    folder = network.folder / f"pictures-{samples}"
    folder.mkdir(exist_ok=True)
    for seed in range(samples):
        pixels = network.pixels(seed)
        Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(folder / f"{seed:04d}.png")
    return folder


class MnnFloat(Contestant):
    """MNN."""

    name, runtime, suffix, modules, packages = "mnn fp32", "mnn", ".mnn", ("MNN",), "MNN"

    def prepare(self, network: Network, samples: int) -> None:
        made = str(self.path(network))
        _tool(_beside_python("mnnconvert"), "-f", "ONNX", "--modelFile", str(network.path), "--MNNModel", made, "--bizCode", "edge8")
        if not self.path(network).exists():
            raise Unusable("mnnconvert made no model")

    def load(self, network: Network, threads: int) -> Run:
        import MNN

        interpreter = MNN.Interpreter(str(self.path(network)))
        session = interpreter.createSession({"numThread": threads, "backend": "CPU", "precision": "normal"})
        first, last = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
        shape, out_shape, order = first.getShape(), last.getShape(), MNN.Tensor_DimensionType_Caffe
        out = MNN.Tensor(out_shape, MNN.Halide_Type_Float, np.zeros(out_shape, np.float32), order)

        def run(x: Array) -> Array:
            first.copyFrom(MNN.Tensor(shape, MNN.Halide_Type_Float, x, order))
            interpreter.runSession(session)
            last.copyToHostTensor(out)
            return np.array(out.getNumpyData())

        return run


class MnnInt8(MnnFloat):
    """mnnquant."""

    name, int8, method = "mnn int8", True, "KL"

    def prepare_source(self, network: Network) -> str | None:
        return _prepare_float(MnnFloat(), network)

    def prepare(self, network: Network, samples: int) -> None:
        channels, height, width = _picture_size(network)
        source = MnnFloat().path(network)
        if reason := self.prepare_source(network):
            raise Unusable(reason)
        mean, scale = network.normalisation()
        settings = {
            "format": "RGB" if channels == 3 else "GRAY", "mean": mean, "normal": scale, "width": width,
            "height": height, "path": f"{_write_pictures(network, samples)}/", "used_sample_num": samples, "batch_size": 1,
            "feature_quantize_method": self.method, "weight_quantize_method": "MAX_ABS",
        }  # fmt: skip
        file = network.folder / "mnn-settings.json"
        file.write_text(json.dumps(settings))
        # The wheel's own mnnquant passes its arguments as one string, which the module refuses.
        code = "import sys, _tools; _tools.mnnquant(sys.argv)"
        _tool(sys.executable, "-c", code, str(source), str(self.path(network)), str(file))
        if not self.path(network).exists():
            raise Unusable("mnnquant made no model")


class ExecuTorchFloat(Contestant):
    """ExecuTorch with the XNNPACK backend. Importing torch is part of its memory here; its C++ runtime would not need that."""

    name, runtime, suffix, modules = "executorch fp32", "executorch", ".pte", ("torch", "executorch.runtime")
    packages = "torch executorch"

    def prepare(self, network: Network, samples: int) -> None:
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from .torch_model import torch_module

        x = (torch.from_numpy(network.sample(0)),)
        program = torch.export.export(self.quantise(torch_module(network.path), x, network, samples), x)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        self.path(network).write_bytes(lowered.buffer)

    def quantise(self, module: Any, x: tuple[Any, ...], network: Network, samples: int) -> Any:
        """The module to lower."""
        return module

    def load(self, network: Network, threads: int) -> Run:
        import torch
        from executorch.extension.pybindings import _C
        from executorch.runtime import Runtime, Verification

        _C._unsafe_reset_threadpool(threads)
        method = Runtime.get().load_program(str(self.path(network)), verification=Verification.Minimal).load_method("forward")
        return lambda x: method.execute([torch.from_numpy(x)])[0].numpy()


class ExecuTorchInt8(ExecuTorchFloat):
    """PT2E quantisation for XNNPACK, weights per channel."""

    name, int8 = "executorch int8", True

    def quantise(self, module: Any, x: tuple[Any, ...], network: Network, samples: int) -> Any:
        import torch
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        observed = prepare_pt2e(torch.export.export(module, x).module(), quantizer)
        for sample in network.samples(samples):
            observed(torch.from_numpy(sample))
        return convert_pt2e(observed)


def contestants() -> list[Contestant]:
    """In the order of the tables."""
    return [
        LiteRtInt8(), LiteRtFloat(), NcnnInt8(), NcnnFloat(), MnnInt8(), MnnFloat(), ExecuTorchInt8(), ExecuTorchFloat(),
    ]  # fmt: skip
