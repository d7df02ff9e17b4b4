"""Evaluates terms of the prover at concrete sizes, from the meaning of their atoms.

This code does not use the rules by which the prover rewrites terms, so that it can check them.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from xent_jax.proofs._normal_form import Atom, Poly, Symbol, atom, entry, index, poly, total
from xent_jax.proofs._prover import prove as prove  # registers what ``read`` can read
from xent_jax.proofs._prover.read import read
from xent_jax.proofs._prover.tensor import axes
from xent_jax.proofs._prover.trace import arguments, trace

from tests.cases import x64

# Sizes, arrays and indices from which the tests make terms.
N, K = poly(atom("dim", "n", 1)), poly(atom("dim", "k", 1))
Z, W = Symbol("z", "real"), Symbol("w", "positive")
B, Y = Symbol("b", "boolean"), Symbol("y", "index", K)
ROW, J = index("i", N), index("j", K)
(LABEL,) = entry(Y, ROW).atoms()


def spread(p, i):
    """Returns ``k sum p^2 - (sum p)^2``, which is at least 0."""
    return i.args[1] * total(p * p, i) - total(p, i) ** 2


def drawn_arrays(seed):
    """Draws values of the arrays, for two rows of three classes."""
    rng = np.random.default_rng(seed)
    z, w = rng.normal(size=(2, 3)), rng.random((2, 3)) + 0.1
    return {
        "z": np.where(rng.random((2, 3)) < 0.2, w, z),
        "w": w,
        "b": rng.random((2, 3)) < 0.5,
        "y": rng.integers(0, 3, 2),
    }


NUMBERS = {
    "exp": math.exp,
    "sin": math.sin,
    "cos": math.cos,
    "erf": math.erf,
    "atan": math.atan,
    "log": lambda x: math.log(x) if x > 0 else 0.0,
    "sqrt": lambda x: math.sqrt(max(x, 0.0)),
    "ramp": lambda x: max(x, 0.0),
    "floor": lambda x: math.floor(x + 1e-9),
    "round": round,
    "zero": lambda x: float(abs(x) < 1e-12),
    "positive": lambda x: float(x > 1e-12),
    "place": lambda x: x,
    "group": lambda x: x,
}
"""The values of atoms of one term, as functions of the value of the term."""


class Evaluation:
    """The value of terms for given arguments, sizes and indices."""

    def __init__(self, arrays: dict[str, np.ndarray], sizes: dict[str, int]):
        self.arrays, self.sizes = arrays, sizes
        self._known: dict[tuple, float] = {}  # values of atoms, by the indices that occur in them

    def __call__(self, p: Poly, at: dict[Atom, int] | None = None) -> float:
        at = at or {}
        return sum(
            float(c) * math.prod(self._power(a, e, at) for a, e in m) for m, c in p.terms.items()
        )

    def _power(self, a: Atom, e, at: dict[Atom, int]) -> float:
        x = self._atom(a, at)
        return x ** (int(e) if e == int(e) else float(e))

    def _index(self, t, at: dict[Atom, int]) -> int:
        return t if isinstance(t, int) else round(self._atom(t, at))

    def _atom(self, a: Atom, at: dict[Atom, int]) -> float:
        if a in at:
            return at[a]
        place = a, *((i, n) for i, n in at.items() if i in a.inside)
        if place not in self._known:
            self._known[place] = self._computed(a, at)
        return self._known[place]

    def _computed(self, a: Atom, at: dict[Atom, int]) -> float:
        if a.kind in NUMBERS:
            return NUMBERS[a.kind](self(*a.args, at))
        return getattr(self, f"_{a.kind}")(at, *a.args)

    def _dim(self, at, name, _):
        return self.sizes[name]

    def _entry(self, at, symbol, indices):
        place = tuple(self._index(i, at) for i in indices)
        array = self.arrays[symbol.name]
        if symbol.exponent < 0:
            array = np.argsort(array)
        inside = all(0 <= i < d for i, d in zip(place, array.shape, strict=True))
        # Outside an array any numbers of its kind will do, such as its own, wrapped around.
        return float(array[place if inside else tuple(np.mod(place, array.shape))])

    def _div(self, at, t, size, _):
        return self._index(t, at) // round(self(size, at))

    def _mod(self, at, t, size, _):
        return self._index(t, at) % round(self(size, at))

    def _delta(self, at, i, j):
        return float(self._index(i, at) == self._index(j, at))

    def _pi(self, at):
        return math.pi

    def _prime(self, at, number):
        return number

    def _recip(self, at, a):
        x = self._atom(a, at)
        return 1 / x if x else 0.0

    def _over(self, name, at):
        return [{**at, name: i} for i in range(round(self(name.args[1], at)))]

    def _sum(self, at, name, body):
        return sum(self(body, here) for here in self._over(name, at))

    def _max(self, at, name, body, inside):
        left = [self(body, here) for here in self._over(name, at) if self(inside, here)]
        return max(left, default=0.0)

    def _dominant(self, at, names, body, threshold, places):
        nests = [at]
        for name in names:
            nests = [here for outer in nests for here in self._over(name, outer)]
        every = sum(self(body, here) for here in nests)
        own = {n: self._index(t, at) for n, t in zip(names, places, strict=True)}
        return float(self(body, {**at, **own}) > float(threshold) * every + 1e-12)

    def _at_least(self, at, number, p):
        return max(self(p, at), float(number))

    def _fewer_bits(self, at, bits, p):
        mantissa, exponent = math.frexp(self(p, at))
        return math.ldexp(round(mantissa * 2 ** (bits + 1)), exponent - bits - 1)


def with_digits(arrays, specs, sizes):
    """Returns the arrays and, of labels among ``m*k`` classes, the shard and the place in it."""
    out = dict(arrays)
    for name, spec in specs.items():
        dims = spec.classes.split("*") if spec.classes else []
        if len(dims) == 2:
            out[f"{name}.0"], out[f"{name}.1"] = np.divmod(arrays[name], sizes[dims[1]])
    return out


def evaluated(value: Evaluation, p: Poly, places, shape) -> np.ndarray:
    """Returns the values of a term at every index of an array's axes."""
    out = np.empty(shape)
    for place in itertools.product(*map(range, shape)):
        at = {a: i for a, i in zip(places, place, strict=True) if isinstance(a, Atom)}
        out[place] = value(p, at)
    return out


def as_terms(function, specs):
    """Returns the outputs of a function of arguments with these specs, as the prover reads them."""
    a = arguments(specs)
    return read(trace(function, a.shapes), a.tensors)


def agree(function, specs, terms, inputs, sizes):
    """Asserts that terms are finite and have the values that JAX computes in float64."""
    with x64():
        outs = jax.tree.leaves(function(*map(jnp.asarray, inputs.values())))
    # The prover splits a label that may be a sentinel into whether it is kept and the label.
    arrays = dict(inputs)
    for name, spec in specs.items():
        if spec.ignore is not None:
            arrays[f"{name}_kept"] = inputs[name] != spec.ignore
            arrays[name] = np.where(arrays[f"{name}_kept"], inputs[name], 0)
    value = Evaluation(with_digits(arrays, specs, sizes), sizes)
    for out, term in zip(outs, terms, strict=True):
        for flag in (term.lowest, term.bad):
            assert not evaluated(value, flag, axes(term.shape), out.shape).any()
        got = evaluated(value, term.value, axes(term.shape), out.shape)
        np.testing.assert_allclose(got, out, rtol=1e-6, atol=1e-9)
