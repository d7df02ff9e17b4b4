"""The second engine: exact proofs at small concrete shapes, through ``sympy.diff``.

It runs the traced function on exact numbers, differentiates its value with SymPy, and
decides whether what JAX's backward computes is the same function: for every labelling and
mask, and for every order of the logits, ties included. It shares nothing with the engine
for all sizes but the form of its questions and answers.
"""

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax.extend import core

from ._concrete_read import Reader, Refused, _filled
from ._exact import Crowded, Field, Number, Undecided
from ._extended import Arithmetic, Special
from ._piecewise import Node, Path, Pieces
from ._verdict import Verdict

Derivative = Literal["vjp", "jvp", "vjp of vjp", "jvp of vjp"]
SIZES = ({"n": 1, "k": 1}, {"n": 1, "k": 2}, {"n": 1, "k": 3}, {"n": 2, "k": 2})
"""The shapes at which a function is proved."""

_MOST = 24  # labellings and masks of one shape
_SAMPLES = 400
_COTANGENT, _DIRECTION = "cotangent", "direction"


def prove_concrete(
    fun: Callable[..., Any],
    args: Mapping[str, Any],
    wrt: Sequence[str],
    reference: Callable[..., Any] | None = None,
    sizes: Sequence[Mapping[str, int]] = SIZES,
    derivative: Derivative = "vjp",
) -> Verdict:
    """Proves at concrete shapes that JAX's derivative of ``fun`` is its derivative.

    Args:
        fun: a function of the arguments, in their order, that returns one array.
        args: ``{name: spec}``, as for ``prove_vjp``.
        wrt: the arguments differentiated.
        reference: a function that ``fun`` must equal.
        sizes: a size for each dimension's name; several.
        derivative: of what the derivative is proved: the cotangents, the tangents, or
            either derivative of the cotangents.

    Returns:
        The verdict; its assumptions list the shapes and labellings done.
    """
    start, remarks = time.perf_counter(), []
    verdict = Verdict("proved")
    for size in _distinct(sizes, args):
        shapes = [_shape(spec, size) for spec in args.values()]
        claim = trace(fun, shapes, [list(args).index(name) for name in wrt], derivative)
        truth = None if reference is None else jax.make_jaxpr(reference)(*shapes)
        verdict = prove_traced(claim, args, wrt, truth, size)
        remarks += [r for r in verdict.assumptions if r not in remarks]
        if not verdict.proved:
            break
    seconds = time.perf_counter() - start
    reason, counterexample = verdict.reason, verdict.counterexample
    return Verdict(verdict.status, counterexample, tuple(remarks), reason, None, seconds)


@dataclass(frozen=True)
class Claim:
    """A traced function and what claims to be a derivative of it.

    ``claimed`` takes the cotangent (but for "jvp"), the directions (but for "vjp") and the
    function's arguments, in this order.
    """

    value: core.ClosedJaxpr
    claimed: core.ClosedJaxpr
    derivative: Derivative


def trace(
    fun: Callable[..., Any], shapes: Sequence[Any], places: Sequence[int], derivative: Derivative
) -> Claim:
    """``fun`` and its derivative, as JAX will run them."""
    value = jax.make_jaxpr(fun)(*shapes)
    if len(value.out_avals) != 1:
        raise TypeError("prove_concrete: the function must return one array.")
    (out,) = value.out_avals
    cotangent = jax.ShapeDtypeStruct(out.shape, out.dtype)
    directions = [shapes[i] for i in places]
    run = functools.partial(_derivative, fun, places, derivative)
    first = [] if derivative == "jvp" else [cotangent]
    second = [] if derivative == "vjp" else directions
    claimed = jax.make_jaxpr(lambda *all_: run(len(first), len(second), all_))(
        *first, *second, *shapes
    )
    return Claim(value, claimed, derivative)


def _derivative(fun, places, derivative: Derivative, n_first: int, n_second: int, all_):
    g, v, args = all_[:n_first], all_[n_first : n_first + n_second], all_[n_first + n_second :]
    moving = [args[i] for i in places]

    def function(*moving):
        given = list(args)
        for place, x in zip(places, moving, strict=True):
            given[place] = x
        return fun(*given)

    def backward(g, *moving):
        return jax.vjp(function, *moving)[1](g)

    if derivative == "vjp":
        return backward(*g, *moving)
    if derivative == "jvp":
        return jax.jvp(function, moving, list(v))[1]
    if derivative == "jvp of vjp":
        return jax.jvp(functools.partial(backward, *g), moving, list(v))[1]
    return jax.vjp(backward, *g, *moving)[1](tuple(v))


# ------------------------------------------------------------------------ one shape


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
    """The proof at one shape, of jaxprs that are traced already."""
    for generators in (32, 64, 128):
        proof = _Proof(claim, args, tuple(wrt), reference, size, generators)
        try:
            return Verdict("proved", None, proof.all())
        except Crowded:
            continue
        except _Refuted as found:
            return Verdict("refuted", found.counterexample, proof.remarks(), found.reason)
        except Refused as error:
            return Verdict("refused", None, proof.remarks(), str(error))
        except (Undecided, RecursionError) as error:
            return Verdict("unknown", None, proof.remarks(), str(error) or "too deep")
    return Verdict("unknown", None, (), "too many exponentials and logarithms")


@dataclass
class _Proof:
    claim: Claim
    args: Mapping[str, Any]
    wrt: tuple[str, ...]
    reference: core.ClosedJaxpr | None
    size: Mapping[str, int]
    generators: int
    done: int = 0
    infinite: int = 0
    reader: Reader = field(init=False)

    def __post_init__(self):
        self.reader = Reader(Arithmetic(Pieces(Field(self.generators))))
        self.field, self.pieces = self.reader.field, self.reader.pieces

    def all(self) -> tuple[str, ...]:
        """The remarks, once every configuration is proved."""
        for fixed in _configurations(self.args, self.size)[1]:
            self._one(fixed)
            self.done += 1
        if self.infinite == self.done:
            raise Undecided("the value is finite nowhere")
        return self.remarks()

    def remarks(self) -> tuple[str, ...]:
        """What was done, and how it was read."""
        total, _ = _configurations(self.args, self.size)
        shape = ", ".join(f"{name} = {n}" for name, n in self.size.items())
        out = [f"{shape}: {self.done} of {total} labellings and masks"]
        if self.infinite:
            out.append(f"{shape}: at {self.infinite} of them some value is not finite: not claimed")
        return (*out, *sorted(self.reader.remarks))

    def _one(self, fixed: dict[str, np.ndarray]) -> None:
        given = {name: self._input(name, spec, fixed) for name, spec in self.args.items()}
        (value,) = self.reader.run(self.claim.value, *given.values())
        if self.reference is not None:
            (expected,) = self.reader.run(self.reference, *given.values())
            self._equal(value, expected, fixed, "the value is not the reference's")
        cotangent = self._symbols(_COTANGENT, value.shape, False)
        wild = [i for i, v in enumerate(value.ravel()) if self._somewhere_infinite(v)]
        self.infinite += bool(wild)
        for i in wild:
            cotangent.ravel()[i] = self.field.zero
        directions = {
            name: self._symbols(f"{_DIRECTION} {name}", given[name].shape, False)
            for name in self.wrt
        }
        truth = self._truth(value, given, cotangent, directions)
        first = [] if self.claim.derivative == "jvp" else [cotangent]
        second = [] if self.claim.derivative == "vjp" else list(directions.values())
        claimed = self.reader.run(self.claim.claimed, *first, *second, *given.values())
        for one, other in zip(claimed, truth, strict=True):
            self._equal(one, other, fixed, f"the {self.claim.derivative} is wrong", bool(wild))

    def _somewhere_infinite(self, value: Any) -> bool:
        return any(isinstance(leaf, Special) for _, leaf in self.pieces.paths(value))

    # ------------------------------------------------------------------ inputs

    def _input(self, name: str, spec: Any, fixed: dict[str, np.ndarray]) -> np.ndarray:
        shape = _dims(spec, self.size)
        if name in fixed:
            return self.reader.constant(fixed[name])
        return self._symbols(name, shape, spec.positive, spec.unit)

    def _symbols(self, name: str, shape, positive: bool, unit: bool = False) -> np.ndarray:
        names = [f"{name}{list(index)}" for index in np.ndindex(*shape)]
        return _filled(shape, [self.field.symbol(n, positive or unit, unit) for n in names])

    # ------------------------------------------------------------------ truth

    def _truth(self, value, given, cotangent, directions) -> list[np.ndarray]:
        """What the claim must be, by SymPy's derivatives of the value."""
        total = sp.S.Zero
        for v, g in zip(value.ravel(), cotangent.ravel(), strict=True):
            if g.zero:
                continue
            if isinstance(v, Node):
                question = self.field.expression(Number(self.pieces.questions[v.question]))
                raise Undecided(f"the value is not one smooth function: it asks whether {question} > 0")
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
        by = {"jvp": [cotangent], "vjp of vjp": [cotangent, *moving]}
        return [
            _filled(xs.shape, [self._slope(total, x) for x in xs.ravel()])
            for xs in by.get(self.claim.derivative, moving)
        ]

    def _slope(self, total: sp.Expr, x: Number) -> Any:
        if x.zero:  # the cotangent of a value that is not finite
            return None
        return self.field.read(sp.diff(total, self.field.expression(x)))

    # ------------------------------------------------------------------ deciding

    def _equal(self, ones, others, fixed, reason: str, wild: bool = False) -> None:
        """Raises unless equal; where a value is infinite, an infinity claims nothing."""
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
                found = self._search(difference, fixed)
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

    def _search(self, difference: Any, fixed: dict[str, np.ndarray]) -> dict | None:
        """Numbers at which the difference is not zero."""
        rng = np.random.default_rng(0)
        places = [i for i, g in enumerate(self.field.generators) if g.kind == "symbol"]
        for sample in range(_SAMPLES):
            point = {}
            for place in places:
                generator = self.field.generators[place]
                point[place] = _draw(rng, sample, generator)
            with contextlib.suppress(ArithmeticError, ValueError):  # overflow, log of 0
                if _Evaluator(self.field, self.pieces, point).differs(difference):
                    return self._named(point, fixed)
        return None

    def _named(self, point: dict[int, float], fixed: dict[str, np.ndarray]) -> dict:
        by_name = {str(self.field.generators[i].expression): x for i, x in point.items()}
        out = dict(fixed)
        for name, spec in self.args.items():
            if name not in fixed:
                shape = _dims(spec, self.size)
                entries = [by_name[f"{name}{list(i)}"] for i in np.ndindex(*shape)]
                out[name] = np.array(entries).reshape(shape)
        shape = self.claim.value.out_avals[0].shape
        entries = [by_name.get(f"{_COTANGENT}{list(i)}", 0.0) for i in np.ndindex(*shape)]
        out[_COTANGENT] = np.array(entries).reshape(shape)
        return out


def _draw(rng: np.random.Generator, sample: int, generator) -> float:
    """A whole number in half of the samples, so that ties and zeros occur."""
    if generator.unit:
        return float(rng.choice([0.25, 0.5, 0.75]))
    x = float(rng.integers(-2, 3)) if sample % 2 else float(rng.normal() * (1, 4)[sample // 2 % 2])
    return abs(x) + 0.25 * (x == 0) if generator.positive else x


class _Evaluator:
    """Diagrams at one point, in floats; the search's only, never a proof's."""

    def __init__(self, numbers: Field, pieces: Pieces, point: dict[int, float]):
        self.field, self.pieces, self.values = numbers, pieces, dict(point)

    def differs(self, value: Any) -> bool:
        """Whether the diagram is clearly not zero."""
        while isinstance(value, Node):
            x, size = self._polynomial(self.pieces.questions[value.question])
            value = value.branches[0 if x < -1e-12 * size else 2 if x > 1e-12 * size else 1]
        if isinstance(value, Special):
            return True
        x, size = self._polynomial(value.numerator)
        return abs(x) > 1e-6 * size

    def _polynomial(self, x: Any) -> tuple[float, float]:
        """Its value, and the sum of its terms' magnitudes."""
        terms = [
            float(coefficient) * math.prod(self._generator(i) ** e for i, e in enumerate(m) if e)
            for m, coefficient in x.terms()
        ]
        return sum(terms), sum(map(abs, terms))

    def _number(self, x: Any) -> float:
        x = x if isinstance(x, Number) else Number(x)
        divisor = math.prod(self._polynomial(f)[0] ** p for f, p in x.factors)
        return self._polynomial(x.numerator)[0] / divisor

    def _generator(self, i: int) -> float:
        if i not in self.values:
            generator = self.field.generators[i]
            function = {"exp": math.exp, "log": math.log, "floor": math.floor}[generator.kind]
            self.values[i] = function(self._number(generator.inner))
        return self.values[i]


# ------------------------------------------------------------------------ configurations


def _distinct(sizes, args: Mapping[str, Any]) -> list[dict[str, int]]:
    used = {d for spec in args.values() for d in (*spec.dims, spec.classes or "1")}
    used = {d for d in used if not d.isdigit()}
    out: list[dict[str, int]] = []
    for size in sizes:
        kept = {name: n for name, n in size.items() if name in used}
        missing = used - set(kept)
        if missing:
            raise ValueError(f"prove_concrete: sizes must give {', '.join(sorted(missing))}.")
        if kept not in out:
            out.append(kept)
    return out


def _dims(spec: Any, size: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(int(d) if d.isdigit() else size[d] for d in spec.dims)


def _shape(spec: Any, size: Mapping[str, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(_dims(spec, size), jnp.dtype(spec.dtype))


def _configurations(args, size) -> tuple[int, list[dict[str, np.ndarray]]]:
    """Every labelling and mask, or a spread of them; and how many there are."""
    fixed = {n: s for n, s in args.items() if not jnp.issubdtype(s.dtype, jnp.floating)}
    choices = []
    for name, spec in fixed.items():
        shape = _dims(spec, size)
        per_entry = [False, True] if spec.dtype == np.bool_ else _labels(name, spec, size)
        choices.append(itertools.product(per_entry, repeat=math.prod(shape)))
    shapes = {name: _dims(spec, size) for name, spec in fixed.items()}
    everything = []
    for combination in itertools.product(*choices):
        arrays = {
            name: np.array(entries, spec.dtype).reshape(shapes[name])
            for (name, spec), entries in zip(fixed.items(), combination, strict=True)
        }
        if all(_kept(arrays[name], spec, args, arrays) for name, spec in fixed.items()):
            everything.append(arrays)
    step = max(1, math.ceil(len(everything) / _MOST))
    return len(everything), everything[::-1][::step]


def _kept(mask: np.ndarray, spec: Any, args, arrays: dict[str, np.ndarray]) -> bool:
    """Whether a mask that keeps the labels' classes does."""
    if spec.keeps is None:
        return True
    y = arrays[spec.keeps]
    taken = y != args[spec.keeps].ignore if args[spec.keeps].ignore is not None else y == y
    at_label = np.take_along_axis(mask, np.maximum(y, 0)[..., None], -1)[..., 0]
    return bool((at_label | ~taken).all())


def _labels(name: str, spec: Any, size: Mapping[str, int]) -> list[int]:
    if spec.classes is None:
        raise Refused(f"the integer argument {name}, which are not labels")
    sentinel = [] if spec.ignore is None else [spec.ignore]
    return [*range(size[spec.classes]), *sentinel]
