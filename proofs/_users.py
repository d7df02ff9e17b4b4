"""Proves a user's own function from the command line, for the option ``--module``."""

from __future__ import annotations

import argparse
import ast
import importlib
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape

from ._prover.prove import prove_vjp
from ._prover.spec import array, labels, permutation, scalar
from ._terminal import Misused

_MAKERS: dict[str, Callable[..., Any]] = {
    maker.__name__: maker for maker in (array, labels, permutation, scalar)
}


def prove_users(options: argparse.Namespace, console: Console) -> int:
    """Prints the verdict on the function of ``--module``; returns 0 if it is proved, else 1."""
    function = _function(options.module)
    specs = _specs(options.args) if options.args else getattr(function, "xent_spec", None)
    if not specs:
        raise Misused(
            "what are the arguments? Give --args, or the function an attribute xent_spec, such "
            'as {"z": array("n k"), "y": labels("n", classes="k")}'
        )
    wrt = options.wrt.split(",") if options.wrt else [next(iter(specs))]
    unknown = [name for name in wrt if name not in specs]
    if unknown:
        raise Misused(f"--wrt names {unknown[0]!r}, the arguments are {', '.join(specs)}")
    verdict = prove_vjp(function, specs, tuple(wrt), timeout=options.timeout)
    console.print(f"{options.module} by {', '.join(wrt)}: [bold]{verdict.status}[/bold]")
    for label, lines in (("reason", (verdict.reason,)), ("assumes", verdict.assumptions)):
        for line in filter(None, lines):
            console.print(f"  {label}: {escape(line)}", highlight=False)
    if verdict.counterexample is not None:
        console.print("  wrong at these arguments:", highlight=False)
        console.print(
            escape("\n".join(f"  {e}" for e in verdict.evidence())), highlight=False, soft_wrap=True
        )
    return int(not verdict.proved)


def _function(path: str) -> Callable[..., Any]:
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise Misused(f"--module wants pkg.mod:function, got {path!r}")
    sys.path.insert(0, os.getcwd())  # as python -m would
    try:
        found = operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise Misused(f"{path} is not there: {error}") from error
    if not callable(found):
        raise Misused(f"{path} is not a function")
    return found


def _specs(text: str) -> dict[str, Any]:
    """Reads a text such as ``z=array("n k"), c=scalar(positive=True)`` without running it."""
    try:
        call: Any = ast.parse(f"f({text})", mode="eval").body
        return {k.arg: _spec_of(k.value) for k in call.keywords if k.arg and not call.args}
    except (SyntaxError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Misused(f"--args {text!r} cannot be read: {error}") from error


def _spec_of(node: Any) -> Any:
    maker = _MAKERS[node.func.id]
    options = {k.arg: _literal(k.value) for k in node.keywords}
    return maker(*(_literal(a) for a in node.args), **options)


def _literal(node: ast.expr) -> Any:
    return bool if isinstance(node, ast.Name) and node.id == "bool" else ast.literal_eval(node)
