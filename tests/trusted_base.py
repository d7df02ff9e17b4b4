"""``python -m tests.trusted_base``: lists the files that a proof rests on, with their lines.

Prints the table that is between marks in CONTRIBUTING.md. ``--write`` writes it there.
"""

import argparse
import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROOFS, PAGE = ROOT / "proofs", ROOT / "CONTRIBUTING.md"
PARTS = {
    "that each function of terms returns a term of the same value, and that a sign is sure": (
        "_normal_form/*.py",
    ),
    "that a primitive is read as the entries that JAX computes, and that the claim is the one "
    "stated": ("_prover/*.py", "_jax_internals.py"),
    "that a formula is read as what it means": (
        "_derivations/terms.py", "_derivations/decide.py", "_derivations/derivation.py"
    ),
    "that the textbook's functions, and the options and arguments of each theorem, are those that "
    "its name says": ("_theorems/*.py",),
    "that what is printed is what was decided": (
        "_catalogue.py", "_command.py", "_workers.py", "_users.py"
    ),
}  # fmt: skip
"""What is trusted, with the files of which it is trusted."""
FREE = {
    "__init__.py", "__main__.py", "_terminal.py",  # names and options
    "_prover/counterexample.py", "_prover/sympy.py", "_prover/words.py",  # no proof rests on them
    "_refutation/*.py", "_page/*.py",  # nor on the search for counterexamples, nor on the page
    "_derivations/*.py",  # except for the three above, which decide each step
}  # fmt: skip
"""The other files, on which no proof rests."""
_MARKS = re.compile(r"(<!-- trusted -->\n).*?(<!-- end -->)", re.DOTALL)


def files(patterns: Sequence[str]) -> list[Path]:
    """Returns the files that match any of the patterns."""
    return sorted({p for pattern in patterns for p in PROOFS.glob(pattern)})


def trusted(patterns: Sequence[str]) -> list[Path]:
    """Returns the files that match any of the patterns and that a proof rests on."""
    named = {p for pattern in FREE if "*" not in pattern for p in PROOFS.glob(pattern)}
    return [p for p in files(patterns) if p not in named]


def table() -> str:
    """Returns the table in Markdown; the first paragraph of a file's docstring describes it."""
    total = sum(_lines(p) for patterns in PARTS.values() for p in trusted(patterns))
    rows = [f"| file of `proofs/` | lines ({total:,}) | what it does |", "|---|--:|---|"]
    for what, patterns in PARTS.items():
        found = trusted(patterns)
        rows.append(f"| | **{sum(map(_lines, found)):,}** | **trusted: {what}** |")
        rows += [f"| `{_name(p)}` | {_lines(p)} | {_sentence(p)} |" for p in found]
    return "\n".join(rows) + "\n"


def _name(path: Path) -> str:
    return path.relative_to(PROOFS).as_posix()


def _lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def _sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", r"\|")


def with_table(page: str) -> str:
    """Returns the text of the page with the table as it is now."""
    return _MARKS.sub(lambda m: m[1] + table() + m[2], page)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, or writes it into CONTRIBUTING.md."""
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.trusted_base", description=rest)
    parser.add_argument("--write", action="store_true", help=f"put it into {PAGE.name}")
    if parser.parse_args(argv).write:
        PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
