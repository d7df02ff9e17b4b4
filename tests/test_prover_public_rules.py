"""``prove_vjp`` decides rules and definitions from public code, which are written anew here.

Right ones are proved, with JAX's own derivative or a backward pass by hand, and wrong ones are
refuted. The prover does not decide those in ``UNDECIDED`` yet.
"""

import jax.numpy as jnp
import optax
from jax import lax, nn
from jax.nn import log_softmax, logsumexp, sigmoid, softmax
from xent_jax.proofs import array, labels, scalar

from tests import layers
from tests.rules import Rule, assert_proved, assert_refuted, each, verdict_on

ROW, MATRIX = {"x": array("n")}, {"x": array("n d")}
PAIR = ROW | {"t": array("n")}
PAIRS = MATRIX | {"t": array("n d")}
SCALED = MATRIX | {"w": array("d")}
AFFINE = SCALED | {"b": array("d")}
CHOICE = {"z": array("n k"), "y": labels("n", classes="k")}
SOFT = {"z": array("n k"), "t": array("n k")}
HEADS = {"q": array("b t h 2"), "k": array("b s h 2"), "v": array("b s h 2")}
ONE_HEAD = {"q": array("t d"), "k": array("t d"), "v": array("t d")}
MASKED = MATRIX | {"m": array("n d", dtype=bool)}
ANGLES = {"x": array("n 2*d"), "c": array("n d"), "s": array("n d")}
BITS = ROW | {"t": array("n", dtype=bool)}


def z_loss(z, t, c=1e-4):
    lse = logsumexp(z, -1)
    return lse * jnp.sum(t, -1) - jnp.sum(z * t, -1) + c * lse**2


def z_loss_backward(g, z, t, c=1e-4):
    lse = logsumexp(z, -1, keepdims=True)
    dz = (jnp.sum(t, -1, keepdims=True) + 2 * c * lse) * softmax(z) - t
    return g[:, None] * dz, g[:, None] * (lse - z)


def bce(x, t):
    return jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))


def safe_log(x):
    return jnp.log(jnp.maximum(x, 1e-3))


def soft_step(x):
    return jnp.where(x > 0, jnp.exp(-1 / jnp.where(x > 0, x, 1)), 0)


def ppo(r, a):
    return -jnp.minimum(r * a, jnp.clip(r, 0.8, 1.2) * a)


def safe_norm(x):
    """Returns the norm of each row, with the gradient 0 at a row of zeros."""
    square = jnp.sum(x * x, -1)
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def norm_backward(g, x):
    n = safe_norm(x)[:, None]
    return (jnp.where(n == 0, 0.0, g[:, None] * x / jnp.where(n == 0, 1.0, n)),)


def contract(x):
    """Returns the rows contracted into the ball of radius 2, as in mip-NeRF 360."""
    square = jnp.maximum(1.0, jnp.sum(x * x, -1, keepdims=True))
    return jnp.where(square <= 1, x, (2 * jnp.sqrt(square) - 1) / square * x)


def focal(z, y):
    p = layers.at_label(log_softmax(z), y)
    return -((1 - jnp.exp(p)) ** 2) * p


def dice(x, t):
    p = sigmoid(x)
    return 1 - (2 * jnp.sum(p * t, -1) + 1) / (jnp.sum(p, -1) + jnp.sum(t, -1) + 1)


def cosine(x, t):
    norms = jnp.sqrt(jnp.sum(x * x, -1) + 1e-6) * jnp.sqrt(jnp.sum(t * t, -1) + 1e-6)
    return jnp.sum(x * t, -1) / norms


PARAMETERS = {"p": {"w": array("d h"), "b": array("h"), "v": array("h")}} | MATRIX
POSITIVE, UNIT = {"x": array("n", positive=True)}, {"x": array("n", unit=True)}
ACTIVATIONS = """
    relu relu6 leaky_relu elu selu celu hard_tanh hard_swish squareplus softplus soft_sign silu mish
""".split()
RULES = {
    # ---------------------------------------------------------------- activations
    **{f"jax.nn: {name}": Rule(getattr(nn, name), ROW) for name in ACTIVATIONS},
    "jax.nn: gelu by tanh": Rule(lambda x: nn.gelu(x, approximate=True), ROW),
    "jax.nn: gelu by erf": Rule(lambda x: nn.gelu(x, approximate=False), ROW,
         (None, layers.gelu_backward),
         (lambda g, x: g * sigmoid(1.702 * x) * (1 + 1.702 * x * sigmoid(-1.702 * x)),)),
    "distrax: quantile of a Cauchy distribution": Rule(lambda x: jnp.tan(jnp.pi * (x - 0.5)), UNIT),
    "numpyro: distribution function of a normal": Rule(lambda x: layers.normal(x), ROW),
    "jax.nn: glu": Rule(lambda x: nn.glu(x), {"x": array("n 2*d")}),
    "MaxText: swiglu": Rule(lambda x, t: nn.silu(x) * t, PAIR,
         (lambda g, x, t: (g * t * sigmoid(x) * (1 + x * sigmoid(-x)), g * nn.silu(x)),)),
    "axlearn: squared relu": Rule(lambda x: nn.relu(x) ** 2, ROW,
         (lambda g, x: 2 * g * nn.relu(x),), (lambda g, x: jnp.where(x > 0, g, 0.0),)),
    # ---------------------------------------------------------------- guards
    "zipnerf: safe log": Rule(safe_log, ROW,
         (lambda g, x: jnp.where(x > 1e-3, g / jnp.maximum(x, 1e-3), 0.0),),
         (lambda g, x: g / jnp.maximum(x, 1e-3),)),
    "zipnerf: safe exp": Rule(lambda x: jnp.exp(jnp.minimum(x, 4.0)), ROW,
         (lambda g, x: jnp.where(x < 4, g * jnp.exp(jnp.minimum(x, 4.0)), 0.0),)),
    "zipnerf: contraction of space": Rule(contract, MATRIX),
    "optax: clip": Rule(lambda x: jnp.clip(x, -1, 1), ROW, (None,), (lambda g, x: g,)),
    "flax: straight-through rounding": Rule(lambda x: jnp.round(x), ROW, (), (lambda g, x: g,)),
    "EasyDeL, jaxnerf: gradient reversed, or clipped": Rule(lambda x: x * 1.0, ROW, (),
         (lambda g, x: -g, lambda g, x: jnp.clip(g, -0.1, 0.1))),
    "recurrentgemma: root with a bounded slope": Rule(jnp.sqrt, POSITIVE, (),
         (lambda g, x: g / jnp.sqrt(jnp.maximum(4 * x, 1.0)),)),
    "recurrentgemma: gate of the recurrence": Rule(lambda a, x: jnp.sqrt(1 - jnp.exp(-2 * a)) * x,
         {"a": array("n", positive=True)} | ROW),
    "distrax: log(1 - exp(-x))": Rule(lambda x: jnp.log(-jnp.expm1(-x)), POSITIVE),
    "e3nn: soft step": Rule(soft_step, ROW,
         (lambda g, x: jnp.where(x > 0, g * soft_step(x) / jnp.where(x > 0, x, 1) ** 2, 0),)),
    # ---------------------------------------------------------------- losses
    "optax: Huber": Rule(lambda x: optax.huber_loss(x), ROW),
    "rlax: Huber": Rule(layers.rlax_huber, ROW, (lambda g, x: g * jnp.clip(x, -1, 1),),
         (lambda g, x: g * jnp.clip(2 * x, -1, 1),)),
    "optax: hinge": Rule(lambda x, t: optax.hinge_loss(x, t), PAIR),
    "optax: l1": Rule(lambda x, t: jnp.abs(x - t), PAIR),
    "rlax: quantile regression": Rule(lambda x: jnp.where(x < 0, 0.7, 0.3) * jnp.abs(x), ROW),
    "rlax: PPO's clipped objective": Rule(ppo, {"r": array("n", positive=True), "a": array("n")}),
    "optax: log cosh": Rule(lambda x, t: optax.log_cosh(x, t), PAIR),
    "optax: binary cross-entropy": Rule(bce, PAIR,
         (lambda g, x, t: (g * (sigmoid(x) - t), -g * x),)),
    "optax: binary focal loss": Rule(lambda x, t: optax.sigmoid_focal_loss(x, t), BITS, slow=True),
    "optax: focal loss of labels": Rule(focal, CHOICE, slow=True),
    "optax: KL divergence": Rule(lambda z, t: jnp.sum(jnp.exp(t) * (t - z), -1), SOFT),
    "optax: cosine similarity": Rule(cosine, PAIRS),
    "optax: cross-entropy of labels": Rule(
         lambda z, y: optax.softmax_cross_entropy_with_integer_labels(z, y), CHOICE),
    "t5x: cross-entropy with z-loss": Rule(z_loss, SOFT, (z_loss_backward,),
         (lambda g, z, t: z_loss_backward(g, z, t, 0.0),)),
    "tokamax: cross-entropy": Rule(layers.cross_entropy, CHOICE, (layers.cross_entropy_backward,)),
    "ott: soft minimum": Rule(lambda x, e: -e * logsumexp(-x / e, -1),
         MATRIX | {"e": scalar(positive=True)}),
    "trl: preference loss": Rule(lambda x, t: -nn.log_sigmoid(0.1 * (x - t)), PAIR),
    "MONAI: dice": Rule(dice, MATRIX | {"t": array("n d", nonnegative=True)}),
    "gemma: soft cap": Rule(lambda x: 30 * jnp.tanh(x / 30), ROW,
         (lambda g, x: g * (1 - jnp.tanh(x / 30) ** 2),)),
    # ---------------------------------------------------------------- norms
    "t5x: RMSNorm": Rule(layers.rms_norm, SCALED, (None, layers.rms_norm_backward),
         (lambda g, x, w: layers.rms_norm_backward(g, x, w, 0.5),)),
    "tokamax: layer norm": Rule(layers.layer_norm, AFFINE, (layers.layer_norm_backward,),
         (lambda g, x, w, b: layers.layer_norm_backward(g, x, w, b, 0.0),)),
    "flax: layer norm of the fast variance": Rule(layers.fast_layer_norm, MATRIX,
         (None, layers.fast_layer_norm_backward), (
             lambda g, x: layers.fast_layer_norm_backward(g, x, centred=0.0),
             lambda g, x: layers.fast_layer_norm_backward(g, x, spread=0.5))),
    "jax.nn: standardize": Rule(lambda x: nn.standardize(x), MATRIX),
    "praxis: standard deviation": Rule(lambda x: jnp.sqrt(jnp.var(x, -1) + 1e-6), MATRIX),
    "lineax: norm, 0 at 0": Rule(safe_norm, MATRIX, (norm_backward,)),
    "axlearn: unit rows": Rule(
         lambda x: x * lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-6), MATRIX),
    # ---------------------------------------------------------------- attention and sequences
    "jax.nn: log-sum-exp": Rule(lambda x: logsumexp(x, -1), MATRIX),
    "jax.nn: log-sum-exp of a mask that keeps a label": Rule(
         lambda x, y, m: logsumexp(x, -1, where=m),
         MATRIX | {"y": labels("n", classes="d"), "m": array("n d", dtype=bool, keeps="y")}),
    "jax.nn: softmax of a mask": Rule(lambda x, m: softmax(x, -1, where=m), MASKED),
    "jax.nn: dot-product attention": Rule(lambda q, k, v: nn.dot_product_attention(q, k, v), HEADS,
         slow=True),
    "tokamax: attention": Rule(layers.attention, ONE_HEAD, (layers.attention_backward,),
         (lambda *a: layers.attention_backward(*a, rowwise=0.5),)),
    "MaxText: causal attention": Rule(
         lambda q, k, v: layers.attention(q, k, v, layers.causal), ONE_HEAD, slow=True),
    "rlax: returns by a triangle of ones": Rule(
         lambda x: jnp.tril(jnp.ones((x.shape[-1],) * 2)) @ x, ROW),
    "rlax: cumulative sum": Rule(lambda x: jnp.cumsum(x, -1), ROW,
         (lambda g, x: lax.cumsum(g, reverse=True), lambda g, x: jnp.cumsum(g[::-1])[::-1]),
         (lambda g, x: jnp.cumsum(g),)),
    "flash attention: log-sum-exp so far, relative to the greatest so far": Rule(
         layers.logsumexp_so_far, MATRIX, (layers.logsumexp_so_far_backward,),
         (lambda g, x: layers.logsumexp_so_far_backward(g, x, reverse=False),)),
    "flax: perceptron of a tree of parameters": Rule(layers.perceptron,
         PARAMETERS, (layers.perceptron_backward,),
         (lambda g, p, x: layers.perceptron_backward(g, p, x, 2.0),)),
    "MaxText: one entry of each row of a cache put anew": Rule(
         lambda x, y, t: x.at[jnp.arange(x.shape[0]), y].set(t),
         MATRIX | {"y": labels("n", classes="d"), "t": array("n")}),
    "flax: shifted by two places": Rule(lambda x: jnp.roll(x, 2, -1), MATRIX,
         (lambda g, x: jnp.roll(g, -2, -1),)),
    "flax: rotary embedding": Rule(layers.rotary, ANGLES),
}  # fmt: skip
UNDECIDED = {
    "jax.nn: log-sum-exp of a mask": Rule(lambda x, m: logsumexp(x, -1, where=m), MASKED),
}


@each(RULES, "right")
def test_a_right_rule_is_proved(rule, backward):
    assert_proved(verdict_on(rule, backward))


@each(RULES, "wrong")
def test_a_wrong_rule_is_refuted(rule, backward):
    assert_refuted(verdict_on(rule, backward))


@each(UNDECIDED, "right")
def test_a_rule_that_is_not_decided_yet(rule, backward):
    assert verdict_on(rule, backward).status in ("unknown", "refused")


def test_most_rules_are_decided():
    decided = sum(len(rule.right) + len(rule.wrong) for rule in RULES.values())
    undecided = sum(len(rule.right) for rule in UNDECIDED.values())
    print(f"{decided} of {decided + undecided} rules are decided, all rightly")
    assert decided >= 60 and decided >= 0.7 * (decided + undecided)
