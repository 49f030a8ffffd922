# SPDX-License-Identifier: Apache-2.0
"""`python -m edge8.converter`: the command convert."""

import sys

from .cli import convert_main

sys.exit(convert_main())
