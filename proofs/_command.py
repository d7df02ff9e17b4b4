"""Runs the command, after its options are parsed."""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import functools
import json
import pathlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._catalogue import Answer, Claim, claims
from ._jax_internals import READ, untested
from ._terminal import Misused, label, progress
from ._terminal import console as the_console
from ._theorems.shipped import UNPROVED
from ._users import prove_users
from ._workers import answers, usual_jobs

Results = list[tuple[Claim, Answer]]


def run(options: argparse.Namespace) -> int:
    """Runs what the options ask for, and returns the exit status."""
    console = the_console()
    if options.module:
        return prove_users(options, console)
    if options.args or options.wrt:
        raise Misused("--args and --wrt describe the function that --module names; give --module")
    for option, file in (("--json", options.json), ("--html", options.html)):
        if file and not pathlib.Path(file).parent.is_dir():
            raise Misused(f"{option} {file}: there is no folder {pathlib.Path(file).parent}")
    chosen = _chosen(claims(), options.only)
    if options.list:
        for c in chosen:
            console.print(f"{escape(c.name)}  [dim]{c.engine}[/dim]", highlight=False)
        return 0
    if (why := untested()) and any(c.engine != "derivation" for c in chosen):
        raise Misused(why)
    start = time.perf_counter()
    results = _proved(chosen, console, options.jobs or usual_jobs(len(chosen)))
    _print(results, console, time.perf_counter() - start)
    if options.json:
        pathlib.Path(options.json).write_text(_json(results), "utf-8")
    if options.html:
        from ._page.page import page

        pathlib.Path(options.html).write_text(page(results), "utf-8")
    return int(not all(a.holds for _, a in results))


def _chosen(every: list[Claim], patterns: list[str] | None) -> list[Claim]:
    if not patterns:
        return every
    for pattern in patterns:
        if not any(_matches(c, pattern) for c in every):
            near = difflib.get_close_matches(pattern, {n for c in every for n in _names(c)})
            like = f", but {near[0]!r} is" if near else ""
            raise Misused(f"nothing is called {pattern!r}{like}; --list prints the names")
    return [c for c in every if any(_matches(c, pattern) for pattern in patterns)]


def _names(claim: Claim) -> list[str]:
    return [claim.name] if claim.engine == "derivation" else [claim.name, claim.group]


def _matches(claim: Claim, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in _names(claim))


def _proved(chosen: list[Claim], console: Console, jobs: int) -> Results:
    found: dict[int, Answer] = {}
    bar = progress(console)
    task = bar.add_task("", total=len(chosen))

    def report(running: list[Claim]) -> None:
        names = (escape(label(c.name, console)) for c in running)
        bar.update(task, description="\n".join(names))

    with bar, closing(answers(chosen, jobs, report)) as coming:
        for place, answer in coming:
            found[place] = answer
            if not answer.holds:
                console.print(f"[red]fails[/red] {escape(chosen[place].name)}")
            bar.advance(task)
    return [(claim, found[place]) for place, claim in enumerate(chosen)]


def _print(results: Results, console: Console, seconds: float) -> None:
    engines = Counter(c.engine for c, _ in results)
    shared = {engine: _shared(results, engine) for engine in engines}
    rows = [_row(c, a, shared[c.engine]) for c, a in results]
    groups = {c.group for c, _ in results}
    for u in (u for u in UNPROVED if u.function in groups):
        what = f"[yellow]not proved[/yellow]: {escape(u.what)}\n[dim]{escape(u.reason)}[/dim]"
        rows.append(("–", escape(u.function), what, "", "", ""))
    failed = sum(not a.holds for _, a in results)
    counts = ", ".join(f"{n} by {e}" for e, n in engines.items())
    verdict = f"[red]{failed} do not hold[/red]" if failed else "[green]all hold[/green]"
    say = functools.partial(console.print, highlight=False)
    say(_table(rows, console.width))
    for engine in filter(shared.get, shared):
        say(f"assumptions of all proofs by {engine}: {'; '.join(shared[engine])}")
    if engines["all sizes"]:
        say(
            f"theorems are about what jax {jax.__version__} traced; the prover was tested with "
            f"{READ[0]} to {READ[-1]}"
        )
    say(f"{len(results)} claims ({counts}): {verdict}; {seconds:.1f} s")
    say("claims are about real numbers: they say nothing of rounding, overflow or NaN")


def _row(c: Claim, a: Answer, shared: Sequence[str]) -> tuple[str, ...]:
    """Returns a row of the table, without least sizes and without the ``shared`` assumptions."""
    mark = "[green]✓[/green]" if a.holds else "[red]✗[/red]"
    texts = [escape(c.statement)]
    for text in a.assumptions:
        if text not in shared and not re.fullmatch(r"\w+ is at least \d+", text):
            texts.append(f"[dim]{escape(text)}[/dim]")
    if a.reason:
        texts.append(f"[red]{escape(a.reason)}[/red]")
    return mark, escape(c.name), "\n".join(texts), c.sizes, c.engine, f"{a.seconds:.2f}"


def _table(rows: list[tuple[str, ...]], width: int) -> Table:
    """Returns a table of six columns, or of two if the terminal is narrow."""
    narrow = width < 100
    table = Table(header_style="bold", pad_edge=False, show_lines=narrow)
    table.add_column("")
    if not narrow:
        table.add_column("name", max_width=34, overflow="fold")
    table.add_column("what is proved, under which assumptions", overflow="fold")
    for name in () if narrow else ("sizes", "engine", "s"):
        table.add_column(name, no_wrap=True, justify="right" if name == "s" else "left")
    for mark, name, what, sizes, engine, seconds in rows:
        if narrow:
            how = f"[dim]{sizes}; {engine}; {seconds} s[/dim]" if engine else ""
            what = "\n".join(filter(None, (f"[bold]{name}[/bold]", what, how)))
            table.add_row(mark, what)
        else:
            table.add_row(mark, name, what, sizes, engine, seconds)
    return table


def _shared(results: Results, engine: str) -> list[str]:
    """Returns the assumptions that all claims of an engine share, or [] if it has one claim."""
    first, *others = (a.assumptions for c, a in results if c.engine == engine)
    return [text for text in first if others and all(text in texts for texts in others)]


def _json(results: Results) -> str:
    rows = [
        {
            **{field: getattr(c, field) for field in ("name", "engine", "statement", "sizes")},
            **{field: getattr(a, field) for field in ("assumptions", "holds", "reason")},
            "seconds": round(a.seconds, 4),
        }
        for c, a in results
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
