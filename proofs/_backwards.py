"""The source of the backwards that ship, by the proof that their comments name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import xent_jax


def backwards() -> dict[str, list[str]]:
    """``{name of the proof: sources}``, each with the comment above it."""
    found: dict[str, list[str]] = {}
    for _, name, _ in pkgutil.iter_modules(xent_jax.__path__, "xent_jax."):
        if name == __package__:
            continue
        module = importlib.import_module(name)
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == name:
                for proof in _named(inspect.getcomments(function)):
                    where = f"# {name.replace('.', '/')}.py"
                    source = inspect.getcomments(function) + inspect.getsource(function)
                    found.setdefault(proof, []).append(f"{where}\n{source.rstrip()}")
    return found


def _named(comment: str | None) -> list[str]:
    text = re.sub(r"\n#\s*", " ", comment or "")
    match = re.search(r"Proof: ([\w, ]+)", text)
    return match[1].replace(" ", "").split(",") if match else []
