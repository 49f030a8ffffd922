# SPDX-License-Identifier: Apache-2.0
"""The process that makes one contestant's file: `python -m edge8.converter.rivals.preparation SETTINGS`. Its last line is the reason
when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .contestant import contestants
from .network import Network

__all__ = ["main"]


def main() -> int:
    """Prepare; exit code 1 when that fails."""
    s = json.loads(sys.argv[1])
    network = Network(s["name"], Path(s["path"]), Path(s["folder"]), s["input"], tuple(s["shape"]))
    try:
        contestants()[s["contestant"]].prepare(network, s["samples"])
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        print(f"{type(error).__name__}: {' '.join(lines[0].split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
