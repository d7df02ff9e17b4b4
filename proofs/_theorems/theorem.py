"""Theorems about the library's code, and how they are proved for all sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import xent_jax
from xent_jax import forward_mode

from .._prover.prove import prove_equal, prove_jvp, prove_vjp
from .._prover.spec import Spec
from .._prover.verdict import Verdict

Kind = Literal["value", "gradient", "second order", "forward mode"]


@dataclass(frozen=True)
class Build:
    """The function, arguments and reference of a theorem, for other engines and for mutants."""

    fun: Callable[..., Any]
    args: Mapping[str, Spec]
    wrt: tuple[str, ...]
    reference: Callable[..., Any]
    least: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Theorem:
    """One claim about the code."""

    name: str
    function: str
    statement: str
    kind: Kind
    prove: Callable[[], Verdict]
    build: Build


@dataclass(frozen=True)
class Unproved:
    """A part of the library without a theorem, with the reason."""

    function: str
    what: str
    reason: str


@dataclass(frozen=True)
class Case:
    """A function with its options, of which theorems are made."""

    function: str
    options: str
    call: Callable[..., Any]  # of the module that holds the function, then the arguments
    args: Mapping[str, Spec]
    wrt: str
    reference: Callable[..., Any]
    least: Mapping[str, int] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ("gradient", "second order", "forward mode")
    note: str = ""  # of what the statements are about


def theorems_of(case: Case) -> list[Theorem]:
    wrt = tuple(case.wrt.split())
    made = []
    for kind in case.kinds:
        fun = partial(case.call, forward_mode if kind == "forward mode" else xent_jax)
        build = Build(fun, case.args, wrt, case.reference, case.least)
        name = case.function + (f" ({case.options})" if case.options else "")
        made.append(
            Theorem(
                f"{name}: {kind}",
                case.function,
                _STATEMENTS[kind].format(", ".join(wrt)) + case.note,
                kind,
                partial(_prove, kind, build),
                build,
            )
        )
    return made


_STATEMENTS = {
    "value": "the value is the textbook's",
    "gradient": "the value, also under jax.vjp, is the textbook's, and jax.vjp gives its "
    "derivative to {}",
    "second order": "jax.jvp and jax.vjp of jax.vjp give the second derivative to {}",
    "forward mode": "the value, also under jax.jvp, is the textbook's, and jax.jvp gives its "
    "derivative to {}",
}


_TIMEOUT = 1800.0  # seconds: a slow machine is no reason that something does not hold


def _prove(kind: Kind, b: Build, search: bool = False) -> Verdict:
    """The verdict; the slow tests search for counterexamples to what is proved, too."""
    options: Any = {"least": b.least, "timeout": _TIMEOUT, "search": search}
    if kind == "value":
        return prove_equal(b.fun, b.reference, b.args, **options)
    options["kinks"] = False
    if kind == "forward mode":
        return prove_jvp(b.fun, b.args, b.wrt, b.reference, **options)
    second = kind == "second order"
    return prove_vjp(b.fun, b.args, b.wrt, b.reference, second_order=second, **options)
