# SPDX-License-Identifier: Apache-2.0
"""What a contestant of a comparison does, and the list of them."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .network import Network

__all__ = ["Contestant", "OnnxContestant", "Run", "Unusable", "contestants"]

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Any]


class Unusable(Exception):  # noqa: N818  (a row of the table, not a failure of the run)
    """This contestant cannot take part with this network; the text is the reason that the table gives."""


class Contestant(ABC):
    """A runtime in one numeric form. Subclasses say how a network gets there, and how it is run."""

    name: ClassVar[str] = ""
    runtime: ClassVar[str] = ""
    int8: ClassVar[bool] = False
    suffix: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    """What running imports: before the load is timed."""
    tools: ClassVar[tuple[str, ...]] = ()
    """What preparing imports besides."""
    packages: ClassVar[str] = ""
    """What pip has to install."""

    def missing(self) -> str | None:
        """Why it cannot take part on this machine, or None."""
        for module in (*self.modules, *self.tools):
            try:
                found = importlib.util.find_spec(module)
            except ImportError:
                found = None
            if found is None:
                return f"not installed: pip install {self.packages}"
        return None

    def path(self, network: Network) -> Path:
        """The file that `prepare` makes."""
        return network.folder / f"{self.name}{self.suffix}"

    def file_bytes(self, network: Network) -> int:
        """Size of what is loaded."""
        return self.path(network).stat().st_size

    @abstractmethod
    def prepare(self, network: Network, samples: int) -> None:
        """Make the file, calibrated on so many samples. May raise anything; the table gives the text."""

    def prepare_source(self, network: Network) -> str | None:
        """Make what a quantiser starts from, where that is not the ONNX model itself; why it cannot be made, or None."""
        return None

    @abstractmethod
    def load(self, network: Network, threads: int) -> Run:
        """Load the file; the result takes the network's input and gives its first output."""

    def unpack(self, run: Run, x: Array) -> tuple[Run, Array]:
        """What is timed: a call and its argument, where that is not ``run(x)`` (an int8 model that takes codes)."""
        return run, x


class OnnxContestant(Contestant):
    """One that reads the ONNX model itself in float32; its int8 form is a file that `prepare` makes."""

    def path(self, network: Network) -> Path:
        """The model, or the int8 file."""
        return super().path(network) if self.int8 else network.path

    def prepare(self, network: Network, samples: int) -> None:
        """Nothing to make in float32."""


def contestants() -> dict[str, Contestant]:
    """Every contestant by name, edge8 first."""
    from . import desktop, mobile

    return {c.name: c for c in (*desktop.contestants(), *mobile.contestants())}
