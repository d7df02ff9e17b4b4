"""``python -m tests.mutation``: tests the prover with wrong backward passes."""

import sys

from .command import main

sys.exit(main())
