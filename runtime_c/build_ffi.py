# SPDX-License-Identifier: Apache-2.0
"""Build step: `python build_ffi.py OUT.py` writes the out-of-line ABI-mode cffi module from the public headers.

What stands between CFFI-BEGIN and CFFI-END in include/*.h is the declaration, so header and binding cannot drift apart.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

INCLUDE = Path(__file__).resolve().parent / "include"
# edge8.h first: the others use its types.
HEADERS = [INCLUDE / "edge8.h", *sorted(p for p in INCLUDE.glob("*.h") if p.name != "edge8.h")]


def declarations() -> str:
    """The concatenated blocks, without the export macro."""
    text = ""
    for header in HEADERS:
        blocks = re.findall(r"/\* CFFI-BEGIN.*?\*/(.*?)/\* CFFI-END \*/", header.read_text(), re.S)
        text += "".join(blocks)
    return re.sub(r"\bE8_API\b", "", text)


def main() -> None:
    """Write the module to the path in argv[1]."""
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source("edge8._edge8_cffi", None)
    ffi.emit_python_code(sys.argv[1])


if __name__ == "__main__":
    main()
