"""Runs a benchmark from the command line: times programs and stores results in the report."""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import rich.progress
from rich.console import Console
from rich.markdown import Markdown

from benchmarks._drawing import PICTURES, save_pictures
from benchmarks._markdown import chapter
from benchmarks._records import Record
from benchmarks._store import command_line, encoded, folder_of, load, note, save

PACKAGES = "jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "optax", "tokamax", "xent_jax"
CONSOLE = Console(width=max(Console().width, 170))  # in a file, tables would otherwise be 80 wide


class NotHere(Exception):
    """Says, in its arguments, why a benchmark cannot run on this machine."""


@dataclasses.dataclass
class Benchmark:
    """A chapter of the report, and the program that measures it."""

    name: str
    title: str
    text: str  # what it measures in one line, an empty line, and notes for the report
    measure: Callable[[bool], list[Record]]  # takes whether to be quick
    inside: Callable[[str, bool], list[Record]] | None = None  # takes a platform's name first
    left_out: Sequence[str] = ()
    timed: bool = False  # whether other programs would disturb it

    def main(self) -> None:
        """Measures, prints the tables, and stores them in the report."""
        parser = command_line(self.text.partition("\n")[0])
        parser.add_argument("--inside", help=argparse.SUPPRESS)  # used by compile_for
        options = parser.parse_args()
        try:
            if options.inside:
                found = self.inside(options.inside, options.quick)
                print(f"[{', '.join(map(encoded, found))}]")
            else:
                self.run(options.quick, folder_of(options))
        except NotHere as error:
            note(self.name, list(error.args), folder_of(options))
            CONSOLE.print("not run here:", *error.args, sep="\n", markup=False)
        except KeyboardInterrupt:
            sys.exit("interrupted")

    def run(self, quick: bool, folder: Path) -> None:
        """Measures, prints the tables, and stores them in the report of that folder."""
        began, _ = os.times(), psutil.cpu_percent()  # the next call measures from here on
        records = self.measure(quick)
        question, _, notes = self.text.strip().partition("\n\n")
        section = {
            "title": self.title,
            "question": question,
            "notes": notes,
            "others": others(began) if self.timed else "",
            "left_out": list(self.left_out),
            "picture": self.name in PICTURES,
            "date": str(datetime.date.today()),
            "machine": machine(),
            "quick": quick,
            "records": records,
        }
        CONSOLE.print(Markdown(chapter(self.name, section)))
        save(load(folder) | {self.name: section}, folder)
        save_pictures({self.name: section}, folder)
        CONSOLE.print(folder / "report.md")


def track(items: Collection, what: str) -> Iterable:
    """Yields the items, and shows how many are done."""
    # No refresh from a thread: it would take a core during the runs.
    return rich.progress.track(items, what, console=CONSOLE, auto_refresh=False)


# ---------------------------------------------------------------- timed runs


def clocked(function: Callable, *arguments) -> tuple[float, Any]:
    """Returns the milliseconds of one call, and its results."""
    began = time.perf_counter()
    results = jax.block_until_ready(function(*arguments))
    return 1e3 * (time.perf_counter() - began), results


def in_rounds(measures: Sequence[Callable], least: int, seconds: float = 0.0) -> np.ndarray:
    """Returns the results of functions, [rounds, functions, ...].

    Each round calls every function once, in a random order. After a round that warms up, there are
    at least ``least`` rounds, and they go on for at least so many seconds.
    """
    rng, rounds, began = np.random.default_rng(0), [], 0.0
    while len(rounds) <= least or time.perf_counter() - began < seconds:
        found = {i: measures[i]() for i in rng.permutation(len(measures))}
        rounds.append([found[i] for i in range(len(measures))])
        if len(rounds) == 1:  # that round warmed up
            began = time.perf_counter()
    return np.array(rounds[1:])


def times(programs: Iterable[Callable], arguments: Sequence, *limits: float) -> np.ndarray:
    """Returns the milliseconds of the programs in rounds, [rounds, programs]."""
    return in_rounds([lambda one=one: clocked(one, *arguments)[0] for one in programs], *limits)


def ratios(times: np.ndarray, over: np.ndarray) -> dict[str, float]:
    """Returns median and spread of the ratios of two programs' times, round by round."""
    low, ratio, high = np.percentile(times / over, (10, 50, 90)).tolist()
    return {"ratio": ratio, "ratio, 10 %": low, "ratio, 90 %": high}


def compiled(function: Callable, arguments: Sequence) -> jax.stages.Compiled:
    return jax.jit(function).lower(*arguments).compile()


def temp_mib(program: jax.stages.Compiled) -> float:
    """Returns the MiB of temporary memory of a program, as the compiler states it."""
    return program.memory_analysis().temp_size_in_bytes / 2**20


def temp_share(program: jax.stages.Compiled, logits) -> float:
    """Returns the temporary memory of a program in % of the bytes of some logits."""
    return 100 * 2**20 * temp_mib(program) / (logits.size * logits.dtype.itemsize)


# ---------------------------------------------------------------- the machine


def machine() -> str:
    """Returns the processor, the system and the versions of everything that is compared."""
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    info = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)", info.read_text(), re.M) if info.exists() else []
    memory = psutil.virtual_memory().total / 2**30
    hardware = f"{[*models, platform.processor()][0]}, {os.cpu_count()} cores, {memory:.0f} GiB"
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return "; ".join([hardware, system, ", ".join(versions)])


def others(began: Sequence[float]) -> str:
    """Returns how many cores other programs have kept busy since those os.times(), if not 0."""
    *own, seconds = np.subtract(os.times(), began)
    cores = psutil.cpu_percent() / 100 * os.cpu_count() - sum(own) / seconds
    return f"{cores:.1f}" if cores >= 0.05 else ""
