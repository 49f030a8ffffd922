# SPDX-License-Identifier: Apache-2.0
"""`python -m edge8`: the command edge8."""

import sys

from .cli import main

sys.exit(main())
