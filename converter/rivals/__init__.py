# SPDX-License-Identifier: Apache-2.0
"""`edge8 bench net.onnx --against ...`: edge8 beside other inference runtimes, in one interleaved run on this machine.

| file | what |
| --- | --- |
| network.py | an ONNX model with one input, its inputs and its calibration samples |
| contestant.py | what a contestant can do; the list of them |
| desktop.py, mobile.py, torch_model.py | the runtimes |
| worker.py | the process of one contestant |
| race.py | the rounds: which process runs when, which rounds count |
| record.py, plot.py | JSON, Markdown, picture |
| command.py | the command |

Nothing here is needed to convert or to run a model.
"""

from __future__ import annotations

from .contestant import Contestant, Unusable, contestants
from .network import Network

__all__ = ["Contestant", "Network", "Unusable", "contestants"]
