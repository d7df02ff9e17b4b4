"""Heads multiply in the dtype that they should, and half precision can hold their gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import strict, x64
from tests.heads import modes, plain
from tests.meshes import on_mesh
from tests.problems import close
from tests.programs import named
from xent_jax import linear_softmax_cross_entropy, with_linear_head

pytestmark = pytest.mark.fast_compile

N, D, V = 16, 8, 32
Y = jnp.arange(N) % V
EPS = float(jnp.finfo(jnp.bfloat16).eps)


def integer(module, x, w, dtype, reduction="mean"):
    return module.linear_softmax_cross_entropy(x, w, Y, dtype=dtype, reduction=reduction)


def any_loss(module, x, w, dtype):
    loss = module.softmax_cross_entropy_with_integer_labels
    return module.with_linear_head(loss, dtype=dtype)(x, w, Y)


def statistics(module, x, w, dtype):
    return module.linear_token_statistics(x, w, Y, dtype=dtype).loss


heads = pytest.mark.parametrize("head", [integer, any_loss, statistics], ids=named)


def arrays(x="bfloat16", w="float32"):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(N, D)), x), jnp.asarray(rng.normal(size=(D, V)), w)


def both(head, module, dtype):
    """Returns a jitted function: the sum of a head's losses, and its gradients to x and w."""
    return jax.jit(jax.value_and_grad(lambda x, w: jnp.sum(head(module, x, w, dtype)), (0, 1)))


def near(got, wanted, tolerance):
    """Asserts that trees are equal within the tolerance, relative to each array's largest entry."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        close(a, b, tolerance, tolerance * np.abs(np.asarray(b, np.float64)).max())


# ---------------------------------------------------------------- the option dtype


@pytest.mark.users_compile
@modes
@heads
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_factors_are_rounded_and_nothing_else(head, dtype, module):
    """Logits and losses are those of rounded factors, whose product is summed in float32."""
    x, w = arrays()
    value, gradients = both(head, module, dtype)(x, w)
    rounded = [a.astype(dtype).astype(jnp.float32) for a in (x, w)]
    wanted, slopes = both(head, module, None)(*rounded)
    near(value, wanted, 1e-6)
    assert [g.dtype for g in gradients] == [x.dtype, w.dtype]
    near(gradients, slopes, 2 * EPS)  # dz is rounded too, and dx to the dtype of the inputs
    if (head, module, dtype) == (integer, xent_jax, "bfloat16"):  # dw is summed in float32
        dw = gradients[1]
        assert (dw != dw.astype(dtype).astype(jnp.float32)).any()


@heads
def test_no_product_is_in_a_wider_dtype(head):
    """Without ``dtype``, the dtype of the kernel would make the products wider."""
    program = str(jax.make_jaxpr(both(head, xent_jax, "bfloat16"))(*arrays()))
    factors = re.findall(r"dot_general\[.*?\] (\w+) (\w+)", program, flags=re.DOTALL)
    types = dict(re.findall(r"(\w+):(\w+)\[", program))
    assert len(factors) >= 3
    assert {types[name] for pair in factors for name in pair} == {"bf16"}


def test_a_wider_dtype_than_that_of_the_arrays():
    x, w = arrays("bfloat16", "bfloat16")
    wide = [a.astype(jnp.float32) for a in (x, w)]
    value, _ = both(integer, xent_jax, jnp.float32)(x, w)
    near(value, both(integer, xent_jax, None)(*wide)[0], 1e-6)


@heads
def test_strict_promotion_and_dtypes_without_a_common_one(head):
    """Heads take both pairs if ``dtype`` is given; without it, test_errors has their errors."""
    with strict():
        for pair in (arrays(), arrays("float8_e4m3fn", "bfloat16")):
            jax.eval_shape(both(head, xent_jax, jnp.bfloat16), *pair)


def test_inputs_and_kernel_of_two_dtypes_are_promoted():
    _, gradients = both(integer, xent_jax, None)(*arrays())
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32]


def test_small_gradients_in_float16():
    """Cotangents that float16 cannot hold are scaled before the products, and the results back."""

    def scaled(dtype):
        def head(module, x, w, dtype):
            return 1e-9 * integer(module, x, w, dtype, reduction="none")

        return both(head, xent_jax, dtype)(*arrays("float32"))[1]

    near(scaled(jnp.float16), scaled(None), 4e-3)


def test_on_a_mesh():
    sharded = on_mesh(linear_softmax_cross_entropy)

    def head(_, x, w, dtype):
        return sharded(x, w, Y, dtype=dtype)

    (value, gradients), (wanted, slopes) = (
        both(f, xent_jax, jnp.bfloat16)(*arrays()) for f in (head, integer)
    )
    near(value, wanted, 1e-6)
    near(gradients, slopes, EPS)  # each shard rounds dz and its part of dx to bfloat16


# ---------------------------------------------------------------- arrays of half precision


def errors(gradients, exact):
    """Returns the error of each gradient, relative to the norm of the gradient."""
    pairs = zip(gradients, exact, strict=True)
    return [np.linalg.norm(np.asarray(g, np.float64) - e) / np.linalg.norm(e) for g, e in pairs]


def exact_gradient(loss, *args):
    with x64():
        gradient = jax.jit(jax.grad(loss, range(len(args))))
        return [np.asarray(g) for g in gradient(*(np.asarray(a, np.float64) for a in args))]


@pytest.mark.users_compile
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_are_no_worse_than_those_of_held_logits(dtype, reduction):
    rng = np.random.default_rng(0)
    n, d, v = 4096, 32, 400
    x, w = (jnp.asarray(rng.normal(size=s), dtype) for s in ((n, d), (d, v)))
    y = jnp.asarray(rng.integers(0, v, n))
    options = {"reduction": reduction, "max_logits_bytes": 8 * v * 512}

    def held(x, w):
        return jnp.mean(plain((x @ w).astype(jnp.float32), y))

    def head(x, w):
        return jnp.mean(linear_softmax_cross_entropy(x, w, y, **options))

    exact = exact_gradient(held, x, w)
    value, got = jax.value_and_grad(head, (0, 1))(x, w)
    assert value.dtype == jnp.float32
    assert [g.dtype for g in got] == [dtype, dtype]
    ours, theirs = errors(got, exact), errors(jax.grad(held, (0, 1))(x, w), exact)
    assert all(a <= 1.05 * b for a, b in zip(ours, theirs, strict=True)), (ours, theirs)
    assert ours[1] < {"bfloat16": 3e-3, "float16": 1e-3}[dtype]


@pytest.mark.users_compile
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_loss_scaling(soft, reduction):
    """Gradients of 2^15 times a mean over many tokens neither overflow nor underflow in float16."""
    rng, n, k = np.random.default_rng(0), 4096, 64
    x, w, b = (jnp.asarray(rng.normal(size=s), jnp.float16) for s in ((n, 8), (8, k), (k,)))
    y = jnp.asarray(rng.integers(0, k, n))

    def scaled(x, w, b):
        if soft:
            head = with_linear_head(xent_jax.softmax_cross_entropy, reduction=reduction)
            losses = head(x, w, jnp.asarray(jax.nn.one_hot(y, k), x.dtype), bias=b)
        else:
            losses = linear_softmax_cross_entropy(x, w, y, b, reduction=reduction)
        return 2.0**15 * jnp.mean(losses)

    got = jax.grad(scaled, (0, 1, 2))(x, w, b)
    exact = exact_gradient(lambda x, w, b: 2.0**15 * jnp.mean(plain(x @ w + b, y)), x, w, b)
    assert max(errors(got, exact)) <= 5e-4
    for g, e in zip(got, exact, strict=True):
        assert g.dtype == jnp.float16
        assert np.mean((g == 0) & (np.abs(e) > 2.0**-14)) == 0


# ---------------------------------------------------------------- the range of float16

MANY, K = 2**18, 4


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_sum_over_many_tokens_that_is_divided_later(reduction):
    """Before the division, the sums are beyond the range of float16."""
    shapes = ((MANY, 1), 1), ((1, K), 0), ((K,), 0)
    x, w, b = (jnp.full(s, v, jnp.float16) for s, v in shapes)

    def loss(w, b):
        y = jnp.zeros(MANY, jnp.int32)
        return jnp.sum(linear_softmax_cross_entropy(x, w, y, b, reduction=reduction)) / MANY

    dw, db = jax.grad(loss, (0, 1))(w, b)
    assert dw.tolist() == [[-0.75, 0.25, 0.25, 0.25]] and db.tolist() == dw[0].tolist()
    assert dw.dtype == db.dtype == jnp.float16


def test_soft_targets_of_float16_have_their_gradient_in_range():
    x, w = jnp.ones((2**12, 1), jnp.float16), jnp.zeros((1, K), jnp.float16)
    t = jnp.full((2**12, K), 0.25, jnp.float16)
    head = with_linear_head(xent_jax.softmax_cross_entropy)
    gradient = jax.grad(lambda t: head(x, w, t) * 2.0**15)(t)
    # float16 has 11 bits: its rounding alone is up to 5e-4.
    np.testing.assert_allclose(gradient, np.full((2**12, K), 8 * np.log(4)), rtol=1e-3)


@pytest.mark.skipif(
    jax.__version_info__ < (0, 7), reason="on jax 0.6 the gradients are taken in the backward"
)
def test_float32_costs_nothing():
    """The residuals are no larger than the gradients, which float16 keeps in float32."""
    x, w, y = jnp.ones((64, 8)), jnp.ones((8, 16)), jnp.zeros(64, jnp.int32)
    for dtype, width in ((jnp.float32, 4), (jnp.bfloat16, 2), (jnp.float16, 4)):
        args = x.astype(dtype), w.astype(dtype)
        _, pull = jax.vjp(lambda x, w: linear_softmax_cross_entropy(x, w, y), *args)
        kept = sum(a.nbytes for a in jax.tree.leaves(pull))
        assert kept <= (64 * 8 + 8 * 16) * width + 64


@pytest.mark.parametrize("mode, rounded", [(xent_jax, False), (xent_jax.forward_mode, True)])
def test_which_gradient_of_a_float32_kernel_is_rounded(mode, rounded):
    """Only forward mode rounds the gradient, as docs/limits.md says."""
    gradient = both(integer, mode, jnp.bfloat16)(*arrays())[1][1]
    assert gradient.dtype == jnp.float32
    assert jnp.array_equal(gradient, gradient.astype(jnp.bfloat16)) == rounded
