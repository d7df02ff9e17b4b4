"""Each derivation holds, fails if a step is wrong, and ends in what the library computes."""

import random
import re

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import xent_jax
from tests.cases import FUNCTIONS, x64

sp = pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs._catalogue import DERIVATIONS, proof_of  # noqa: E402
from xent_jax.proofs._derivations import linear_head, notation  # noqa: E402
from xent_jax.proofs._derivations.derivation import Step  # noqa: E402
from xent_jax.proofs._derivations.terms import Index, K, Partial, Total  # noqa: E402

from tests.derivation_numbers import Sample, differs  # noqa: E402

pytestmark = pytest.mark.fast_compile

I, J = notation.I, notation.J


@pytest.mark.parametrize("name", DERIVATIONS)
def test_every_step_holds(name):
    assert [(o.step, o.reason) for o in DERIVATIONS[name].check() if not o.holds] == []


@pytest.mark.parametrize("name", DERIVATIONS)
def test_every_step_has_the_numbers_of_the_one_before(name):
    """Each step is checked with 60 digits, at random numbers for 1, 2, 3 and 5 classes."""
    derivation = DERIVATIONS[name]
    for before, step in zip(derivation.steps, derivation.steps[1:], strict=False):
        assert differs(derivation, before, step) == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_names_a_proof(name):
    """The proof is a derivation or, if there is none, a theorem."""
    (proof,) = re.findall(r"Proof:\s+``(\w+)``", getattr(xent_jax, name).__doc__)
    assert proof == name and proof_of(proof)


# ------------------------------------------------------------------- spoiled steps


def spoiled(e):
    """Yields copies of ``e`` that each have one operation changed, at any depth."""
    yield -e if e != 0 else sp.Integer(1)
    yield e + sp.Rational(1, 7)
    if isinstance(e, Index):
        yield J if e is I else I
    if isinstance(e, sp.Add | sp.Mul):
        for n in range(len(e.args)):
            yield e.func(*e.args[:n], *e.args[n + 1 :])
    if isinstance(e, sp.Pow):
        yield e.base ** (e.exp + 1)
    if isinstance(e, sp.exp | sp.log):
        yield e.func(2 * e.args[0])
    if isinstance(e, Total):
        yield Total(e.body, e.index) if e.others else Total(e.body, e.index, I)
        yield from (
            Total(b, e.index, *e.others) for b in spoiled(e.body) if not isinstance(e.body, Index)
        )
    elif isinstance(e, Partial):
        yield from (Partial(b, e.by) for b in spoiled(e.body))
    else:
        for n, argument in enumerate(e.args):
            if isinstance(argument, Index) or not e.is_Function or not e.args[0].is_Symbol:
                for other in spoiled(argument):
                    if not isinstance(argument, Index) or isinstance(other, Index):
                        yield e.func(*e.args[:n], other, *e.args[n + 1 :])


def is_wrong(derivation, before, step):
    """Returns whether the step is wrong at random numbers, or None if it has no value there."""
    try:
        return bool(differs(derivation, before, step))
    except (ZeroDivisionError, ValueError, KeyError, TypeError):
        return None


PER_STEP = 5


@pytest.mark.parametrize("name", DERIVATIONS)
def test_no_spoiled_step_is_decided(name):
    derivation, tried = DERIVATIONS[name], 0
    for before, step in zip(derivation.steps, derivation.steps[1:], strict=False):
        every = list(spoiled(step.expr))
        chosen = random.Random(f"{name} {step.name}").sample(every, min(PER_STEP, len(every)))
        for expression in [every[0], *chosen]:
            mutant = Step(step.name, expression, step.why, "", step.relation, step.slack)
            if is_wrong(derivation, before, mutant):
                tried += 1
                assert derivation.decide(before, mutant), expression
    assert tried


# ------------------------------------------------------- the closed forms, as they ship

KCLASSES, LABEL = 5, 2
LABELS = np.array([LABEL, 4])  # of the head's tokens
SHAPES = {"g": 2, "x": (2, 3), "W": (3, KCLASSES), "b": KCLASSES, "u": (2, KCLASSES)}


def arrays(head=False):
    """Returns arrays and scalars by the names in derivations; the head has arrays of its own."""
    rng = np.random.default_rng(0)
    if head:
        return {n: rng.normal(size=shape) for n, shape in SHAPES.items()} | {"y": LABELS}, {}
    real = {n: rng.normal(size=KCLASSES) for n in "zglsu"}
    real |= {n: rng.uniform(0.1, 1, KCLASSES) for n in "tpqw"}
    scalars = dict(c=0.3, x=0.7, w=1.7, gamma=1.5, epsilon=0.2)
    return real, scalars | dict(t=0.3, z=1.3, tau=1.4, beta=0.3, alpha=0.7)


def closed_form(name):
    """Returns the last expression of a derivation, for each component, at numbers of ``arrays``."""
    derivation = DERIVATIONS[name]
    last = derivation.steps[-1].expr
    real, scalars = arrays(head="linear" in name)
    sizes = {K: KCLASSES, linear_head.TOKENS: 2, linear_head.WIDTH: 3}
    symbols = last.free_symbols.union(*(b.free_symbols for _, b in derivation.definitions))
    values = real | {s: scalars[s.name] for s in symbols if s.name in scalars}
    places = [i for i in (linear_head.D, I) if i in symbols]
    out = np.empty([sizes[i.size] for i in places])
    with mp.workdps(30):
        for at in np.ndindex(*out.shape):
            given = {**values, notation.Y: LABEL, **dict(zip(places, at, strict=True))}
            out[at] = float(Sample(sizes, derivation, 0, given).value(last))
    return out


def gradient(function, place, *arguments, weights=None, **options):
    """Returns the gradient of a function, or of the weighted sum of its values, to one argument."""

    def loss(x):
        value = function(*arguments[:place], x, *arguments[place + 1 :], **options)
        return value if weights is None else weights @ value

    return jax.grad(loss)(arguments[place])


def shipped_of_logits():
    """Returns the gradients of the losses of logits, by the names of their derivations."""
    (a, scalars), x = arrays(), xent_jax
    z, g, s, t, w = (jnp.asarray(a[name]) for name in "zgstw")
    c, eps, gamma = (scalars[name] for name in ("c", "epsilon", "gamma"))
    tau = jnp.asarray(scalars["tau"])
    soft = dict(label_smoothing=eps, z_loss=c, class_weights=w)
    binary = scalars["x"], scalars["t"]

    def of_statistics(z):
        found = x.token_statistics(z, LABEL)
        return found.loss + c * found.logsumexp + eps * found.entropy

    return {
        "softmax": gradient(x.softmax, 0, z, weights=g),
        "log_softmax": gradient(x.log_softmax, 0, z, weights=g),
        "logsumexp": gradient(x.logsumexp, 0, z),
        "softmax_entropy": gradient(x.softmax_entropy, 0, z),
        "softmax_cross_entropy": gradient(x.softmax_cross_entropy, 0, z, s, **soft),
        "softmax_cross_entropy.labels": gradient(x.softmax_cross_entropy, 1, z, t),
        "softmax_cross_entropy_with_integer_labels": gradient(
            x.softmax_cross_entropy_with_integer_labels, 0, z, LABEL, **soft
        ),
        "softmax_focal_loss": gradient(
            x.softmax_focal_loss, 0, z, LABEL, gamma=gamma, class_weights=w
        ),
        "poly_loss_cross_entropy": gradient(x.poly_loss_cross_entropy, 0, z, t, eps),
        "softmax_kl_divergence": gradient(x.softmax_kl_divergence, 0, z, w, temperature=tau),
        "softmax_jensen_shannon_divergence": gradient(
            x.softmax_jensen_shannon_divergence, 0, z, w, beta=scalars["beta"], temperature=tau
        ),
        "token_statistics": gradient(of_statistics, 0, z),
        "sigmoid_binary_cross_entropy": gradient(
            x.sigmoid_binary_cross_entropy, 0, *binary, pos_weight=jnp.asarray(scalars["w"])
        ),
        "sigmoid_focal_loss": gradient(x.sigmoid_focal_loss, 0, *binary, gamma=gamma),
        "softcap": gradient(x.softcap, 0, scalars["z"], c),
    }


def shipped_of_distributions():
    """Returns the gradients of the losses of distributions."""
    p, q, l, t, u = (jnp.asarray(arrays()[0][name]) for name in "pqltu")
    x = xent_jax
    return {
        "entropy": gradient(x.entropy, 0, p),
        "cross_entropy": gradient(x.cross_entropy, 1, p, q),
        "relative_entropy": gradient(x.relative_entropy, 1, p, q),
        "kl_divergence": gradient(x.kl_divergence, 0, l, t),
        "kl_divergence_with_log_targets": gradient(x.kl_divergence_with_log_targets, 0, l, u),
        "generalized_kl_divergence": gradient(x.generalized_kl_divergence, 0, l, t),
    }


def shipped_of_heads():
    """Returns the gradients of the heads to their kernel."""
    head = {name: jnp.asarray(array) for name, array in arrays(head=True)[0].items()}
    u, g, tokens = head["u"], head["g"], [head[name] for name in "xWyb"]
    linear = xent_jax.with_linear_head(lambda z, u: jnp.sum(u * z, -1), reduction="sum")

    def entropy(*tokens):
        return xent_jax.linear_token_statistics(*tokens).entropy

    return {
        "linear_softmax_cross_entropy": gradient(
            xent_jax.linear_softmax_cross_entropy, 1, *tokens, weights=g, reduction="none"
        ),
        "with_linear_head": gradient(linear, 1, head["x"], head["W"], u, bias=head["b"]),
        "linear_token_statistics": gradient(entropy, 1, *tokens, weights=g),
    }


@pytest.fixture(scope="module")
def gradients():
    with x64():
        shipped = shipped_of_logits, shipped_of_distributions, shipped_of_heads
        every = jax.jit(lambda: {name: g for of in shipped for name, g in of().items()})()
        return {name: np.atleast_1d(g) for name, g in every.items()}


DERIVED = [n for n in [*FUNCTIONS, "softmax_cross_entropy.labels"] if n in DERIVATIONS]


def test_every_gradient_has_its_derivation(gradients):
    assert set(gradients) == set(DERIVED)


@pytest.mark.parametrize("name", DERIVED)
def test_the_closed_form_is_what_ships(name, gradients):
    np.testing.assert_allclose(gradients[name], closed_form(name), rtol=1e-12)
