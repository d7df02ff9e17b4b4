"""What the benchmarks share: options, timed runs, verdicts, the machine, and storing results."""

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
from _store import FOLDER, QUICK, load, note, save
from _tables import TARGETS
from rich.console import Console
from rich.table import Table

PACKAGES = "jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "optax", "tokamax", "xent_jax"
TARGET_HEAD = ["", "found", "target", ""]


def parser(description: str, quick: str) -> argparse.ArgumentParser:
    """Returns a parser with the options --quick and --output."""
    out = argparse.ArgumentParser(description=description)
    out.add_argument("--quick", action="store_true", help=quick)
    out.add_argument(
        "--output", type=Path, metavar="DIR", help=f"default: {FOLDER.name}; if quick, {QUICK}"
    )
    return out


def run(main: Callable[[], None]) -> None:
    """Runs the program; Ctrl-C ends it with one line."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")


def timed(program, arguments) -> float:
    """Returns the seconds of one run, and frees its results afterwards."""
    began = time.perf_counter()
    out = jax.block_until_ready(program(*arguments))
    seconds = time.perf_counter() - began
    del out
    return seconds


def verdict(value: float, target: float) -> str:
    return "reached" if value <= target else "missed"


def target(what: str, found: float, limit: float, digits: str = ".3f") -> list[str]:
    """Returns a row of the table of targets."""
    return [what, format(found, digits), f"{limit:,}", verdict(found, limit)]


def machine() -> str:
    """Returns the processor, the system and the versions of everything that is compared."""
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    hardware = f"{processor()}, {os.cpu_count()} cores{memory()}"
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return "; ".join([hardware, system, ", ".join(versions)])


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def memory() -> str:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return ""
    return f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"


def busy() -> tuple[float, float, float] | None:
    """Returns the seconds that all cores and this program were busy, and the time; Linux only."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    ticks = [int(number) for number in stat.read_text().splitlines()[0].split()[1:9]]
    idle, waiting = ticks[3:5]
    cores = (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK")
    return cores, sum(os.times()[:4]), time.perf_counter()


BEGAN = busy()


def others() -> str:
    """Returns how many cores other programs kept busy since this one began, if known and not 0."""
    if (now := busy()) is None or BEGAN is None:
        return ""
    cores, own, seconds = (b - a for a, b in zip(BEGAN, now, strict=True))
    kept = f"{max(0.0, (cores - own) / seconds):.1f}"
    return "" if kept == "0.0" else kept


def console() -> Console:
    """Returns a wide console; otherwise tables in a file would have 80 columns."""
    return Console(width=max(Console().width, 170))


def show(out: Console, title: str, head: list[str], rows: list[list[str]]) -> None:
    shown = Table(*head, title=title)
    for row in rows:
        shown.add_row(*row)
    out.print(shown)


def publish(name: str, options, tables: dict[str, tuple], **section) -> Path:
    """Prints the tables and stores them as a section, the targets first; gives the folder.

    Args:
        name: of the benchmark
        options: of its command line
        tables: title to head and rows of texts
        section: title, question, notes, left_out, whether there is a picture

    """
    folder = options.output or (QUICK if options.quick else FOLDER)
    for title, rows in tables.items():
        show(console(), title, *rows)
    known = {"date": str(datetime.date.today()), "machine": machine(), "quick": options.quick}
    save(load(folder) | {name: section | known | {"tables": tables}}, folder)
    console().print(f"{folder / 'report.md'}, {known['machine']}")
    return folder


def not_here(name: str, options, why: list[str]) -> None:
    """Notes in the report why the benchmark could not run on this machine."""
    folder = options.output or (QUICK if options.quick else FOLDER)
    note(name, why, folder)
    console().print("not run here:", *why, sep="\n")


def with_targets(rows: list[list[str]], tables: dict[str, tuple]) -> dict[str, tuple]:
    return {TARGETS: (TARGET_HEAD, rows), **tables}
