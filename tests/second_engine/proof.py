"""Proves one traced claim at one shape, for the second engine."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sympy as sp
from jax.extend import core
from xent_jax.proofs._prover.verdict import Status, Verdict
from xent_jax.proofs._refutation.entries import Refused, Undecided, filled

from .exact import Field
from .extended import Arithmetic, Special
from .floats import draw
from .inputs import configurations, dims, written
from .piecewise import Node, Path, Pieces
from .polynomials import Crowded
from .rationals import Number
from .reading import ExactReader
from .search import Evaluator

Derivative = Literal["value", "vjp", "jvp", "second order"]
_SAMPLES = 400
_GENERATORS = 64, 256  # the ring's generators in the first attempt and in the last
_COTANGENT, _DIRECTION = "the cotangent", "the direction"  # no argument's name has a space


@dataclass(frozen=True)
class Claim:
    """A traced function and what claims to be a derivative of it.

    ``claimed`` takes the cotangent (except for "jvp"), the directions (except for "vjp") and the
    function's arguments, in this order. It returns the value and then the derivatives. For
    "second order" it returns the vjp of the vjp, then the jvp of the vjp, and no value. For
    "value" it is not read.
    """

    value: core.ClosedJaxpr
    claimed: core.ClosedJaxpr
    derivative: Derivative


@dataclass
class _Refuted(Exception):
    reason: str
    counterexample: dict[str, np.ndarray]


def prove_traced(
    claim: Claim,
    args: Mapping[str, Any],
    wrt: Sequence[str],
    reference: core.ClosedJaxpr | None,
    size: Mapping[str, int],
) -> Verdict:
    """Proves a traced claim at one shape, for every labelling and mask."""
    status: Status = "proved"
    reason, wrong, generators = "", None, _GENERATORS[0]
    done: list[_Proof] = []
    every, reader = configurations(args, size), _reader(generators)
    try:
        while len(done) < len(every):
            proof = _Proof(claim, args, tuple(wrt), reference, size, every[len(done)], reader)
            try:
                proof.prove()
                done.append(proof)
            except Crowded:
                generators *= 2
                if generators > _GENERATORS[1]:
                    raise Undecided("too many exponentials and logarithms") from None
                done, reader = [], _reader(generators)
        if all(proof.infinite for proof in done):
            raise Undecided("the value is finite nowhere")
    except _Refuted as found:
        status, reason, wrong = "refuted", found.reason, found.counterexample
    except Refused as error:
        status, reason = "refused", str(error)
    except (Undecided, RecursionError) as error:
        status, reason = "unknown", str(error) or "too deep"
    return Verdict(status, wrong, _remarks(size, done, len(every), reader), reason)


def _reader(generators: int) -> ExactReader:
    return ExactReader(Arithmetic(Pieces(Field(generators))))


def _remarks(
    size: Mapping[str, int], done: list["_Proof"], every: int, reader: ExactReader
) -> tuple[str, ...]:
    """Returns remarks on how much was proved and on how the jaxprs were read."""
    shape = written(size)
    out = [f"{shape}: {len(done)} of {every} labellings and masks"]
    infinite = sum(proof.infinite for proof in done)
    if infinite:
        out.append(f"{shape}: at {infinite} of them some value is not finite: not claimed")
    return (*out, *sorted(reader.remarks))


@dataclass
class _Proof:
    """The proof of a claim for one labelling and one mask."""

    claim: Claim
    args: Mapping[str, Any]
    wrt: tuple[str, ...]
    reference: core.ClosedJaxpr | None
    size: Mapping[str, int]
    fixed: Mapping[str, np.ndarray]
    reader: ExactReader
    infinite: bool = False

    def __post_init__(self):
        self.field, self.pieces = self.reader.field, self.reader.pieces

    def prove(self) -> None:
        """Proves the claim, or raises ``_Refuted``, ``Undecided``, ``Refused`` or ``Crowded``."""
        given = {name: self._input(name, spec) for name, spec in self.args.items()}
        (expected,) = self.reader.run(self.reference or self.claim.value, *given.values())
        value = expected
        if self.reference is not None and self.claim.derivative != "second order":
            (value,) = self.reader.run(self.claim.value, *given.values())
            self._equal(value, expected, "the value is not the reference's")
        if self.claim.derivative == "value":
            return
        cotangent = self._symbols(_COTANGENT, value.shape, False)
        wild = [i for i, v in enumerate(value.ravel()) if self._somewhere_infinite(v)]
        self.infinite = bool(wild)
        for i in wild:
            cotangent.ravel()[i] = self.field.zero
        directions = {
            name: self._symbols(f"{_DIRECTION} {name}", given[name].shape, False)
            for name in self.wrt
        }
        truth = self._truth(expected, given, cotangent, directions)
        first = [] if self.claim.derivative == "jvp" else [cotangent]
        second = [] if self.claim.derivative == "vjp" else list(directions.values())
        claimed = self.reader.run(self.claim.claimed, *first, *second, *given.values())
        if self.claim.derivative != "second order":
            value, *claimed = claimed
            self._equal(
                value, expected, f"the value that jax.{self.claim.derivative} gives is wrong"
            )
        for one, other in zip(claimed, truth, strict=True):
            self._equal(one, other, f"the {self.claim.derivative} is wrong", bool(wild))

    def _somewhere_infinite(self, value: Any) -> bool:
        return any(isinstance(leaf, Special) for _, leaf in self.pieces.paths(value))

    # ------------------------------------------------------------------ inputs

    def _input(self, name: str, spec: Any) -> np.ndarray:
        shape = dims(spec, self.size)
        if name in self.fixed:
            return self.reader.constant(self.fixed[name])
        return self._symbols(name, shape, spec.positive, spec.unit)

    def _symbols(self, name: str, shape, positive: bool, unit: bool = False) -> np.ndarray:
        names = [f"{name}{list(index)}" for index in np.ndindex(*shape)]
        return filled(shape, [self.field.symbol(n, positive or unit, unit) for n in names])

    # ------------------------------------------------------------------ truth

    def _truth(self, value, given, cotangent, directions) -> list[np.ndarray]:
        """Returns what the claimed derivatives must be: SymPy's derivatives of ``value``."""
        total = sp.S.Zero
        for v, g in zip(value.ravel(), cotangent.ravel(), strict=True):
            if g.zero:
                continue
            if isinstance(v, Node):
                question = self.field.expression(Number(self.pieces.questions[v.question]))
                raise Undecided(
                    f"the value is not one smooth function: it asks whether {question} > 0"
                )
            total += self.field.expression(v) * self.field.expression(g)
        moving = [given[name] for name in self.wrt]
        if self.claim.derivative != "vjp":
            total = sp.Add(
                *(
                    self.field.expression(v) * sp.diff(total, self.field.expression(x))
                    for xs, vs in zip(moving, directions.values(), strict=True)
                    for x, v in zip(xs.ravel(), vs.ravel(), strict=True)
                )
            )
        by = {"vjp": moving, "jvp": [cotangent], "second order": [*moving, cotangent]}
        slopes = [
            filled(xs.shape, [self._slope(total, x) for x in xs.ravel()])
            for xs in by[self.claim.derivative]
        ]
        return [*slopes, *slopes[:-1]] if self.claim.derivative == "second order" else slopes

    def _slope(self, total: sp.Expr, x: Number) -> Any:
        if x.zero:  # the cotangent of a value that is not finite
            return None
        return self.field.read(sp.diff(total, self.field.expression(x)))

    # ------------------------------------------------------------------ deciding

    def _equal(self, ones, others, reason: str, wild: bool = False) -> None:
        """Raises unless two arrays are equal wherever the second is not None.

        If ``wild``, some value is infinite, and differences may be infinite or NaN.
        """
        for one, other in zip(ones.ravel(), others.ravel(), strict=True):
            if one == other or other is None:
                continue
            difference = self.pieces.apply(self._difference, one, other)
            wrong = [
                (path, leaf)
                for path, leaf in self.pieces.paths(difference)
                if not self._holds(leaf, path, wild)
            ]
            if wrong:
                found = self._search(difference)
                if found is not None:
                    raise _Refuted(reason, found)
                raise Undecided(f"{reason}, as far as can be decided; no counterexample found")

    def _holds(self, leaf: Any, path: Path, wild: bool) -> bool:
        return wild if isinstance(leaf, Special) else self.pieces.zero_on(leaf, path)

    def _difference(self, one: Any, other: Any) -> Any:
        if isinstance(one, Special) or isinstance(other, Special):
            return self.field.zero if one is other else Special.NAN
        return self.field.subtract(*map(self.reader.arithmetic.number, (one, other)))

    # ------------------------------------------------------------------ counterexamples

    def _search(self, difference: Any) -> dict | None:
        """Returns arguments at which the difference is not zero, or None if no sample has any."""
        rng = np.random.default_rng(0)
        places = [i for i, g in enumerate(self.field.generators) if g.kind == "symbol"]
        for sample in range(_SAMPLES):
            point = {i: draw(rng, sample, self.field.generators[i]) for i in places}
            with contextlib.suppress(ArithmeticError, ValueError):  # overflow, log of 0
                if Evaluator(self.field, self.pieces, point).differs(difference):
                    return self._named(point)
        return None

    def _named(self, point: dict[int, float]) -> dict:
        by_name = {str(self.field.generators[i].expression): x for i, x in point.items()}
        out = dict(self.fixed)
        for name, spec in self.args.items():
            if name not in self.fixed:
                shape = dims(spec, self.size)
                entries = [by_name[f"{name}{list(i)}"] for i in np.ndindex(*shape)]
                out[name] = np.array(entries).reshape(shape)
        shape = self.claim.value.out_avals[0].shape
        entries = [by_name.get(f"{_COTANGENT}{list(i)}", 0.0) for i in np.ndindex(*shape)]
        out["cotangent"] = np.array(entries).reshape(shape)
        return out
