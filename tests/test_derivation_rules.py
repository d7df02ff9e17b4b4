"""The rules for the steps of derivations decide what they should, and leave the rest undecided."""

from dataclasses import replace

import pytest

sp = pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs import _normal_form as form  # noqa: E402
from xent_jax.proofs._catalogue import DERIVATIONS  # noqa: E402
from xent_jax.proofs._derivations.decide import Assumption, Undecided, equal  # noqa: E402
from xent_jax.proofs._derivations.derivation import Step, chain  # noqa: E402
from xent_jax.proofs._derivations.notation import I, J, z  # noqa: E402
from xent_jax.proofs._derivations.terms import Index, Partial, Total, family, total  # noqa: E402
from xent_jax.proofs._normal_form import (  # noqa: E402
    Symbol,
    atom,
    derivative,
    entry,
    fresh,
    index,
    poly,
    substitute,
)

from tests.derivation_numbers import differs  # noqa: E402


def reason(start, step):
    """Returns why the step does not hold, or nothing if it does."""
    return chain("", "", "", start, step).check()[1].reason


def test_a_step_that_is_only_undecided_fails():
    x = sp.Symbol("x", positive=True)
    start, end = sp.log(1 + sp.exp(x)) - x, sp.log(1 + sp.exp(-x))
    assert not reason(Step("start", start, ""), Step("log of a product", end, ""))
    unread = Step("functional equation", sp.gamma(x + 1) / sp.gamma(x), "")
    assert "gamma is not read" in reason(Step("start", x, ""), unread)


def test_the_numbers_of_a_wrong_step_differ():
    wrong = Step("start", z(I), ""), Step("wrong", 2 * z(I), "")
    assert "for 1 classes the numbers are" in differs(chain("wrong", "", "", *wrong), *wrong)


def test_an_inequality_needs_a_slack_that_is_shown_not_to_be_negative():
    start, end = Step("start", z(I), ""), Step("end", sp.Integer(0), "", "", "≥", z(I))
    assert "not negative" in reason(start, end)


@pytest.mark.parametrize(
    "divisor", [z(I), z(I) - z(J), total(z), sp.exp(z(I)) - 1], ids=lambda e: sp.sstr(e)[:20]
)
def test_a_divisor_that_may_be_zero_is_undecided(divisor):
    with pytest.raises(Undecided, match="not known to differ from 0"):
        equal(total(lambda j: z(j) / divisor), total(z) / divisor)


@pytest.mark.parametrize(
    "left, right",
    [
        (sp.log(z(I) ** 2), 2 * sp.log(z(I))),
        (sp.log(z(I) * z(J)), sp.log(z(I)) + sp.log(z(J))),
        ((z(I) * z(J)) ** sp.Symbol("g"), z(I) ** sp.Symbol("g") * z(J) ** sp.Symbol("g")),
    ],
)
def test_logarithms_and_powers_of_what_may_be_negative_are_undecided(left, right):
    with pytest.raises(Undecided, match="is positive is not shown"):
        equal(left + z(I), z(I) + right)


def test_without_two_classes_the_others_may_be_an_empty_sum():
    unassumed = replace(DERIVATIONS["seed_softmax_below_one"], assumptions=())
    assert "is positive is not shown" in unassumed.check()[-1].reason


def test_an_assumption_is_needed_where_it_is_stated():
    unassumed = replace(DERIVATIONS["seed_gradient"], assumptions=())
    assert [o.step for o in unassumed.check() if not o.holds] == ["closed form"]


@pytest.mark.parametrize("sums", [2 * total(z), total(lambda j: z(j) + 1)], ids=["twice", "two"])
def test_an_equation_must_give_the_value_of_one_sum(sums):
    known = Assumption("", equation=(sums, sp.Integer(1)))
    with pytest.raises(Undecided, match="is not one sum"):
        equal(sums, sp.Integer(1), given=(known,))


def test_an_index_out_of_the_range_of_a_sum_is_undecided():
    other = Index("n", sp.Symbol("n", integer=True, positive=True))
    with pytest.raises(Undecided, match="not in the range"):
        equal(total(z, but=other), total(z) - z(other))


def test_what_has_no_slope_everywhere_is_not_differentiated():
    x = sp.Symbol("x", real=True)
    with pytest.raises(Undecided, match="derivative of a maximum"):
        equal(Partial(sp.Max(x, sp.Symbol("m", real=True)), x), sp.Integer(0))
    with pytest.raises(Undecided, match="a definition stands for"):
        equal(Partial(x, x), sp.Integer(1), ((x, sp.Integer(2)),))


def test_two_maxima_of_numbers_with_the_same_names_are_told_apart():
    m, same_name = sp.Symbol("m", real=True), sp.Symbol("m", positive=True)
    equal(sp.Max(m, z(I)), sp.Max(z(I), m))
    with pytest.raises(Undecided, match="left over"):
        equal(sp.Max(m, z(I)), sp.Max(same_name, z(I)))


# -------------------------------------------------- why SymPy's own sums are not used

# SymPy is wrong in these three cases and raises no exception. If a version of SymPy corrects one
# of them, the test of that case fails and can be deleted.
K = poly(atom("dim", "k", 1))
X = Symbol("x", "real")
SIZE, PLACE, OTHER = sp.symbols("size j m", integer=True, positive=True)
ENTRIES = sp.IndexedBase("x")


def test_sympy_captures_a_bound_index_and_the_proofs_do_not():
    captured = sp.Sum(ENTRIES[PLACE] * ENTRIES[OTHER], (PLACE, 0, SIZE - 1)).subs(OTHER, PLACE)
    assert captured == sp.Sum(ENTRIES[PLACE] ** 2, (PLACE, 0, SIZE - 1))  # not x[j] sum_l x[l]
    j, m, other = index("j", K), index("m", K), fresh(K)
    s = form.total(entry(X, j) * entry(X, m), j)
    assert substitute(s, {m: poly(j)}) == entry(X, j) * form.total(entry(X, other), other)
    pairs, of = total(lambda j: z(j) * z(I)), family("h")
    outer = Total(of(pairs.index), pairs.index)
    equal(outer, total(z) ** 2, [(of(I), pairs)])


def test_sympy_differentiates_a_sum_by_its_bound_index_and_the_proofs_do_not():
    wrong = sp.Sum(ENTRIES[PLACE], (PLACE, 0, SIZE - 1)).diff(ENTRIES[PLACE])
    assert wrong.doit() != 1  # though d/dx_j sum_j x_j = 1
    j = index("j", K)
    assert derivative(form.total(entry(X, j), j), X, j).number() == 1
    squares = total(lambda j: z(j) ** 2)
    equal(Partial(squares, z(squares.index)), 2 * z(squares.index))


def test_sympy_differentiates_a_logarithm_of_a_matrix_sum_to_0_and_the_proofs_do_not():
    x = sp.MatrixSymbol("x", SIZE, 1)
    e = sp.log(sp.OneMatrix(1, SIZE) * x.applyfunc(sp.exp))
    assert e.diff(x) == sp.ZeroMatrix(SIZE, 1)
    j, a = index("j", K), fresh(K)
    s = form.total(form.exp(entry(X, j)), j)
    assert derivative(form.log(s), X, a) == form.exp(entry(X, a)) * form.inverse(s)
