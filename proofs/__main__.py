"""Runs the checks: ``python -m xent_jax.proofs``."""

import sys

from . import CHECKS, check


def main() -> int:
    """Prints a line for each check; the status is the number of failures."""
    failures = 0
    for name in CHECKS:
        holds = check(name)
        failures += not holds
        print(f"{'holds' if holds else 'FAILS':6} {name}", flush=True)
    print("at 3 classes, over the real numbers; not the code, not its rounding")
    return failures


if __name__ == "__main__":
    sys.exit(main())
