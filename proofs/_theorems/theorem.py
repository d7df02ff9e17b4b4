"""Defines what a theorem about the library's code is, and proves it for all sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import xent_jax
from xent_jax import forward_mode
from xent_jax._chunks import Chunks

from .._prover.prove import prove_equal, prove_jvp, prove_vjp
from .._prover.spec import Spec
from .._prover.verdict import Verdict

Kind = Literal["value", "gradient", "second order", "forward mode"]
ALL: tuple[Kind, ...] = ("gradient", "second order", "forward mode")
FIRST: tuple[Kind, ...] = ("gradient", "forward mode")
GRADIENT: tuple[Kind, ...] = ("gradient",)
SECOND: tuple[Kind, ...] = ("second order",)
VALUE: tuple[Kind, ...] = ("value",)


@dataclass(frozen=True)
class Build:
    """The parts of a theorem that the tests use, for the second engine and for mutants."""

    fun: Callable[..., Any]
    args: Mapping[str, Spec]
    wrt: tuple[str, ...]
    reference: Callable[..., Any]
    least: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Theorem:
    """One claim about the library's code."""

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
    """A function with options, and the reference that it must equal in one or more theorems."""

    function: str
    options: str
    call: Callable[..., Any]  # takes the module that has the function, then the arguments
    args: Mapping[str, Spec]
    reference: Callable[..., Any]
    to: Sequence[str] | None = None  # the differentiated arguments; None: all of floats
    least: Mapping[str, int] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ALL
    note: str = ""  # added to the end of each statement

    @property
    def wrt(self) -> tuple[str, ...]:
        """The arguments that the derivatives are taken with respect to."""
        floats = (n for n, s in self.args.items() if s.sort not in ("index", "integer", "boolean"))
        return tuple(floats if self.to is None else self.to)


def case(
    function: str,
    options: str,
    reference: Callable[..., Any],
    args: Mapping[str, Spec],
    given: Mapping[str, Spec] | None = None,
    *,
    to: Sequence[str] | None = None,
    least: Mapping[str, int] | None = None,
    kinds: tuple[Kind, ...] = ALL,
    output: str = "",
    chunk: int | None = None,
    **fixed: Any,
) -> Case:
    """Returns a case in which the library's function and the textbook's are called alike.

    Args:
        function: its name in the library.
        options: the part of the theorems' names that describes the options.
        reference: the textbook's function.
        args: the arguments that are passed by position.
        given: options whose values are arguments of the theorems.
        to: as in ``Case``, and so are ``least`` and ``kinds``.
        output: the field of the library function's result that the theorems are about.
        chunk: as in ``called``, for the library's function.
        fixed: the other options, with their values.
    """
    given = given or {}

    def call(library: Any, *values: Any, **more: Any) -> Any:
        found = called(getattr(library, function), given, values, fixed | more, chunk)
        return getattr(found, output) if output else found

    def wanted(*values: Any) -> Any:
        return called(reference, given, values, fixed)

    return Case(function, options, call, {**args, **given}, wanted, to, least or {}, kinds)


def called(
    function: Callable[..., Any],
    names: Iterable[str],
    values: Sequence[Any],
    fixed: dict[str, Any],
    chunk: int | None = None,
) -> Any:
    """Calls a function with the last of the values as options of these names.

    If ``chunk`` is given, the function is a linear head, and that dimension of the first value is
    a chunk of its tokens.
    """
    names = list(names)
    first = len(values) - len(names)
    if chunk is not None:
        fixed = fixed | {"max_logits_bytes": Chunks(values[0].shape[chunk], in_place=True)}
    return function(*values[:first], **dict(zip(names, values[first:], strict=True)), **fixed)


def theorems_of(case: Case) -> list[Theorem]:
    made = []
    for kind in case.kinds:
        fun = partial(case.call, forward_mode if kind == "forward mode" else xent_jax)
        build = Build(fun, case.args, case.wrt, case.reference, case.least)
        name = case.function + (f" ({case.options})" if case.options else "")
        made.append(
            Theorem(
                f"{name}: {kind}",
                case.function,
                _STATEMENTS[kind].format(", ".join(case.wrt)) + case.note,
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


_TIMEOUT = 1800.0  # seconds; long, so that no theorem fails because a machine is slow


def _prove(kind: Kind, b: Build, search: bool = False) -> Verdict:
    """Returns the verdict; ``search`` looks for counterexamples even if the theorem is proved."""
    options: Any = {"least": b.least, "timeout": _TIMEOUT, "search": search}
    if kind == "value":
        return prove_equal(b.fun, b.reference, b.args, **options)
    options["kinks"] = False
    if kind == "forward mode":
        return prove_jvp(b.fun, b.args, b.wrt, b.reference, **options)
    second = kind == "second order"
    return prove_vjp(b.fun, b.args, b.wrt, b.reference, second_order=second, **options)
