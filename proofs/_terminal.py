"""Makes the console and the progress bar of the commands, and defines their error."""

from __future__ import annotations

import os

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Misused(Exception):
    """Raised if a command cannot use an option; the message says why."""


def console() -> Console:
    """Returns a console as wide as the terminal or COLUMNS, or 140 columns wide for a file."""
    found = Console()
    unknown = not found.is_terminal and "COLUMNS" not in os.environ
    return Console(width=140) if unknown else found


def progress(console: Console) -> Progress:
    """Returns a progress bar, which disappears when done and is never written to a file."""
    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def label(name: str, console: Console) -> str:
    """Returns a name padded or cut to a fixed width, so that the bar beside it does not move."""
    width = max(8, min(50, console.width - 42))
    return name[:width].ljust(width)
