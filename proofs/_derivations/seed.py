"""Repeats the derivation of the tutorial that the project started from, for any number of classes.

The tutorial, called the seed here, is "Softmax and the cross-entropy loss function" (in Chinese).
Places in it are cited by its headings. The tutorial calls the softmax y and the true labels y-hat;
here they are y and t. The logits are z in both.
"""

from __future__ import annotations

from functools import partial

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step, chain
from .notation import SUM_EXP, A, I, J, cross, sum_exp, z
from .terms import Gap, Index, K, Partial, delta, family, label_family, total, written

y, t = family("y"), family("t", positive=True)
p, q = family("p", positive=True), family("q", positive=True)
log, exp = sp.log, sp.exp
_SEED = "the seed"

SOFTMAX = ((y(A), exp(z(A)) / SUM_EXP),)

_others = sum_exp(but=I)
_x, _u = sp.symbols("x u", positive=True)
_outputs = family("y", positive=True)  # outputs that vary independently of each other
_label = Index("c", K)
_SAME_PLACE, _DIFFERENT_PLACE, _LAST = "case j = i", "case j ≠ i", "the last block of formulas"
_chain = partial(chain, definitions=SOFTMAX, source=_SEED)


def _bound_side(name: str, side: str, x: sp.Expr, sign: int, slope: sp.Expr) -> Derivation:
    return chain(
        name, f"log x ≤ x − 1: {side}",
        "(x − 1)/x, signed, is positive",
        Step("signed slope", sign * (_x - 1) / _x, "(x − 1)/x of log_bound"),
        Step("in u > 0", slope, f"x = {sp.sstr(x)}"),
        Step("sign", sp.Integer(0), "positive terms alone", relation=">", slack=slope),
        definitions=((_x, x),),
    )  # fmt: skip


def _term_by_z(j: sp.Expr) -> sp.Expr:
    """Returns ∂L/∂y_j ∂y_j/∂z_i."""
    return -t(j) / y(j) * Partial(y(j), z(I))


def _batch() -> Derivation:
    m = sp.Symbol("m", integer=True, positive=True)
    label, logits, probabilities = label_family("c"), family("z"), family("y")
    r, b, a = Index("r", m), Index("n", m), Index("i", K)
    hot = family("t")

    def slope_of_mean(f) -> sp.Expr:
        return Partial(-total(f, over=m, letter="n") / m, logits(r, I))

    return chain(
        "seed_batch_mean", "The mean over a batch of m",
        "∂L/∂z_ri = (y_ri − t_ri) / m",
        Step("derivative of the mean", slope_of_mean(
            lambda n: total(lambda j: delta(label(n), j) * log(probabilities(n, j)))),
             "definition", "the other form, L"),
        Step("one-hot", slope_of_mean(
            lambda n: total(lambda j: hot(n, j) * log(probabilities(n, j)))),
             "t_nj = 1{c_n = j}", "the other form, L, second line"),
        Step("the label's terms", slope_of_mean(lambda n: log(probabilities(n, label(n)))),
             "term c_n of each sum", "the other form, L, second line"),
        Step("closed form", (probabilities(r, I) - hot(r, I)) / m,
             "seed_gradient for each example; Σ_j t_nj = 1"),
        definitions=(
            (probabilities(b, a), exp(logits(b, a)) / total(lambda j: exp(logits(b, j)))),
            (hot(b, a), delta(label(b), a)),
        ),
        assumptions=(Assumption("one label c_n in 0..k−1 for each of m examples, m ≥ 1"),),
        source=_SEED,
    )  # fmt: skip


DERIVATIONS = (
    _chain(
        "seed_softmax_positive", "Softmax is above 0",
        "y_i > 0",
        Step("softmax", y(I), "definition", "section Softmax"),
        Step("written out", exp(z(I)) / SUM_EXP, "definition of y"),
        Step("sign", sp.Integer(0), "exp is positive", relation=">", slack=y(I)),
    ),
    _chain(
        "seed_softmax_below_one", "Softmax is below 1",
        "1 − y_i > 0",
        Step("complement", 1 - y(I), "definition", "section Softmax"),
        Step("the others", _others / SUM_EXP, "term i of a sum: Σ_j f(j) − f(i) = Σ_{j≠i} f(j)"),
        Step("sign", sp.Integer(0), "a sum of positive terms", "", ">", _others / SUM_EXP),
        assumptions=(Assumption("k ≥ 2", least=2),),
        about="The seed gives the closed interval [0, 1]; with a single class y_1 = 1.",
    ),
    _chain(
        "seed_softmax_sums_to_one", "Softmax sums to 1",
        "Σ_i y_i = 1",
        Step("sum", total(y), "definition", "section Softmax"),
        Step("numerators", total(lambda i: exp(z(i))) / SUM_EXP, "a common divisor moves out"),
        Step("one", sp.Integer(1), "the divisor is positive"),
    ),
    chain(
        "seed_entropy", "Entropy H(p)",
        "H(p) = −Σ_i p_i log p_i",
        Step("mean code length", total(lambda i: p(i) * log(1 / p(i))), "definition",
             "section Cross-entropy, H(p)"),
        Step("entropy", cross(p, p), "log(1/x) = −log x"),
        source=_SEED,
    ),
    chain(
        "seed_cross_entropy", "Cross-entropy H(p, q)",
        "H(p, q) = −Σ_i p_i log q_i",
        Step("code length of q under p", total(lambda i: p(i) * log(1 / q(i))), "definition",
             "section Cross-entropy, H(p, q)"),
        Step("cross-entropy", cross(p, q), "log(1/x) = −log x"),
        source=_SEED,
    ),
    chain(
        "log_bound", "log x ≤ x − 1: the slope of x − 1 − log x",
        "the slope is (x − 1)/x; log_bound_left, log_bound_right: negative below 1, positive above",
        Step("slope", Partial(_x - 1 - log(_x), _x), "definition", "section Cross-entropy"),
        Step("differentiated", 1 - 1 / _x, "derivative of log"),
        Step("one fraction", (_x - 1) / _x, "algebra"),
        source="the rule behind H(p, q) ≥ H(p)",
        about="x − 1 − log x is 0 at x = 1. By the mean value theorem, a function that falls "
              "before 1 and rises after it has its least value there, so it is never negative. "
              "That theorem is the one step here that is cited and not computed.",
    ),
    _bound_side("log_bound_right", "above 1", 1 + _u, 1, _u / (1 + _u)),
    _bound_side("log_bound_left", "below 1", 1 / (1 + _u), -1, _u),
    chain(
        "log_bound_at_one", "log x ≤ x − 1: equality at x = 1",
        "1 − 1 − log 1 = 0",
        Step("at 1", _x - 1 - log(_x), "x = 1"),
        Step("zero", sp.Integer(0), "log 1 = 0"),
        definitions=((_x, sp.Integer(1)),),
    ),
    chain(
        "seed_gibbs", "Gibbs' inequality: H(p, q) ≥ H(p)",
        "H(p, q) − H(p) ≥ 0",
        Step("difference", cross(p, q, "i") - cross(p, p, "i"), "definition",
             "section Cross-entropy"),
        Step("one sum", total(lambda i: -p(i) * log(q(i) / p(i)), letter="i"),
             "log(a/b) = log a − log b"),
        Step("bounded", total(lambda i: -p(i) * (q(i) / p(i) - 1), letter="i"),
             "log x ≤ x − 1 at x = q_i/p_i, with weights p_i > 0 (log_bound)", relation="≥",
             slack=total(lambda i: p(i) * Gap(q(i) / p(i)), letter="i")),
        Step("the masses", total(p, letter="i") - total(q, letter="i"), "algebra"),
        Step("zero", sp.Integer(0), "both sum to 1"),
        assumptions=(
            Assumption("Σ_i p_i = 1", equation=(total(p), sp.Integer(1))),
            Assumption("Σ_i q_i = 1", equation=(total(q), sp.Integer(1))),
            Assumption("p_i, q_i > 0; where p_i = 0 its terms are 0 and drop out"),
        ),
        source="the seed uses it to choose H(p, q) as a loss; Cover and Thomas (2006), 2.6.3",
    ),
    _chain(
        "seed_loss", "The loss is H(t, y)",
        "L = −Σ_i t_i ln y_i",
        Step("loss", cross(t, y, "i"), "definition", "section Cross-entropy, L"),
        Step("in the logits", total(lambda i: -t(i) * (z(i) - log(SUM_EXP)), letter="i"),
             "ln of the softmax"),
        Step("collected", total(t) * log(SUM_EXP) - total(lambda i: t(i) * z(i), letter="i"),
             "sums are linear"),
    ),
    chain(
        "seed_loss_by_output", "∂L/∂y_j",
        "∂L/∂y_j = −t_j / y_j, one term",
        Step("derivative", Partial(cross(t, _outputs, "i"), _outputs(J)), "definition",
             "first formula for the derivative of L by y_j"),
        Step("termwise", total(lambda i: -t(i) * delta(i, J) / _outputs(i), letter="i"),
             "∂ ln y_i / ∂y_j = δ_ij / y_i"),
        Step("one term", -t(J) / _outputs(J), "term j of a sum with δ_ij"),
        assumptions=(Assumption("y_i > 0, varied independently of each other"),), source=_SEED,
        about="The seed writes a sum over j on the right, −Σ_j t_j / y_j. That is a slip: the "
              "other terms do not depend on y_j. The sum belongs to the chain rule, where the "
              "seed has it again.",
    ),
    _chain(
        "seed_jacobian_same", "∂y_j/∂z_i for j = i",
        "∂y_i/∂z_i = y_i (1 − y_i)",
        Step("∂y_i/∂z_i", Partial(y(I), z(I)), "definition", _SAME_PLACE),
        Step("quotient rule", (exp(z(I)) * SUM_EXP - exp(z(I)) ** 2) / SUM_EXP**2,
             "quotient rule", _SAME_PLACE),
        Step("two factors", exp(z(I)) / SUM_EXP * (1 - exp(z(I)) / SUM_EXP), "algebra",
             _SAME_PLACE),
        Step("∂y_i/∂z_i = y_i (1 − y_i)", y(I) * (1 - y(I)), "definition of y", _SAME_PLACE),
        assumptions=(Assumption("j = i"),),
    ),
    _chain(
        "seed_jacobian_different", "∂y_j/∂z_i for j ≠ i",
        "∂y_j/∂z_i = −y_i y_j",
        Step("∂y_j/∂z_i", Partial(y(J), z(I)), "definition", _DIFFERENT_PLACE),
        Step("quotient rule", (0 - exp(z(J)) * exp(z(I))) / SUM_EXP**2, "quotient rule",
             _DIFFERENT_PLACE),
        Step("∂y_j/∂z_i = −y_i y_j", -y(I) * y(J), "definition of y", _DIFFERENT_PLACE),
        assumptions=(Assumption("j ≠ i, which needs k ≥ 2", (delta(I, J), sp.Integer(0)), 2),),
    ),
    _chain(
        "seed_gradient", "∂L/∂z_i",
        "∂L/∂z_i = y_i − t_i",
        Step("loss by logit", Partial(cross(t, y), z(I)), "definition",
             "the derivative by z_i, split by j"),
        Step("chain rule", total(_term_by_z), "∂L/∂z_i = Σ_j ∂L/∂y_j ∂y_j/∂z_i", _LAST),
        Step("term i apart", _term_by_z(I) + total(_term_by_z, but=I), "term i of a sum",
             "the derivative by z_i, split by j"),
        Step("Jacobian", written(-t(I) / y(I), y(I), 1 - y(I))
             + total(lambda j: written(t(j) / y(j), y(I), y(j)), but=I),
             "the two cases above", _LAST),
        Step("cancelled", y(I) * t(I) - t(I) + total(lambda j: y(I) * t(j), but=I),
             "y_j > 0 cancels", _LAST),
        Step("one sum", -t(I) + total(lambda j: y(I) * t(j)), "term i put back", _LAST),
        Step("y_i moved out", -t(I) + y(I) * total(t), "y_i does not depend on j", _LAST),
        Step("closed form", y(I) - t(I), "labels sum to 1", _LAST),
        assumptions=(Assumption("labels sum to 1: Σ_j t_j = 1", (total(t), sp.Integer(1))),),
        about="Up to the last step nothing is assumed of the labels; Σ_j t_j = 1 is used there.",
    ),
    chain(
        "seed_indicator", "The indicator form is the one-hot form",
        "−Σ_j 1{c = j} ln y_j = −Σ_j t_j ln y_j = −ln y_c for the label c",
        Step("indicator", total(lambda j: -delta(_label, j) * log(y(j))), "definition",
             "the other form, L_i"),
        Step("one-hot", cross(t, y), "t_j = 1{c = j}", "closing remark"),
        Step("one term", -log(y(_label)), "term c of a sum with δ_cj", "the other form, L_i"),
        definitions=(*SOFTMAX, (t(A), delta(_label, A))),
        assumptions=(Assumption("one label c in 0..k−1"),), source=_SEED,
    ),
    _batch(),
)  # fmt: skip
