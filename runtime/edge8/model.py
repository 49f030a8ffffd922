# SPDX-License-Identifier: Apache-2.0
"""Models and sessions: thin objects over the C library, numpy arrays in and out."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ._library import ffi, lib
from .errors import Edge8Error, FormatError
from .pool import Pool

__all__ = ["Model", "Op", "Session", "Tensor", "aligned_block"]

Array = np.ndarray[Any, Any]

_INPUT, _OUTPUT = 0, 1
_ABSENT = 0xFFFFFFFF
_DTYPES = [np.dtype(name) for name in ("f4", "i1", "i2", "i4", "i8", "?", "u1")]
_ALIGNMENT = 64


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model.

    Attributes:
        index: number in the model.
        name: as in the ONNX model.
        shape: outermost first.
        dtype: of the elements in memory.
        scale: real = scale * (code - zero_point); 0 where the tensor is not quantised.
        zero_point: code of real zero.
        bytes: size in memory; of a constant, as operators read it.
        constant: whether it is stored in the file.
        offset: place in the arena (activations).
        first, last: operators that write it and read it last (activations).
        stored: bytes of a constant in the file, fewer than ``bytes`` where they are entropy-coded.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    bytes: int
    constant: bool
    offset: int
    first: int
    last: int
    stored: int


@dataclass(frozen=True)
class Op:
    """An operator of a model: its kind (schemas/ops.fbs), the ONNX node's name, tensor numbers (None = absent), and work."""

    index: int
    kind: str
    name: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    macs: int


def aligned_block(size: int) -> tuple[Any, Array]:
    """A cffi pointer and the array that owns `size` bytes at a multiple of 64."""
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    block = raw[start : start + size]
    return ffi.cast("void *", block.ctypes.data), block


class Model:
    """An .e8 file, verified and ready to run.

    The file is mapped, not read: weights are used where they lie. A model may serve any number of sessions and threads.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes | bytearray | memoryview, *, limits: Mapping[str, int] | None = None) -> None:
        """Open a model.

        Args:
            source: path of an .e8 file, or its bytes.
            limits: what the model may demand, by the names of `e8_limits` in edge8.h (macs, arena, ops, tensors).

        Raises:
            Edge8Error: the file cannot be read.
            FormatError: the bytes are not a model that this library can run; says which rule is broken.
        """
        self.path = None if isinstance(source, (bytes, bytearray, memoryview)) else Path(source)
        self._keep, self._address, self.file_bytes = self._hold(source)
        self._model = ffi.new("e8_model *")
        self._open(self._address, limits)
        self._io = {
            io: [self._tensor(lib.e8_model_io_tensor(self._model, io, i)) for i in range(lib.e8_model_count(self._model, io))]
            for io in (0, 1)
        }

    def _hold(self, source: Any) -> tuple[Any, Any, int]:
        if self.path is None:
            pointer, block = aligned_block(max(1, len(source)))
            block[: len(source)] = np.frombuffer(source, np.uint8)
            return block, pointer, len(source)
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == 0:
                    raise Edge8Error(f"{self.path}: the file is empty")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise Edge8Error(f"{self.path}: {getattr(error, 'strerror', None) or error}") from error
        buffer = ffi.from_buffer(mapped)
        return (mapped, buffer), ffi.cast("void *", buffer), size

    def _open(self, address: Any, limits: Mapping[str, int] | None) -> None:
        wanted = lib.e8_default_limits()
        for name, value in (limits or {}).items():
            if name not in ("macs", "arena", "ops", "tensors"):
                raise ValueError(f"unknown limit {name!r}; known: macs, arena, ops, tensors")
            setattr(wanted, name, value)
        diag = ffi.new("e8_diag *")
        status = lib.e8_model_open(self._model, address, self.file_bytes, ffi.new("e8_limits *", wanted), diag)
        if status != 0:
            rule = ffi.string(diag.rule).decode() if diag.rule else ""
            op, tensor = (None if n == _ABSENT else int(n) for n in (diag.op, diag.tensor))
            place = "".join(f", {what} {number}" for what, number in (("operator", op), ("tensor", tensor)) if number is not None)
            text = ffi.string(lib.e8_status_text(status)).decode()
            raise FormatError(f"{self.path or 'model'}: {text} (rule {rule}{place})", int(status), rule, op, tensor)

    def _tensor(self, index: int) -> Tensor:
        t = ffi.new("e8_tensor *")
        if lib.e8_model_tensor(self._model, index, t) != 0:
            raise IndexError(f"the model has no tensor {index}")
        shape = tuple(t.dims[i] for i in range(t.rank))
        name = ffi.string(t.name).decode("utf-8", "replace")
        return Tensor(
            index,
            name,
            shape,
            _DTYPES[t.type],
            float(t.scale),
            int(t.zero_point),
            int(t.bytes),
            bool(t.constant),
            int(t.offset),
            int(t.first),
            int(t.last),
            int(t.stored),
        )

    @property
    def mapped(self) -> mmap.mmap | None:
        """The mapping of the file, None for a model from bytes."""
        return None if self.path is None else cast(mmap.mmap, self._keep[0])

    def file_content(self) -> Array:
        """The file's bytes (uint8), where they lie."""
        return cast(Array, np.frombuffer(ffi.buffer(self._address, self.file_bytes), np.uint8))

    @property
    def inputs(self) -> list[Tensor]:
        """The model's inputs, in the order of the ONNX model."""
        return self._io[_INPUT]

    @property
    def outputs(self) -> list[Tensor]:
        """The model's outputs, in the order of the ONNX model."""
        return self._io[_OUTPUT]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors by number."""
        return [self._tensor(i) for i in range(lib.e8_model_tensors(self._model))]

    @property
    def ops(self) -> list[Op]:
        """All operators in execution order."""
        result = []
        op = ffi.new("e8_op *")
        for i in range(lib.e8_model_ops(self._model)):
            lib.e8_model_op(self._model, i, op)
            ins = [lib.e8_model_op_tensor(self._model, i, _INPUT, k) for k in range(op.inputs)]
            outs = tuple(lib.e8_model_op_tensor(self._model, i, _OUTPUT, k) for k in range(op.outputs))
            kind, name = (ffi.string(text).decode("utf-8", "replace") for text in (op.kind, op.name))
            result.append(Op(i, kind, name, tuple(None if n == _ABSENT else n for n in ins), outs, int(op.macs)))
        return result

    @property
    def calibrated(self) -> bool:
        """False for a weights-quantised model: its activations are computed in float32."""
        return bool(lib.e8_model_calibrated(self._model))

    @property
    def producer(self) -> str:
        """Program and version that wrote the file."""
        return str(ffi.string(lib.e8_model_producer(self._model)).decode("utf-8", "replace"))

    @property
    def metadata(self) -> dict[str, Any]:
        """What the converter noted in the file (preprocessing, reasons, figures); empty where it is absent or unreadable."""
        try:
            found = json.loads(ffi.string(lib.e8_model_metadata(self._model)).decode("utf-8", "replace") or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def dynamic_batch(self) -> bool:
        """Whether the ONNX model left its batch free; a session then takes any number of samples, part by part."""
        return bool(lib.e8_model_dynamic_batch(self._model))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return int(lib.e8_model_macs(self._model))

    @property
    def crc(self) -> int:
        """The file's stored CRC-32C."""
        return int(lib.e8_model_crc(self._model))

    def arena_bytes(self, threads: int = 1, *, least: bool = False) -> int:
        """Bytes of memory that a session takes; ``least`` without what it keeps between runs (biases as codes, multipliers)."""
        return int((lib.e8_model_arena_least if least else lib.e8_model_arena)(self._model, threads))

    @property
    def activation_bytes(self) -> int:
        """Bytes of the arena that activations take."""
        return int(lib.e8_model_activation_bytes(self._model))

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the arena that weights take which the file holds entropy-coded."""
        return int(lib.e8_model_decoded_bytes(self._model))

    def session(self, threads: int = 1, *, least_memory: bool = False) -> Session:
        """A session that runs this model on so many threads; with the least memory it derives biases and multipliers anew in each run."""
        return Session(self, threads, least_memory=least_memory)


class Session:
    """Memory and threads to run a model. Call it with arrays; one caller at a time."""

    def __init__(self, model: Model, threads: int = 1, *, least_memory: bool = False) -> None:
        """Allocate the arena.

        Args:
            model: an open model.
            threads: how many threads work on a run, at least 1.
            least_memory: do without the memory for what is the same in every run, which each run then derives anew.

        Raises:
            MemoryError: the system refuses it; the message has the bytes.
        """
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.model = model
        self._session = ffi.new("e8_session *")
        size = model.arena_bytes(threads, least=least_memory)
        try:
            pointer, self._arena = aligned_block(size)
        except MemoryError:
            what = f"{model.path or 'the model'} needs {size / 1e6:.1f} MB of memory for its activations, which the system refuses"
            raise MemoryError(what) from None
        self._check(lib.e8_session_init(self._session, model._model, pointer, size, threads))
        self._pool = Pool(threads) if threads > 1 else None
        if self._pool:
            lib.e8_session_parallel(self._session, self._pool.parallel, self._pool.context)
        self._views = {
            io: [self._view(lib.e8_session_data(self._session, io, i), t) for i, t in enumerate(model._io[io])] for io in (_INPUT, _OUTPUT)
        }
        one = len(self._views[_INPUT]) == 1 and len(self._views[_OUTPUT]) == 1
        self._pair = (self._views[_INPUT][0], self._views[_OUTPUT][0]) if one else None
        self._run_session = lib.e8_session_run

    def _view(self, address: Any, tensor: Tensor) -> Array:
        return cast(Array, np.frombuffer(ffi.buffer(address, tensor.bytes), tensor.dtype).reshape(tensor.shape))

    def _check(self, status: int) -> None:
        if status != 0:
            raise Edge8Error(ffi.string(lib.e8_status_text(status)).decode())

    @property
    def inputs(self) -> list[Tensor]:
        """The model's inputs."""
        return self.model.inputs

    @property
    def outputs(self) -> list[Tensor]:
        """The model's outputs."""
        return self.model.outputs

    def __call__(self, inputs: Array | Mapping[str, Array]) -> Array | dict[str, Array]:
        """Run once.

        Args:
            inputs: an array (for a model with one input), or arrays by input name. Shapes are the model's; the dtype must convert
                to the model's without loss of kind (float64 to float32 is fine). With several times the model's batch in the
                first dimension the model runs once per part and the results are joined.

        Returns:
            The output array, or arrays by name where the model has several outputs. They belong to the caller.

        Raises:
            Edge8Error: an input is missing, unknown, or of the wrong shape or kind.
        """
        if self._pair is not None and type(inputs) is np.ndarray:
            # The usual case without the checks' time, which small networks would notice.
            x, y = self._pair
            if inputs.shape == x.shape and inputs.dtype == x.dtype:
                x[...] = inputs
                self.run()
                return y.copy()
        feeds = self._feeds(inputs)
        parts = self._parts(feeds)
        results = [
            self._run(
                {name: x[i * b : (i + 1) * b] for name, (x, b) in feeds.items()} if parts > 1 else {n: x for n, (x, _) in feeds.items()}
            )
            for i in range(parts)
        ]
        outputs = [np.concatenate(group) if parts > 1 else group[0] for group in zip(*results, strict=True)]
        if len(outputs) == 1:
            return outputs[0]
        return dict(zip((t.name for t in self.outputs), outputs, strict=True))

    def _feeds(self, inputs: Array | Mapping[str, Array]) -> dict[str, tuple[Array, int]]:
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                raise Edge8Error(f"the model has {len(self.inputs)} inputs; pass a dict with {', '.join(t.name for t in self.inputs)}")
            inputs = {self.inputs[0].name: inputs}
        for name in inputs:
            if all(t.name != name for t in self.inputs):
                raise Edge8Error(f"the model has no input {name!r}; it has {', '.join(t.name for t in self.inputs)}")
        feeds = {}
        for t in self.inputs:
            if t.name not in inputs:
                raise Edge8Error(f"input {t.name!r} is missing")
            x = np.asarray(inputs[t.name])
            same_rank = x.ndim == len(t.shape)
            if not same_rank or x.shape[1:] != t.shape[1:] or (t.shape and x.shape[0] % t.shape[0] != 0) or 0 in x.shape:
                raise Edge8Error(f"input {t.name!r} has shape {list(x.shape)}, the model takes {list(t.shape)}")
            if not np.can_cast(x.dtype, t.dtype, "same_kind"):
                raise Edge8Error(f"input {t.name!r} is {x.dtype}, the model takes {t.dtype}")
            feeds[t.name] = (x, t.shape[0] if t.shape else 1)
        return feeds

    def _parts(self, feeds: dict[str, tuple[Array, int]]) -> int:
        counts = {x.shape[0] // b if x.ndim else 1 for x, b in feeds.values()}
        if len(counts) > 1:
            raise Edge8Error("the inputs have different batch sizes")
        return counts.pop() if counts else 1

    def _run(self, feeds: Mapping[str, Array]) -> list[Array]:
        for t, view in zip(self.inputs, self._views[_INPUT], strict=True):
            view[...] = feeds[t.name]
        self.run()
        return [view.copy() for view in self._views[_OUTPUT]]

    def run(self) -> None:
        """Run on what `input_view` holds; results are in `output_view`. No copies."""
        self._check(self._run_session(self._session))

    def input_view(self, index: int = 0) -> Array:
        """The memory of an input, to be written before `run`; the run may overwrite it."""
        return self._views[_INPUT][index]

    def output_view(self, index: int = 0) -> Array:
        """The memory of an output, valid after `run` until the next one."""
        return self._views[_OUTPUT][index]

    def tensor(self, index: int) -> Array:
        """A view of any tensor's memory. An activation is valid in a hook, from its writer to its last reader."""
        t = self.model._tensor(index)
        address = lib.e8_session_tensor(self._session, index)
        if t.constant:
            return cast(Array, np.frombuffer(ffi.buffer(address, t.bytes), np.uint8))
        return self._view(address, t)

    @contextmanager
    def hook(self, after: Callable[[int], None] | None = None, before: Callable[[int], None] | None = None) -> Iterator[None]:
        """While the context lasts, call ``before(op)`` and ``after(op)`` around every operator of a run.

        An exception in a callback stops the run and is raised from it.
        """
        errors: list[BaseException] = []

        @ffi.callback("int(void *, uint32_t, int)")  # type: ignore[untyped-decorator, unused-ignore]
        def call(_context: Any, op: int, is_after: int) -> int:
            function = after if is_after else before
            try:
                if function is not None:
                    function(op)
            except BaseException as error:
                errors.append(error)
                return 1
            return 0

        check = self._check

        def raising(status: int) -> None:
            if errors:
                raise errors.pop()
            check(status)

        lib.e8_session_hook(self._session, call, ffi.NULL)
        self._check = raising  # type: ignore[method-assign]
        try:
            yield
        finally:
            self._check = check  # type: ignore[method-assign]
            lib.e8_session_hook(self._session, ffi.NULL, ffi.NULL)

    def op_times(self, runs: int = 10) -> list[float]:
        """Seconds that each operator takes, the mean over ``runs`` runs on the data in the inputs."""
        ticks = np.zeros(len(self.model.ops), np.uint64)
        keep = {i: view.copy() for i, view in enumerate(self._views[_INPUT])}
        lib.e8_session_times(self._session, ffi.addressof(lib, "e8_clock_ns"), ffi.NULL, ffi.cast("uint64_t *", ticks.ctypes.data))
        try:
            for _ in range(runs):
                for i, view in enumerate(self._views[_INPUT]):
                    view[...] = keep[i]
                self.run()
        finally:
            lib.e8_session_times(self._session, ffi.NULL, ffi.NULL, ffi.NULL)
        return [float(t) * 1e-9 / runs for t in ticks]
