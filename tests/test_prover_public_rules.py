"""Rules and definitions from public code, each written anew, and what ``prove_vjp`` says of each.

A rule with a backward is a ``custom_vjp``; of one without, JAX's own derivative is proved. The
verdict is "proved", "refuted" where the backward is no derivative, or "unread" for what the prover
does not decide yet, whether right or wrong.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import nn
from jax.nn import log_softmax, logsumexp, sigmoid, softmax
from xent_jax.proofs import array, labels, prove_vjp, scalar

from tests.rules import with_backward

ROW, MATRIX = {"x": array("n")}, {"x": array("n d")}
PAIR = ROW | {"t": array("n")}
PAIRS = MATRIX | {"t": array("n d")}
SCALED = MATRIX | {"w": array("d")}
AFFINE = SCALED | {"b": array("d")}
CHOICE = {"z": array("n k"), "y": labels("n", classes="k")}
SOFT = {"z": array("n k"), "t": array("n k")}
HEADS = {"q": array("b t h 2"), "k": array("b s h 2"), "v": array("b s h 2")}
ONE_HEAD = {"q": array("t d"), "k": array("t d"), "v": array("t d")}
BITS = ROW | {"t": array("n", dtype=bool)}


class Rule(NamedTuple):
    """One rule, its backward as ``(g, *args)``, and what is said of it."""

    verdict: str
    source: str
    name: str
    value: Any
    args: dict
    backward: Any = None
    true: bool = True  # whether it is the derivative, at kinks aside
    wrt: tuple[str, ...] = ()
    slow: bool = False

    @property
    def fun(self):
        """What a user would call."""
        return with_backward(self.value, self.backward) if self.backward else self.value


def mean(x):
    return jnp.mean(x, -1, keepdims=True)


def rms(x, eps=1e-6):
    return jax.lax.rsqrt(mean(x * x) + eps)


def rms_norm(x, w):
    return x * rms(x) * w


def rms_norm_backward(g, x, w, second=1.0):
    r, u = rms(x), g * w
    return r * u - second * x * r**3 * mean(u * x), jnp.sum(g * x * r, 0)


def layer_norm(x, w, b, eps=1e-5):
    c = x - mean(x)
    return c * jax.lax.rsqrt(mean(c * c) + eps) * w + b


def layer_norm_backward(g, x, w, b, centred=1.0):
    c = x - mean(x)
    r = jax.lax.rsqrt(mean(c * c) + 1e-5)
    n, u = c * r, g * w
    dx = r * (u - centred * mean(u) - n * mean(u * n))
    return dx, jnp.sum(g * n, 0), jnp.sum(g, 0)


def fast_layer_norm(x):
    """With the variance as flax has it: mean(x²) - mean(x)², at least 0."""
    variance = jnp.maximum(0.0, mean(x * x) - mean(x) ** 2)
    return (x - mean(x)) * jax.lax.rsqrt(variance + 1e-6)


def z_loss(z, t, c=1e-4):
    lse = logsumexp(z, -1)
    return lse * jnp.sum(t, -1) - jnp.sum(z * t, -1) + c * lse**2


def z_loss_backward(g, z, t, c=1e-4):
    lse = logsumexp(z, -1, keepdims=True)
    dz = (jnp.sum(t, -1, keepdims=True) + 2 * c * lse) * softmax(z) - t
    return g[:, None] * dz, g[:, None] * (lse - z)


def at_label(z, y):
    return jnp.take_along_axis(z, y[:, None], -1)[:, 0]


def cross_entropy(z, y):
    return logsumexp(z, -1) - at_label(z, y)


def cross_entropy_backward(g, z, y):
    return g[:, None] * (softmax(z) - nn.one_hot(y, z.shape[-1])), None


def bce(x, t):
    return jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))


def attention(q, k, v, mask=None):
    s = q @ k.T / 8
    return softmax(s if mask is None else jnp.where(mask(s), s, -jnp.inf)) @ v


def causal(s):
    return jnp.arange(s.shape[0])[:, None] >= jnp.arange(s.shape[1])


def attention_backward(g, q, k, v, rowwise=1.0):
    p = softmax(q @ k.T / 8)
    dp = g @ v.T
    ds = p * (dp - rowwise * jnp.sum(p * dp, -1, keepdims=True)) / 8
    return ds @ k, ds.T @ q, p.T @ g


def so_far(x):
    """The log-sum-exp of the entries up to each one, as attention in one pass computes it."""
    m = jax.lax.cummax(x, 1)
    parts = jnp.where(causal(x.T @ x), jnp.exp(x[:, None, :] - m[:, :, None]), 0.0)
    return m + jnp.log(jnp.sum(parts, -1))


def so_far_backward(g, x, reverse=True):
    return (jnp.exp(x) * jax.lax.cumsum(g * jnp.exp(-so_far(x)), 1, reverse),)


def safe_log(x):
    return jnp.log(jnp.maximum(x, 1e-3))


def rlax_huber(x):
    small = jnp.minimum(jnp.abs(x), 1.0)
    return 0.5 * small**2 + (jnp.abs(x) - small)


def ppo(r, a):
    return -jnp.minimum(r * a, jnp.clip(r, 0.8, 1.2) * a)


def safe_norm(x):
    """Of rows, with the gradient 0 at 0."""
    square = jnp.sum(x * x, -1)
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def norm_backward(g, x):
    n = safe_norm(x)[:, None]
    return (jnp.where(n == 0, 0.0, g[:, None] * x / jnp.where(n == 0, 1.0, n)),)


def contract(x):
    """Of mip-NeRF 360: into the ball of radius 2."""
    square = jnp.maximum(1.0, jnp.sum(x * x, -1, keepdims=True))
    return jnp.where(square <= 1, x, (2 * jnp.sqrt(square) - 1) / square * x)


def rotary(x, c, s):
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * c - b * s, b * c + a * s], -1)


def focal(z, y):
    p = at_label(log_softmax(z), y)
    return -((1 - jnp.exp(p)) ** 2) * p


def dice(x, t):
    p = sigmoid(x)
    return 1 - (2 * jnp.sum(p * t, -1) + 1) / (jnp.sum(p, -1) + jnp.sum(t, -1) + 1)


def cosine(x, t):
    norms = jnp.sqrt(jnp.sum(x * x, -1) + 1e-6) * jnp.sqrt(jnp.sum(t * t, -1) + 1e-6)
    return jnp.sum(x * t, -1) / norms


def normal(x):
    """The distribution function of a standard normal number."""
    return (1 + jax.lax.erf(x / jnp.sqrt(2.0))) / 2


def perceptron(p, x):
    return jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]


def perceptron_backward(g, p, x, second=1.0):
    h = jnp.tanh(x @ p["w"] + p["b"])
    dh = g[:, None] * p["v"] * (1 - second * h**2)
    return {"w": x.T @ dh, "b": jnp.sum(dh, 0), "v": h.T @ g}, dh @ p["w"].T


POSITIVE, UNIT = {"x": array("n", positive=True)}, {"x": array("n", unit=True)}
P, R, U = "proved", "refuted", "unread"
RULES = [
    # ---------------------------------------------------------------- activations
    Rule(P, "jax.nn", "relu", nn.relu, ROW),
    Rule(P, "jax.nn", "relu6", nn.relu6, ROW),
    Rule(P, "jax.nn", "leaky relu", nn.leaky_relu, ROW),
    Rule(P, "jax.nn", "elu", nn.elu, ROW),
    Rule(P, "jax.nn", "selu", nn.selu, ROW),
    Rule(P, "jax.nn", "celu", nn.celu, ROW),
    Rule(P, "jax.nn", "hard tanh", nn.hard_tanh, ROW),
    Rule(P, "jax.nn", "hard swish", nn.hard_swish, ROW),
    Rule(P, "jax.nn", "squareplus", nn.squareplus, ROW),
    Rule(P, "jax.nn", "softplus", nn.softplus, ROW),
    Rule(P, "jax.nn", "soft sign", nn.soft_sign, ROW),
    Rule(P, "jax.nn", "silu", nn.silu, ROW),
    Rule(P, "jax.nn", "gelu by tanh", lambda x: nn.gelu(x, approximate=True), ROW),
    Rule(P, "jax.nn", "gelu by erf", lambda x: nn.gelu(x, approximate=False), ROW),
    Rule(P, "jax.nn", "mish", nn.mish, ROW),
    Rule(P, "Keras", "gelu by hand", lambda x: nn.gelu(x, approximate=False), ROW,
         lambda g, x: (g * (normal(x) + x * jnp.exp(-x * x / 2) / jnp.sqrt(2 * jnp.pi)),)),
    Rule(R, "Keras", "gelu with the slope of its approximation",
         lambda x: nn.gelu(x, approximate=False), ROW,
         lambda g, x: (g * sigmoid(1.702 * x) * (1 + 1.702 * x * sigmoid(-1.702 * x)),), False),
    Rule(P, "distrax", "quantile of a Cauchy distribution",
         lambda x: jnp.tan(jnp.pi * (x - 0.5)), UNIT),
    Rule(P, "numpyro", "distribution function of a normal", lambda x: normal(x), ROW),
    Rule(P, "jax.nn", "glu", lambda x: nn.glu(x), {"x": array("n 2*d")}),
    Rule(P, "MaxText", "swiglu by hand", lambda x, t: nn.silu(x) * t, PAIR,
         lambda g, x, t: (g * t * sigmoid(x) * (1 + x * sigmoid(-x)), g * nn.silu(x))),
    Rule(P, "axlearn", "squared relu by hand", lambda x: nn.relu(x) ** 2, ROW,
         lambda g, x: (2 * g * nn.relu(x),)),
    Rule(R, "praxis", "squared relu with the slope of relu", lambda x: nn.relu(x) ** 2, ROW,
         lambda g, x: (jnp.where(x > 0, g, 0.0),), False),
    # ---------------------------------------------------------------- guards
    Rule(P, "zipnerf", "safe log by hand", safe_log, ROW,
         lambda g, x: (jnp.where(x > 1e-3, g / jnp.maximum(x, 1e-3), 0.0),)),
    Rule(R, "zipnerf", "safe log, its slope kept where it is clipped", safe_log, ROW,
         lambda g, x: (g / jnp.maximum(x, 1e-3),), False),
    Rule(P, "zipnerf", "safe exp by hand", lambda x: jnp.exp(jnp.minimum(x, 4.0)), ROW,
         lambda g, x: (jnp.where(x < 4, g * jnp.exp(jnp.minimum(x, 4.0)), 0.0),)),
    Rule(P, "zipnerf", "contraction of space", contract, MATRIX),
    Rule(P, "optax", "clip", lambda x: jnp.clip(x, -1, 1), ROW),
    Rule(R, "distrax", "clip with the gradient let through", lambda x: jnp.clip(x, -1, 1), ROW,
         lambda g, x: (g,), False),
    Rule(R, "flax", "straight-through rounding", lambda x: jnp.round(x), ROW,
         lambda g, x: (g,), False),
    Rule(R, "EasyDeL", "gradient reversal", lambda x: x * 1.0, ROW, lambda g, x: (-g,), False),
    Rule(R, "jaxnerf", "gradient clipping", lambda x: x * 1.0, ROW,
         lambda g, x: (jnp.clip(g, -0.1, 0.1),), False),
    Rule(R, "recurrentgemma", "root with a bounded slope", jnp.sqrt, POSITIVE,
         lambda g, x: (g / jnp.sqrt(jnp.maximum(4 * x, 1.0)),), False),
    Rule(P, "recurrentgemma", "gate of the recurrence",
         lambda a, x: jnp.sqrt(1 - jnp.exp(-2 * a)) * x, {"a": array("n", positive=True)} | ROW),
    Rule(P, "distrax", "log(1 - exp(-x))", lambda x: jnp.log(-jnp.expm1(-x)), POSITIVE),
    Rule(P, "e3nn", "soft step",
         lambda x: jnp.where(x > 0, jnp.exp(-1 / jnp.where(x > 0, x, 1)), 0), ROW,
         lambda g, x: (jnp.where(x > 0, g * jnp.exp(-1 / jnp.where(x > 0, x, 1))
                                 / jnp.where(x > 0, x, 1) ** 2, 0),)),
    # ---------------------------------------------------------------- losses
    Rule(P, "optax", "Huber", lambda x: optax.huber_loss(x), ROW),
    Rule(P, "rlax", "Huber by hand", rlax_huber, ROW, lambda g, x: (g * jnp.clip(x, -1, 1),)),
    Rule(R, "rlax", "Huber of twice the slope", rlax_huber, ROW,
         lambda g, x: (g * jnp.clip(2 * x, -1, 1),), False),
    Rule(P, "optax", "hinge", lambda x, t: optax.hinge_loss(x, t), PAIR),
    Rule(P, "optax", "l1", lambda x, t: jnp.abs(x - t), PAIR),
    Rule(P, "rlax", "quantile regression", lambda x: jnp.where(x < 0, 0.7, 0.3) * jnp.abs(x), ROW),
    Rule(P, "rlax", "PPO's clipped objective", ppo,
         {"r": array("n", positive=True), "a": array("n")}),
    Rule(P, "optax", "log cosh", lambda x, t: optax.log_cosh(x, t), PAIR),
    Rule(P, "optax", "binary cross-entropy", bce, PAIR,
         lambda g, x, t: (g * (sigmoid(x) - t), -g * x)),
    Rule(P, "optax", "binary focal loss", lambda x, t: optax.sigmoid_focal_loss(x, t), BITS,
         slow=True),
    Rule(P, "optax", "focal loss of labels", focal, CHOICE, slow=True),
    Rule(P, "optax", "KL divergence",
         lambda z, t: jnp.sum(jnp.exp(t) * (t - z), -1), SOFT),
    Rule(P, "optax", "cosine similarity", cosine, PAIRS),
    Rule(P, "optax", "cross-entropy of labels",
         lambda z, y: optax.softmax_cross_entropy_with_integer_labels(z, y), CHOICE),
    Rule(P, "t5x", "cross-entropy with z-loss", z_loss, SOFT, z_loss_backward),
    Rule(R, "t5x", "cross-entropy without the z-loss in its slope", z_loss, SOFT,
         lambda g, z, t: z_loss_backward(g, z, t, 0.0), False),
    Rule(P, "tokamax", "cross-entropy by hand", cross_entropy, CHOICE, cross_entropy_backward),
    Rule(P, "ott", "soft minimum", lambda x, e: -e * logsumexp(-x / e, -1),
         MATRIX | {"e": scalar(positive=True)}, wrt=("x",)),
    Rule(P, "trl", "preference loss", lambda x, t: -nn.log_sigmoid(0.1 * (x - t)), PAIR),
    Rule(P, "MONAI", "dice", dice, MATRIX | {"t": array("n d", nonnegative=True)}),
    Rule(P, "gemma", "soft cap by hand", lambda x: 30 * jnp.tanh(x / 30), ROW,
         lambda g, x: (g * (1 - jnp.tanh(x / 30) ** 2),)),
    # ---------------------------------------------------------------- norms
    Rule(P, "t5x", "RMSNorm", rms_norm, SCALED),
    Rule(P, "EasyDeL", "RMSNorm by hand", rms_norm, SCALED, rms_norm_backward),
    Rule(R, "EasyDeL", "RMSNorm by hand, a term of it wrong", rms_norm, SCALED,
         lambda g, x, w: rms_norm_backward(g, x, w, 0.5), False),
    Rule(P, "tokamax", "layer norm by hand", layer_norm, AFFINE, layer_norm_backward),
    Rule(R, "tokamax", "layer norm not centred", layer_norm, AFFINE,
         lambda g, x, w, b: layer_norm_backward(g, x, w, b, 0.0), False),
    Rule(P, "flax", "layer norm of the fast variance", fast_layer_norm, MATRIX),
    Rule(P, "jax.nn", "standardize", lambda x: nn.standardize(x), MATRIX),
    Rule(P, "praxis", "standard deviation", lambda x: jnp.sqrt(jnp.var(x, -1) + 1e-6), MATRIX),
    Rule(P, "lineax", "norm by hand, 0 at 0", safe_norm, MATRIX, norm_backward),
    Rule(P, "axlearn", "unit rows",
         lambda x: x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-6), MATRIX),
    # ---------------------------------------------------------------- attention and sequences
    Rule(P, "jax.nn", "log-sum-exp", lambda x: logsumexp(x, -1), MATRIX),
    Rule(U, "jax.nn", "log-sum-exp of a mask", lambda x, m: logsumexp(x, -1, where=m),
         MATRIX | {"m": array("n d", dtype=bool)}),
    Rule(P, "jax.nn", "log-sum-exp of a mask that keeps a label",
         lambda x, y, m: logsumexp(x, -1, where=m), MATRIX | {
             "y": labels("n", classes="d"), "m": array("n d", dtype=bool, keeps="y")}),
    Rule(P, "jax.nn", "softmax of a mask", lambda x, m: softmax(x, -1, where=m),
         MATRIX | {"m": array("n d", dtype=bool)}),
    Rule(P, "jax.nn", "dot-product attention",
         lambda q, k, v: nn.dot_product_attention(q, k, v), HEADS, slow=True),
    Rule(P, "tokamax", "attention by hand", attention, ONE_HEAD, attention_backward),
    Rule(R, "tokamax", "attention without the rows' means", attention, ONE_HEAD,
         lambda *a: attention_backward(*a, rowwise=0.5), False),
    Rule(P, "MaxText", "causal attention",
         lambda q, k, v: attention(q, k, v, causal), ONE_HEAD, slow=True),
    Rule(P, "rlax", "returns by a triangle of ones",
         lambda x: jnp.tril(jnp.ones((x.shape[-1],) * 2)) @ x, ROW),
    Rule(P, "rlax", "cumulative sum by hand", lambda x: jnp.cumsum(x, -1), ROW,
         lambda g, x: (jax.lax.cumsum(g, reverse=True),)),
    Rule(P, "numpyro", "cumulative sum, its slope by reversal", lambda x: jnp.cumsum(x, -1), ROW,
         lambda g, x: (jnp.cumsum(g[::-1])[::-1],)),
    Rule(P, "flash attention", "log-sum-exp so far, relative to the greatest so far", so_far,
         MATRIX, so_far_backward),
    Rule(R, "flash attention", "log-sum-exp so far, its slope not reversed", so_far, MATRIX,
         lambda g, x: so_far_backward(g, x, reverse=False), False),
    Rule(R, "numpyro", "cumulative sum, its slope not reversed", lambda x: jnp.cumsum(x, -1), ROW,
         lambda g, x: (jnp.cumsum(g),), False),
    Rule(P, "flax", "perceptron of a tree of parameters", perceptron,
         {"p": {"w": array("d h"), "b": array("h"), "v": array("h")}} | MATRIX,
         lambda g, p, x: perceptron_backward(g, p, x), wrt=("p", "x")),
    Rule(R, "flax", "perceptron of a tree, a slope wrong", perceptron,
         {"p": {"w": array("d h"), "b": array("h"), "v": array("h")}} | MATRIX,
         lambda g, p, x: perceptron_backward(g, p, x, 2.0), False, wrt=("p", "x")),
    Rule(P, "MaxText", "one entry of each row of a cache put anew",
         lambda x, y, t: x.at[jnp.arange(x.shape[0]), y].set(t),
         MATRIX | {"y": labels("n", classes="d"), "t": array("n")}),
    Rule(P, "flax", "shifted by two places", lambda x: jnp.roll(x, 2, -1), MATRIX,
         lambda g, x: (jnp.roll(g, -2, -1),)),
    Rule(P, "flax", "rotary embedding", rotary,
         {"x": array("n 2*d"), "c": array("n d"), "s": array("n d")}),
]  # fmt: skip
TIMEOUT = 60.0
_cases = [pytest.param(r, marks=[pytest.mark.slow] if r.slow else [], id=r.name) for r in RULES]


@pytest.mark.parametrize("rule", _cases)
def test_the_verdict_of_a_public_rule(rule):
    wrt = rule.wrt or tuple(a for a, s in rule.args.items() if s.sort not in ("index", "boolean"))
    verdict = prove_vjp(rule.fun, rule.args, wrt, timeout=TIMEOUT)
    said = verdict.status if verdict.status in ("proved", "refuted") else "unread"
    assert said == rule.verdict, verdict


def test_no_rule_is_judged_wrongly_and_most_are_judged():
    """The table itself: the test above shows that it is what the prover says."""
    assert len({rule.name for rule in RULES}) == len(RULES) >= 60
    assert not [r.name for r in RULES if r.verdict == ("refuted" if r.true else "proved")]
    judged = [rule for rule in RULES if rule.verdict != "unread"]
    print(f"{len(judged)} of {len(RULES)} rules are judged, all rightly")
    assert len(judged) >= 0.7 * len(RULES)
