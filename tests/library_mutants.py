"""``python -m tests.library_mutants``: changes the library, and asks which theorem or test notices.

Makes each change of ``library_changes`` in a copy, never in the library itself. In the copy it runs
the theorems that could notice the change, until one is not proved. If all are proved, it runs the
tests that could notice it. The command fails if nothing notices a change. All theorems and tests
must hold without any change.
"""

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xent_jax.proofs
from rich.markup import escape
from rich.table import Table
from xent_jax.proofs._terminal import console as the_console

import xent_jax
from tests.library_changes import CHANGES, Change

LIBRARY, PROOFS = (Path(m.__file__).parent for m in (xent_jax, xent_jax.proofs))
TESTS = Path(__file__).parent
SECONDS = 900  # after which a theorem or test counts as one that notices nothing
_FIRST_THAT_FAILS = """
import fnmatch, sys
from xent_jax.proofs._prover import counterexample
from xent_jax.proofs._theorems.shipped import THEOREMS
for search in ("vjp", "jvp", "equal"):  # that it is not proved says enough
    setattr(counterexample, search, lambda *_: None)
for t in THEOREMS:
    if fnmatch.fnmatchcase(t.name, sys.argv[1]):
        try:
            status = t.prove().status
        except Exception as error:
            status = f"raises {type(error).__name__}"
        if status != "proved":
            sys.exit(f"theorem {t.name} ({status})")
"""


def changed(source: str, change: Change) -> str:
    """Returns the source with the change; raises ValueError unless the old text occurs once."""
    if source.count(change.old) != 1 or change.new == change.old:
        raise ValueError(f"occurs {source.count(change.old)} times: {change.name}")
    return source.replace(change.old, change.new)


def copied(copy: Path) -> Path:
    """Copies what the theorems and tests need into an empty folder, and returns the folder."""
    shutil.copytree(LIBRARY, copy / "xent_jax", ignore=shutil.ignore_patterns("proofs"))
    shutil.copytree(PROOFS, copy / "xent_jax" / "proofs")
    for folder in ("tests", "benchmarks", "examples"):
        shutil.copytree(TESTS.parent / folder, copy / folder)
    for name in ("pyproject.toml", "CITATION.cff"):
        shutil.copy(TESTS.parent / name, copy)
    return copy


def noticed(change: Change) -> str:
    """Returns the first theorem or test that fails in a copy with the change, "" if none does."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = copied(Path(temporary))
        file = copy / "xent_jax" / change.file
        file.write_text(changed(file.read_text("utf-8"), change), "utf-8")
        if change.theorems:
            status, said = run_in(copy, "-c", _FIRST_THAT_FAILS, change.theorems)
            if status:
                last = said.strip().splitlines()[-1]
                return last if last.startswith("theorem ") else f"theorems, which raise: {last}"
        if tests := change.tests.split():
            ids = [f"tests/{test}" for test in tests]
            options = "-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider"
            status, said = run_in(copy, "-m", "pytest", *options, *ids)
            if status not in (0, 4):  # 4: there is no such test, or its file cannot be read
                failed = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - |$)", said, re.M)
                return f"test {failed[1] if failed else tests[0]}"
    return ""


def run_in(copy: Path, *args: str) -> tuple[int, str]:
    """Runs Python in a copy; returns the exit status, or 0 after ``SECONDS``, and the output."""
    env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}
    try:
        run = subprocess.run(
            [sys.executable, *args], cwd=copy, env=env, text=True, timeout=SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 0, ""
    return run.returncode, run.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if each change is noticed or gives the same finite real numbers, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.library_mutants", description=__doc__.split("\n", 2)[2]
    )
    parser.add_argument("--only", metavar="GLOB", default="*", help="of the files or changes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    options = parser.parse_args(argv)
    chosen = [
        c for c in CHANGES
        if any(fnmatch.fnmatchcase(name, options.only) for name in (c.file, c.name))
    ]  # fmt: skip
    if not chosen:
        parser.error(f"--only {options.only}: there is no such change")
    console = the_console()
    table, missed = Table("change", "noticed by", show_lines=True), 0
    with ThreadPoolExecutor(options.jobs) as pool:
        coming = zip(chosen, pool.map(noticed, chosen), strict=True)
        for place, (change, found) in enumerate(coming, 1):
            missed += not (found or change.equal)
            what = escape(found or (f"equal: {change.equal}" if change.equal else "nothing"))
            what = what if found or change.equal else f"[red]{what}[/red]"
            name = escape(change.name)
            console.print(f"{place}/{len(chosen)} {name}: {what}", highlight=False, soft_wrap=True)
            table.add_row(name, what)
    console.print(table, highlight=False)
    console.print(f"of {len(chosen)} changes, {missed} noticed by nothing", highlight=False)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
