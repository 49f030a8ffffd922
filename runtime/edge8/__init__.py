# SPDX-License-Identifier: Apache-2.0
"""edge8: run int8 and float models on small machines. numpy arrays in and out.

    model = edge8.Model("net.e8")
    session = model.session(threads=2)
    scores = session(picture)

`edge8.converter` makes .e8 files from ONNX; it needs `pip install edge8[convert]`.
"""

from . import cpu
from .errors import Edge8Error, FormatError
from .model import Model, Op, Session, Tensor

__version__ = "0.1.0"
__all__ = ["Edge8Error", "FormatError", "Model", "Op", "Session", "Tensor", "cpu"]
