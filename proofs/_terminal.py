"""What a person sees while a command runs, on a terminal or in a file."""

from __future__ import annotations

import os

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def console() -> Console:
    """As wide as the terminal, or COLUMNS; in a file 140 columns."""
    found = Console()
    unknown = not found.is_terminal and "COLUMNS" not in os.environ
    return Console(width=140) if unknown else found


def progress(console: Console) -> Progress:
    """Gone when done, and never in a file."""
    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def label(name: str, console: Console) -> str:
    """A name as wide as any other, so that the bars beside it stand still."""
    width = max(8, min(50, console.width - 42))
    return name[:width].ljust(width)
