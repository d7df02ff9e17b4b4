"""``python -m tests.second_engine``: proves the theorems again, at small sizes."""

import sys

from .command import main

sys.exit(main())
