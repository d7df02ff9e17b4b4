"""Runs all benchmarks and writes one report, with tables and pictures, and the README's figures.

    pip install "xent-jax[bench]"
    pip install tokamax               # optional, to compare with it; for Python 3.12 or later
    python -m benchmarks [--quick] [--only NAME,NAME] [--output DIR]
    python -m benchmarks --readme     # writes all again from the stored data
    python -m benchmarks --draw [--output DIR]    # draws the pictures again from the stored data
    python -m benchmarks.head         # one benchmark by itself, with its tables on the screen

Each benchmark runs in its own process, so that no flag or number of devices leaks. If one fails,
its last lines are reported, the others go on, and the exit status is 1. All take about twenty-two
minutes on two cores. With --quick they take six, and the README stays as it is.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._store import FOLDER, ORDER, command_line, folder_of, load, note, save, write_readme

LAST = 12  # lines to report of a benchmark that failed


def names(text: str) -> list[str]:
    """Returns the names of --only, in the order of the report."""
    chosen = text.split(",")
    if unknown := set(chosen) - set(ORDER):
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(ORDER)}")
    return [name for name in ORDER if name in chosen]


def run(name: str, arguments: list[str], folder: Path) -> bool:
    """Runs a benchmark; returns whether it failed, and then notes the last lines it printed."""
    began, command = time.perf_counter(), [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        lines = [line.rstrip() for line in done.stdout.splitlines() if line.strip()]
        note(name, lines[-LAST:] or [f"exit status {done.returncode}"], folder)
    reasons = load(folder)[name].get("not_measured", {"why": []})["why"]
    how = "failed after" if done.returncode else "cannot run here; took" if reasons else "took"
    print(f"  {how} {time.perf_counter() - began:.0f} s", *reasons, sep="\n  ")
    return bool(done.returncode)


def main() -> int:
    parser = command_line("Runs all benchmarks.")
    parser.add_argument("--only", type=names, default=list(ORDER), metavar="NAMES")
    parser.add_argument("--readme", action="store_true", help="write the pages, run nothing")
    parser.add_argument("--draw", action="store_true", help="draw the pictures, run nothing")
    options = parser.parse_args()
    folder = folder_of(options)
    if options.readme:
        save(load(), FOLDER)
        write_readme()
    if options.draw:
        from benchmarks._drawing import save_pictures  # only the pictures need matplotlib

        save_pictures(load(folder), folder)
    if options.readme or options.draw:
        return 0
    arguments = ["--output", str(folder), *(["--quick"] if options.quick else [])]
    try:
        failed = []
        for i, name in enumerate(options.only):
            print(f"{name}, {i + 1} of {len(options.only)}", flush=True)
            failed += [name] * run(name, arguments, folder)
    except KeyboardInterrupt:
        print(f"stopped; what was measured before is in {folder / 'report.md'}")
        return 130
    if folder == FOLDER:
        write_readme()
    print(f"{folder / 'report.md'}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
