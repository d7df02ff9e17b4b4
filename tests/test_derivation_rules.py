"""What decides a step of a derivation, and what it leaves undecided."""

from dataclasses import replace

import pytest

sp = pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs._catalogue import DERIVATIONS  # noqa: E402
from xent_jax.proofs._derivations.decide import Assumption, Undecided, equal  # noqa: E402
from xent_jax.proofs._derivations.derivation import Step, chain  # noqa: E402
from xent_jax.proofs._derivations.notation import I, J, z  # noqa: E402
from xent_jax.proofs._derivations.terms import Index, Partial, Total, family, total  # noqa: E402

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


def test_sympy_captures_a_bound_variable_and_a_definition_does_not():
    a = sp.IndexedBase("a")
    i, j, n = sp.symbols("i j n", integer=True)
    captured = sp.Sum(a[i, j] * a[i, n], (j, 1, 3)).subs(n, j)
    assert captured == sp.Sum(a[i, j] ** 2, (j, 1, 3))  # it is not: j was free
    pairs, of = total(lambda j: z(j) * z(I)), family("h")
    outer = Total(of(pairs.index), pairs.index)
    equal(outer, total(z) ** 2, [(of(I), pairs)])


def test_sympy_differentiates_a_bound_variable_wrongly_and_partial_does_not():
    a = sp.IndexedBase("a")
    j = sp.Symbol("j", integer=True)
    whole = sp.Sum(a[j] ** 2, (j, 1, 3))
    wrong = whole.diff(a[j])
    assert wrong != 2 * a[j] and wrong.has(sp.Sum)
    squares = total(lambda j: z(j) ** 2)
    equal(Partial(squares, z(squares.index)), 2 * z(squares.index))


def test_sympy_finds_no_derivative_of_a_matrix_expression():
    size = sp.Symbol("size", integer=True, positive=True)
    x = sp.MatrixSymbol("x", size, 1)
    mass = (sp.OneMatrix(1, size) * x.applyfunc(sp.exp))[0, 0]
    assert sp.log(mass).diff(x) == sp.ZeroMatrix(size, 1) or sp.log(mass).diff(x) == 0
