"""Why the prover has a normal form of its own: what SymPy does at symbolic sizes.

Each of these returns without an exception. A version of SymPy in which one is mended
fails its test here, and the test goes.
"""

import pytest

sp = pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs import _normal_form as f  # noqa: E402
from xent_jax.proofs._normal_form import (  # noqa: E402
    Symbol,
    atom,
    derivative,  # noqa: E402
    entry,
    fresh,
    index,
    poly,
    substitute,
    total,
)

K = poly(atom("dim", "k", 1))
X = Symbol("x", "real")


def test_sympy_captures_a_bound_index():
    x = sp.IndexedBase("x")
    j, n, m = sp.symbols("j n m", integer=True)
    s = sp.Sum(x[j] * x[m], (j, 0, n - 1))
    captured = s.subs(m, j)
    assert captured == sp.Sum(x[j] ** 2, (j, 0, n - 1))  # not x[j] sum_l x[l]


def test_the_normal_form_does_not():
    j, m = index("j", K), index("m", K)
    s = total(entry(X, j) * entry(X, m), j)
    other = fresh(K)
    assert substitute(s, {m: poly(j)}) == entry(X, j) * total(entry(X, other), other)


def test_sympy_differentiates_a_sum_whose_index_clashes_wrongly():
    x = sp.IndexedBase("x")
    j, n = sp.symbols("j n", integer=True)
    s = sp.Sum(x[j], (j, 0, n - 1))
    wrong = s.diff(x[j])
    assert wrong.doit() != 1  # though d/dx_j sum_j x_j = 1


def test_the_normal_form_differentiates_it():
    j = index("j", K)
    assert derivative(total(entry(X, j), j), X, j).number() == 1


def test_sympy_differentiates_a_logarithm_of_a_matrix_sum_to_0():
    n = sp.Symbol("n", integer=True, positive=True)
    x = sp.MatrixSymbol("x", n, 1)
    e = sp.log(sp.OneMatrix(1, n) * x.applyfunc(sp.exp))
    assert e.diff(x) == sp.ZeroMatrix(n, 1)


def test_the_normal_form_differentiates_that_too():
    j, a = index("j", K), fresh(K)
    s = total(f.exp(entry(X, j)), j)
    assert derivative(f.log(s), X, a) == f.exp(entry(X, a)) * f.inverse(s)
