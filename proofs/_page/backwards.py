"""Finds the source of each backward function, by the proof that its comment names."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import xent_jax


@dataclass(frozen=True)
class Source:
    """The source of one backward function."""

    file: str
    backward: str
    """The source of the function, with the comment above it."""
    calls: str
    """The source of the functions of its module that it calls."""


def backwards() -> dict[str, list[Source]]:
    """Returns the sources of backward functions, by the name of their proof."""
    found: dict[str, list[Source]] = {}
    for _, name, _ in pkgutil.iter_modules(xent_jax.__path__, "xent_jax."):
        if name == __package__:
            continue
        module = importlib.import_module(name)
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == name:
                for proof in _named(inspect.getcomments(function)):
                    found.setdefault(proof, []).append(_source(module, function))
    return found


def _named(comment: str | None) -> list[str]:
    text = re.sub(r"\n#\s*", " ", comment or "")
    match = re.search(r"Proof: ([\w, ]+)", text)
    return match[1].replace(" ", "").split(",") if match else []


def _source(module: ModuleType, function: FunctionType) -> Source:
    called = [vars(module).get(name) for name in function.__code__.co_names]
    plain = [f for f in map(_plain, called) if f is not None]
    own = [f for f in plain if f.__module__ == module.__name__]
    text = (inspect.getcomments(function) or "") + inspect.getsource(function)
    calls = "\n\n".join(inspect.getsource(f).rstrip() for f in own)
    return Source(f"{module.__name__.replace('.', '/')}.py", text.rstrip(), calls)


def _plain(f: Any) -> FunctionType | None:
    """Returns a function without JAX's wrapper, or None for anything else."""
    f = getattr(f, "__wrapped__", f)
    return f if inspect.isfunction(f) else None
