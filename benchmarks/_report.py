"""What the benchmarks share: options, a timed run, the tables, the environment, the file."""

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
from rich.console import Console
from rich.table import Table

import xent_jax


def parser(description: str) -> argparse.ArgumentParser:
    """Options with --output, by default this folder."""
    out = argparse.ArgumentParser(description=description)
    out.add_argument("--output", type=Path, default=Path(__file__).parent, metavar="DIR")
    return out


def run(main: Callable[[], None]) -> None:
    """The program, which Ctrl-C ends in one line."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")


def console(width: int) -> Console:
    """At least that wide, or a file would get tables of 80 columns."""
    return Console(width=max(Console().width, width))


def timed(program, arguments) -> float:
    """Seconds of one run; what it gave is freed afterwards."""
    began = time.perf_counter()
    out = jax.block_until_ready(program(*arguments))
    seconds = time.perf_counter() - began
    del out
    return seconds


def verdict(value: float, target: float) -> str:
    return "reached" if value <= target else "missed"


def show(console: Console, title: str, head: list[str], rows: list[list[str]]) -> None:
    out = Table(*head, title=title)
    for row in rows:
        out.add_row(*row)
    console.print(out)


def markdown(head: list[str], rows: list[list[str]], texts: int = 1) -> str:
    """A table whose first columns, ``texts`` of them, are texts, the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    lines = [[h.replace("\n", " ") for h in head], rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def versions(*packages: str) -> str:
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    python = f"Python {platform.python_version()}"
    return ", ".join([python, *found, f"xent_jax {xent_jax.__version__}"])


def environment(*packages: str) -> str:
    """The day, the processor and the versions."""
    info = Path("/proc/cpuinfo")
    models = (
        [x for x in info.read_text().splitlines() if "model name" in x] if info.exists() else []
    )
    model = models[0].split(":")[1].strip() if models else platform.processor()
    return (
        f"{datetime.date.today()}; {model}, {os.cpu_count()} cores; "
        f"JAX on {jax.devices()[0].device_kind}; {versions(*packages)}"
    )


def write(path: Path, parts: list[str]) -> None:
    """Paragraphs, into a folder that need not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n")
