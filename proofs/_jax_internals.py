"""Contains all uses of JAX's internals, for purposes where ``jax.extend`` does not suffice.

The file lists the versions of JAX that the prover was tested with. Internals are imported inside
the functions, so that an untested version is rejected with a message and not by an ImportError.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from jax.extend import core

from xent_jax._rows import row_origin

from ._normal_form.state import during

READ = ("0.6", "0.7", "0.8", "0.9", "0.10", "0.11", "0.12")
"""The versions of JAX on which ``tests/test_versions.py`` tested the prover's rules."""
ANYWAY = "XENT_PROVE_UNTESTED_JAX"
"""The environment variable that allows proofs on other versions if it is set to 1."""


def tested() -> bool:
    """Returns whether the prover's rules were tested on the installed version of JAX."""
    return ".".join(jax.__version__.split(".")[:2]) in READ


def untested() -> str:
    """Returns why nothing is proved on this version of JAX, or "" if it may be used."""
    if tested() or os.environ.get(ANYWAY) == "1":
        return ""
    return (
        f"jax {jax.__version__} was not tested, only {READ[0]} to {READ[-1]}: its primitives may "
        f"mean something else. Install one of those, or set {ANYWAY}=1 to try anyway"
    )


def doubt() -> str:
    """Returns the assumption that proofs make on an untested version of JAX, or "" if tested."""
    if tested():
        return ""
    return (
        f"the primitives of jax {jax.__version__}, which was not tested, mean what those of "
        f"{READ[-1]} do"
    )


def symbolic_terms(
    dim: Any, remainders: bool = False
) -> list[tuple[int, list[tuple[Any, int]]]] | None:
    """Returns a symbolic dimension as terms ``(coefficient, [(name, exponent), ...])``, or None.

    The dimension is the sum of the terms, and a term is its coefficient times powers of named
    dimensions. With ``remainders``, the pair ``(number, size)`` is the name of ``number % size``.
    Returns None if the dimension has any other factor.
    """
    if isinstance(dim, int):
        return [(dim, [])] if dim else []
    found = []
    for term, coefficient in dim._sorted_terms:
        factors = []
        for factor, exponent in term._factors:
            name = factor.var
            if name is None and remainders and factor.operation == "mod":
                number, size = factor.operands
                whole = symbolic_terms(number)
                if whole is not None and all(not named for _, named in whole):
                    name = sum(c for c, _ in whole), size
            if name is None:
                return None
            factors.append((name, exponent))
        found.append((coefficient, factors))
    return found


def remainder_of(dim: Any) -> tuple[Any, int] | None:
    """Returns a and c if a symbolic dimension is ``a % c`` for a number c, else None."""
    ((term, coefficient), *others) = dim._sorted_terms
    if others or coefficient != 1 or len(term._factors) != 1:
        return None
    ((factor, exponent),) = term._factors
    if exponent != 1 or factor.operation != "mod":
        return None
    dividend, divisor = factor.operands
    match symbolic_terms(divisor):
        case [(number, [])]:
            return dividend, number
    return None


@dataclass(frozen=True)
class Question:
    """A question about a symbolic size that the traced code asked and that JAX cannot answer."""

    text: str
    place: str  # the file and the line of the code that asked
    # The symbolic size and the size of a question ``left == right``; None for other questions.
    left: Any = field(default=None, compare=False)
    right: Any = field(default=None, compare=False)


_questions: ContextVar[dict[Question, None] | None] = ContextVar("questions", default=None)


@contextlib.contextmanager
def questions() -> Iterator[dict[Question, None]]:
    """Collects the questions about symbolic sizes that traced code asks inside the context.

    Where JAX cannot tell whether two sizes are equal, it answers without an error that they differ.
    """
    _listen()
    heard: dict[Question, None] = {}
    with during(_questions, heard):
        yield heard


def _listen() -> None:
    """Makes JAX's symbolic sizes report questions; the first call in a process is enough."""
    from jax._src.export import shape_poly

    dim: Any = shape_poly._DimExpr
    if "__bool__" in vars(dim):
        return
    equal, hashed = dim.__eq__, dim.__hash__

    def __eq__(self: Any, other: Any) -> bool:
        answer: bool = equal(self, other)
        if not answer and (place := _asker()):
            same_scope = isinstance(other, dim) and other.scope is self.scope
            size = other if same_scope else _whole_number(other)
            if size is not None:
                _note(f"{self} == {other}", place, self, size)
            elif isinstance(other, jax.Array):
                _note(f"{self} == an array", place)
        return answer

    def __hash__(self: Any) -> int:
        if place := _asker():
            _note(f"a dict, a set or a cache holds the size {self}", place)
        return int(hashed(self))

    def __bool__(self: Any) -> bool:
        if place := _asker():
            _note(f"{self} == 0", place, self, 0)
        return True

    dim.__eq__, dim.__hash__, dim.__bool__ = __eq__, __hash__, __bool__
    for name, sign in (("__ge__", ">="), ("__le__", "<="), ("__gt__", ">"), ("__lt__", "<")):
        setattr(dim, name, _ordering(getattr(dim, name), sign))


def _ordering(compare: Callable[[Any, Any], bool], sign: str) -> Callable[[Any, Any], bool]:
    """Returns an inequality of sizes that reports a question before JAX's error can be caught."""

    def reported(self: Any, other: Any) -> bool:
        try:
            return compare(self, other)
        except Exception:
            if place := _asker():
                _note(f"{self} {sign} {other}", place)
            raise

    return reported


def _whole_number(x: Any) -> int | None:
    """Returns the integer that equals x, or None if x is not a whole number or is traced."""
    if isinstance(x, float):
        return int(x) if x.is_integer() else None
    try:
        return None if jax.export.is_symbolic_dim(x) else operator.index(x)
    except Exception:  # x is not an integer, or is traced
        return None


_JAX = os.path.join(os.path.dirname(jax.__file__), "")
# JAX's core and jax.lax are written for sizes that cannot be compared, so their questions are not
# reported. Questions of the folders below, which build on jax.lax, are reported like those of a
# user's code. The exception is ``definitely_equal``: where it answers no, the code of JAX that
# follows is right for equal sizes, too.
_ON_LAX = tuple(
    os.path.join(_JAX, *folder.split("/"), "")
    for folder in (
        "_src/numpy", "_src/nn", "_src/scipy", "_src/image", "experimental", "example_libraries",
    )
)  # fmt: skip


def _asker() -> str:
    """Returns the file and line that ask about a size, or "" if the question is not reported."""
    if _questions.get() is None:
        return ""
    frame: Any = sys._getframe(2)
    cautious = False
    while frame is not None and _passes_on(frame.f_code):
        cautious = cautious or frame.f_code.co_name.startswith("definitely_equal")
        frame = frame.f_back
    file = _JAX if frame is None else frame.f_code.co_filename
    if file.startswith(_JAX) and (cautious or not file.startswith(_ON_LAX)):
        return ""
    return f"{file}:{frame.f_lineno}"


def _note(text: str, place: str, left: Any = None, right: Any = None) -> None:
    heard = _questions.get()
    if heard is not None:
        heard[Question(text, place, left, right)] = None


def _passes_on(code: Any) -> bool:
    """Returns whether a function asks for its caller, such as ``!=`` or a dataclass's ``==``."""
    name, file = code.co_name, code.co_filename
    if file == "<string>":
        return name in ("__hash__", "__eq__")
    passing = ("__ne__", "definitely_equal", "definitely_equal_shape")
    return name in passing and file.startswith(_JAX)


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """Returns how many of a scan's operands are constants, and how many are carries."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carries, _ = map(len, params["ft_in"].unpack())  # since jax 0.11
    return constants, carries


def where_written(eqn: core.JaxprEqn) -> str:
    """Returns the line of the user's source that an equation comes from."""
    from jax._src import source_info_util

    return source_info_util.summarize(eqn.source_info)


def without_dead_code(jaxpr: core.ClosedJaxpr, output: int | None = None) -> core.ClosedJaxpr:
    """Returns a jaxpr of all outputs, or of one, without the equations that they do not need."""
    from jax._src.interpreters import partial_eval

    outputs = [output in (None, i) for i in range(len(jaxpr.jaxpr.outvars))]
    live, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, outputs, instantiate=True)
    return jaxpr.replace(jaxpr=live)


def in_float64() -> Any:
    """Returns a context in which JAX computes in float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # type: ignore[attr-defined]

    return enable_x64()


def is_origin(eqn: Any) -> bool:
    """Returns whether an equation calls xent_jax's own ``row_origin``, not another one so named.

    No loss depends on the number that ``row_origin`` returns, so proofs take it to be any number.
    """
    named = eqn.params.get("name") == "row_origin" and len(eqn.invars) == 1
    return named and _is_row_origin(eqn.params["jaxpr"], eqn.invars[0].aval)


@functools.lru_cache(maxsize=256)  # a search reads the same call at many points
def _is_row_origin(jaxpr: Any, aval: Any) -> bool:
    shipped = jax.make_jaxpr(row_origin)(jax.ShapeDtypeStruct(aval.shape, aval.dtype))
    return str(jaxpr) == str(shipped.eqns[0].params["jaxpr"])


_lines_of_backwards: ContextVar[bool] = ContextVar("lines_of_backwards", default=False)


def lines_of_backwards() -> contextlib.AbstractContextManager[None]:
    """Traces equations of a user's backward pass with their own source lines inside the context.

    Otherwise JAX gives them the line that called the function, which is a line of the prover.
    """
    _find_lines_of_backwards()
    return during(_lines_of_backwards, True)


@functools.cache
def _find_lines_of_backwards() -> None:
    """Replaces JAX's function that says from which source line an equation comes."""
    from jax._src import source_info_util as util
    from jax._src.lib import xla_client

    util.register_exclusion(__file__)  # ``current`` below is in every traceback
    prover, jax_s = str(Path(__file__).parent / "_prover"), util.current

    def current() -> Any:
        info = jax_s()
        if not _lines_of_backwards.get():
            return info
        own = info.replace(traceback=xla_client.Traceback.get_traceback())
        return info if util.summarize(own).startswith((prover, "unknown")) else own

    util.current = current
