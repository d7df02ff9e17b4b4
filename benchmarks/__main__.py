"""Runs all benchmarks and writes one report, with tables and pictures, and the figures elsewhere.

    pip install "xent-jax[bench]"
    python -m benchmarks [--quick] [--only NAME,NAME] [--output DIR]
    python -m benchmarks --readme     # writes all again from the stored data

The figures elsewhere are those of the README and of docs/measured. Each benchmark runs in its own
process, so that no flag or number of devices leaks. If one fails, its last lines are reported, the
others go on, and the exit status is 1. All take about twenty-two minutes on two cores. With --quick
they take six, and the README and docs/measured stay as they are.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from _readme import write  # noqa: E402  it lies beside
from _store import FOLDER, ORDER, QUICK, load, note, save  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: E402

LAST = 12  # lines of what failed


def names(text: str) -> list[str]:
    """Returns the names of --only, in the order of the report."""
    chosen = text.split(",")
    if unknown := set(chosen) - set(ORDER):
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(ORDER)}")
    return [name for name in ORDER if name in chosen]


def end(process: subprocess.Popen) -> None:
    """Ends a process and all that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def run(script: Path, arguments: list[str], tick) -> list[str]:
    """Runs a script; if it fails, returns the last lines that it printed, else an empty list."""
    command = [sys.executable, str(script), *arguments]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while process.poll() is None:
                tick()
                time.sleep(0.2)
        except BaseException:
            end(process)
            raise
        log.seek(0)
        lines = [line.rstrip() for line in log if line.strip()]
    return (lines[-LAST:] or [f"exit status {process.returncode}"]) if process.returncode else []


def run_all(chosen: list[str], folder: Path, arguments: list[str], out: Console) -> list[str]:
    """Runs the benchmarks with those names; returns the names of those that failed."""
    failed = []
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    # No refresh from a thread: it would take a core during the runs.
    with Progress(*columns, console=out, auto_refresh=False, transient=True) as progress:
        for i, name in enumerate(chosen):
            task = progress.add_task(f"{name}, {i + 1} of {len(chosen)}")
            began = time.perf_counter()
            why = run(FOLDER / f"{name}.py", arguments, progress.refresh)
            took = f"{time.perf_counter() - began:.0f} s"
            progress.remove_task(task)
            if why:
                note(name, why, folder)
                failed.append(name)
                out.print(f"{name}: failed after {took}", *why, sep="\n", markup=False)
            elif (skipped := load(folder)[name].get("not_measured")) is not None:
                out.print(f"{name}: cannot run here", *skipped["why"], sep="\n", markup=False)
            else:
                out.print(f"{name}: {took}")
    return failed


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description="All benchmarks.")
    options.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    options.add_argument("--only", type=names, default=list(ORDER), metavar="NAMES")
    options.add_argument("--output", type=Path, metavar="DIR", help="of the report")
    options.add_argument("--readme", action="store_true", help="write, run nothing")
    options = options.parse_args()
    folder, out = options.output or (QUICK if options.quick else FOLDER), Console()
    if options.readme:
        save(load(), FOLDER)
        write()
        return 0
    arguments = ["--output", str(folder), *(["--quick"] if options.quick else [])]
    try:
        failed = run_all(options.only, folder, arguments, out)
    except KeyboardInterrupt:
        out.print(f"stopped; what was measured before is in {folder / 'report.md'}")
        return 130
    if folder == FOLDER:
        write()
    out.print(f"{folder / 'report.md'}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
