"""Checks every proof, as the command ``python -m xent_jax.proofs`` or ``xent-prove``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Sequence

from ._jax_internals import ANYWAY, READ


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    The status is 0 if everything holds, 1 if something does not or a process died, 2 if an option
    is wrong or a package is missing, and 130 after Ctrl-C.
    """
    options = _parser().parse_args(argv)
    missing = [m for m in ("sympy", "rich", "latex2mathml") if importlib.util.find_spec(m) is None]
    if missing:
        names = " and ".join(missing)
        print(f"xent-prove needs {names}: pip install 'xent-jax[proofs]'", file=sys.stderr)
        return 2
    from ._command import run
    from ._terminal import Misused
    from ._workers import Died

    try:
        return run(options)
    except (Misused, Died) as error:
        print(f"xent-prove: {error}", file=sys.stderr)
        return 2 if isinstance(error, Misused) else 1
    except KeyboardInterrupt:
        print("xent-prove: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xent-prove",
        description="Checks the derivations and the theorems about the shipped code.",
        epilog="Exit status: 0 if all hold, 1 if something does not, 2 for a wrong call. "
        f"Theorems are proved of what jax {READ[0]} to {READ[-1]} traces; on another version, "
        f"{ANYWAY}=1 in the environment tries anyway, and each verdict says so.",
    )
    add = parser.add_argument
    add("--list", action="store_true", help="print the names, prove nothing")
    add("--only", action="append", metavar="NAME", help="a name, or a pattern such as 'seed_*'")
    add("--jobs", type=_jobs, metavar="N", help="prove in N processes; without, one per core")
    add("--json", metavar="FILE", help="write the results to FILE")
    add("--html", metavar="FILE", help="write the page to FILE")
    add("--module", metavar="PKG.MOD:FUNCTION", help="prove your own function instead")
    add(
        "--args",
        metavar="SPECS",
        help="its arguments, as prove_vjp takes them, in order: "
        '\'z=array("n k"), y=labels("n", classes="k")\'; '
        "without, the function's attribute xent_spec, a dictionary of them",
    )
    add("--wrt", metavar="NAMES", help="what to differentiate by, as z,b; the first one without")
    add(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        default=120.0,
        help="how long to try to prove your own function; 120 without",
    )
    return parser


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (number := float(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"above 0, got {text}")


def _jobs(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"at least 1, got {text}")


if __name__ == "__main__":
    sys.exit(main())
