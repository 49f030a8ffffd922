# SPDX-License-Identifier: Apache-2.0
"""edge8, and the runtimes that read ONNX themselves: onnxruntime, OpenVINO, tract."""

from __future__ import annotations

import os
from typing import Any

from .contestant import Array, Contestant, OnnxContestant, Run
from .network import Network

__all__ = ["contestants"]


class Edge8Float(Contestant):
    """The float file."""

    name, runtime, suffix, modules = "edge8 fp32", "edge8", ".e8", ("edge8",)
    mode, bounded_weights = "float", "off"

    def prepare(self, network: Network, samples: int) -> None:
        from ..api import convert

        data = [{network.input: x} for x in network.samples(samples)] if self.int8 else None
        file = str(self.path(network))
        convert(str(network.path), file, quant=self.mode, calibration=data, corrections=(), bounded_weights=self.bounded_weights)

    def load(self, network: Network, threads: int) -> Run:
        import edge8

        if levels := os.environ.get("EDGE8_BENCH_CPU"):
            edge8.cpu.restrict([name for name in levels.split(",") if name != "reference"])
        session = edge8.Model(self.path(network)).session(threads)

        def first(x: Array) -> Array:
            y = session(x)
            return next(iter(y.values())) if isinstance(y, dict) else y

        return first


class Edge8Int8(Edge8Float):
    """Full int8; corrections change weights, not speed, and stay out."""

    name, int8, mode = "edge8 int8", True, "full"


class Edge8Bounded(Edge8Int8):
    """Full int8 with bounded weights, which run faster on AVX2 without VNNI."""

    name, bounded_weights = "edge8 bounded", "on"


class OrtFloat(OnnxContestant):
    """onnxruntime on the model as it is."""

    name, runtime, modules, packages = "onnxruntime fp32", "onnxruntime", ("onnxruntime",), "onnxruntime"
    in_float = False
    """Compute QuantizeLinear and DequantizeLinear in float as they stand: what the quantiser decided, without saturation."""

    def load(self, network: Network, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        if self.in_float:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(self.path(network)), options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {network.input: x})[0]


class OrtInt8(OrtFloat):
    """Static quantisation, QDQ: int8 weights per channel, uint8 activations (which its x86 kernels want)."""

    name, int8, suffix = "onnxruntime int8", True, ".onnx"
    activations, method = "QUInt8", "MinMax"

    def prepare(self, network: Network, samples: int) -> None:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = iter(network.samples(samples))

            def get_next(self) -> dict[str, Array] | None:
                x = next(self.left, None)
                return None if x is None else {network.input: x}

        clean = network.folder / f"{self.name}-clean.onnx"
        quant_pre_process(str(network.path), str(clean))
        quantize_static(
            str(clean), str(self.path(network)), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
            activation_type=getattr(QuantType, self.activations), calibrate_method=getattr(CalibrationMethod, self.method),
        )  # fmt: skip
        clean.unlink()


class OrtSigned(OrtInt8):
    """The same with int8 activations."""

    name, activations = "onnxruntime s8s8", "QInt8"


class OpenVinoFloat(OnnxContestant):
    """OpenVINO on the model as it is, in float32."""

    name, runtime, modules, packages = "openvino fp32", "openvino", ("openvino",), "openvino"
    in_float = False
    """Compute FakeQuantize in float as it stands."""

    def load(self, network: Network, threads: int) -> Run:
        import openvino

        properties = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if self.in_float:
            properties["LP_TRANSFORMS_MODE"] = "NO"
        request = openvino.Core().compile_model(str(self.path(network)), "CPU", properties).create_infer_request()

        def run(x: Array) -> Any:
            request.infer({0: x}, share_inputs=True)
            return request.get_output_tensor(0).data

        return run


class OpenVinoInt8(OpenVinoFloat):
    """Quantised by NNCF with its defaults."""

    name, int8, suffix, tools, packages = "openvino int8", True, ".xml", ("nncf",), "openvino nncf"
    fast = True
    """NNCF's default bias correction, rather than the full one."""

    def file_bytes(self, network: Network) -> int:
        return super().file_bytes(network) + self.path(network).with_suffix(".bin").stat().st_size

    def prepare(self, network: Network, samples: int) -> None:
        import nncf
        import onnx
        import openvino

        kinds = {node.op_type for node in onnx.load(network.path, load_external_data=False).graph.node}
        more = {"model_type": nncf.ModelType.TRANSFORMER} if "LayerNormalization" in kinds else {}
        model = openvino.Core().read_model(str(network.path))
        data = nncf.Dataset(network.samples(samples))
        more["fast_bias_correction"] = self.fast
        made = nncf.quantize(model, data, subset_size=samples, preset=nncf.QuantizationPreset.MIXED, **more)
        openvino.save_model(made, str(self.path(network)), compress_to_fp16=False)


class TractFloat(OnnxContestant):
    """tract on the model as it is; it has one thread."""

    name, runtime, modules, packages = "tract fp32", "tract", ("tract",), "tract"

    def load(self, network: Network, threads: int) -> Run:
        import tract

        runnable = tract.onnx().load(str(network.path)).into_model().into_runnable()
        return lambda x: runnable.run([x])[0].to_numpy()


def contestants() -> list[Contestant]:
    """edge8 first."""
    return [Edge8Int8(), Edge8Bounded(), Edge8Float(), OrtInt8(), OrtSigned(), OrtFloat(), OpenVinoInt8(), OpenVinoFloat(), TractFloat()]
