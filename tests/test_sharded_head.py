"""The linear head on a mesh of eight devices, against the same on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import x64
from tests.meshes import (
    SPLITS,
    bytes_per_device,
    collectives,
    mesh_of,
    put,
    set_mesh,
    shaped,
    shard_map,
)
from tests.problems import close
from xent_jax import linear_softmax_cross_entropy, linear_token_statistics, shard_linear_head

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

TOKENS, WIDTH, CLASSES = (8, 3), 6, 24
BUDGET = 5 * 8 * CLASSES  # chunks that the shard's tokens are no multiple of
KERNELS = {"classes": P(None, "model"), "fully": P("data", "model"), "whole": P()}
kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
reductions = pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
FIXED = {"ignore_index": 3, "max_logits_bytes": BUDGET}


def drawn(rng, classes=CLASSES):
    """Every floating argument, the labels and the tokens left in."""
    floats = {
        "inputs": rng.standard_normal((*TOKENS, WIDTH)),
        "kernel": rng.standard_normal((WIDTH, classes)),
        "bias": rng.standard_normal(classes),
        "class_weights": rng.uniform(0.5, 2, classes),
        "label_smoothing": rng.uniform(0.05, 0.3),
        "z_loss": rng.uniform(0.01, 0.1),
        "logit_softcap": rng.uniform(2, 5),
        "temperature": rng.uniform(0.5, 2),
        "weights": rng.uniform(0.1, 2, TOKENS) * (rng.uniform(size=TOKENS) < 0.8),
    }
    fixed = {"labels": rng.integers(0, classes, TOKENS), "where": rng.uniform(size=TOKENS) < 0.8}
    fixed["where"][:4] = True  # the shards leave in different numbers
    return jax.tree.map(jnp.asarray, (floats, fixed))


def pulled(head, floats, fixed, g, **options):
    """The value, and the gradient to all floating arguments for the cotangents g."""

    def run(floats):
        value, pull = jax.vjp(lambda f: head(**f, **fixed, **FIXED, **options), floats)
        return value, pull(jnp.reshape(g, value.shape) if value.ndim else g[0, 0])[0]

    return jax.jit(run)(floats)


@pytest.mark.parametrize(
    ("module", "reduction", "kernel"),
    [
        (xent_jax, "none", KERNELS["classes"]),
        (xent_jax, "none", KERNELS["fully"]),
        (xent_jax, "sum", KERNELS["whole"]),
        (xent_jax, "mean", KERNELS["classes"]),
        (xent_jax, "mean", KERNELS["fully"]),
        (xent_jax.forward_mode, "mean", KERNELS["classes"]),
        (xent_jax.forward_mode, "mean", KERNELS["whole"]),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_one_call(module, kernel, reduction, rng):
    """Every option at once; gradients of what is replicated are not multiplied."""
    floats, fixed = drawn(rng)
    g = jnp.asarray(rng.standard_normal(TOKENS))
    head = module.linear_softmax_cross_entropy
    sharded = shard_linear_head(head, mesh_of(), inputs=P("data"), kernel=kernel)
    expected = pulled(linear_softmax_cross_entropy, floats, fixed, g, reduction=reduction)
    close(pulled(sharded, floats, fixed, g, reduction=reduction), expected)


def in_shard_map(mesh, check_vma, out):
    specs = {
        "inputs": P("data"), "kernel": P(None, "model"), "bias": P("model"), "labels": P("data"),
        "where": P("data"), "weights": P("data"), "class_weights": P("model"),
    }  # fmt: skip

    def head(**arguments):
        arrays = {k: v for k, v in arguments.items() if isinstance(v, jax.Array)}
        static = {k: v for k, v in arguments.items() if k not in arrays}
        names = {"axis_name": "model", "batch_axis_name": "data"}

        def local(arrays):
            return linear_softmax_cross_entropy(**arrays, **static, **names)

        in_specs = ({k: specs.get(k, P()) for k in arrays},)
        return shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=out, check_vma=check_vma)(
            arrays
        )

    return head


@reductions
@pytest.mark.parametrize("check_vma", [True, False], ids=["tracked", "untracked"])
def test_in_shard_map(check_vma, reduction, rng):
    floats, fixed = drawn(rng)
    g = jnp.asarray(rng.standard_normal(TOKENS))
    out = P("data") if reduction == "none" else P()
    sharded = in_shard_map(mesh_of(), check_vma, out)
    expected = pulled(linear_softmax_cross_entropy, floats, fixed, g, reduction=reduction)
    close(pulled(sharded, floats, fixed, g, reduction=reduction), expected)


@reductions
def test_gradient_taken_inside(reduction, rng):
    """In a train step that lies in shard_map as a whole, no gradient is multiplied."""
    floats, fixed = drawn(rng)
    inputs, kernel = floats["inputs"], floats["kernel"]

    def total(head, x, w, y, **names):
        out = head(x, w, y, reduction=reduction, max_logits_bytes=BUDGET, **names)
        return jnp.sum(out)

    def local(x, w, y):
        def loss(x, w):
            names = {"axis_name": "model", "batch_axis_name": "data"}
            out = total(linear_softmax_cross_entropy, x, w, y, **names)
            return jax.lax.psum(out, "data") if reduction == "none" else out

        return jax.grad(loss, (0, 1))(x, w)

    specs = P("data"), P(None, "model")
    mapped = shard_map(local, mesh=mesh_of(), in_specs=(*specs, P("data")), out_specs=specs)
    expected = jax.grad(functools.partial(total, linear_softmax_cross_entropy), (0, 1))
    close(
        jax.jit(mapped)(inputs, kernel, fixed["labels"]), expected(inputs, kernel, fixed["labels"])
    )


@pytest.mark.parametrize("check_vma", [True, False], ids=["tracked", "untracked"])
def test_a_loss_of_ones_own(check_vma, rng):
    """with_linear_head around a loss that knows the axis and closes over a parameter."""
    floats, fixed = drawn(rng)
    x, w, c = floats["inputs"], floats["kernel"], jnp.asarray(0.3)

    def head(x, w, y, c, name=None, batch=None):
        def loss(z, y):
            lse = xent_jax.logsumexp(z, axis_name=name)
            picked = xent_jax.softmax_cross_entropy_with_integer_labels(z, y, axis_name=name)
            return picked + c * lse

        options = {"axis_name": name, "batch_axis_name": batch, "max_logits_bytes": BUDGET}
        return xent_jax.with_linear_head(loss, **options)(x, w, y)

    mapped = shard_map(
        functools.partial(head, name="model", batch="data"),
        mesh=mesh_of(),
        in_specs=(P("data"), P(None, "model"), P("data"), P()),
        out_specs=P(),
        check_vma=check_vma,
    )
    run = functools.partial(jax.value_and_grad, argnums=(0, 1, 3))
    y = fixed["labels"]
    close(jax.jit(run(mapped))(x, w, y, c), run(head)(x, w, y, c))


@kernels
def test_statistics(kernel, rng):
    """Ties between shards, labels out of range and ignored; and the gradient of the floats."""
    floats, fixed = drawn(rng)
    x, b = floats["inputs"], floats["bias"]
    w = jnp.round(floats["kernel"]).at[:, 7].set(0).at[:, 20].set(0)
    b = b.at[jnp.array([7, 20])].set(4.0)  # a tie of classes in two shards
    y = fixed["labels"].at[0].set(jnp.array([-1, CLASSES, 3]))
    options = {"ignore_index": 3, "top_k": 9, "max_logits_bytes": BUDGET, "logit_softcap": 5.0}
    sharded = shard_linear_head(linear_token_statistics, mesh_of(), inputs=P("data"), kernel=kernel)

    def run(head, x, w, b):
        found = head(x, w, y, b, **options)
        floating = [v for v in found if jnp.issubdtype(v.dtype, jnp.floating)]
        return sum(
            jnp.nansum(v * jnp.cos(jnp.arange(v.size).reshape(v.shape))) for v in floating
        ), found

    def pair(head):
        return jax.jit(jax.value_and_grad(functools.partial(run, head), (0, 1, 2), has_aux=True))

    actual, expected = pair(sharded)(x, w, b), pair(linear_token_statistics)(x, w, b)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12), actual, expected
    )


@pytest.mark.parametrize("shape", [(), (1,), (3,), (8, 1), (8, 3, 1)], ids=str)
def test_where_broadcasts_to_the_tokens(shape, rng):
    floats, fixed = drawn(rng)
    x, w, b, y = floats["inputs"], floats["kernel"], floats["bias"], fixed["labels"]
    where = jnp.asarray(rng.random(shape) < 0.7)
    spec = P(None, "model")
    head = linear_softmax_cross_entropy
    sharded = shard_linear_head(head, mesh_of(), inputs=P("data"), kernel=spec)

    def run(head):
        total = jax.value_and_grad(lambda x, w: head(x, w, y, b, where=where), (0, 1))
        return jax.jit(total)(x, w)

    close(run(sharded), run(head))


def test_negative_zero_ties_with_zero_in_any_shard():
    z = np.tile([-0.0, 0.0, -1.0], 8)  # over four shards
    x, w, y = jnp.ones((24, 1)), jnp.asarray(z[None]), jnp.arange(24)
    spec = P(None, "model")
    sharded = shard_linear_head(linear_token_statistics, mesh_of(), inputs=P("data"), kernel=spec)
    found = jax.jit(functools.partial(sharded, top_k=20))(x, w, y)
    order = np.argsort(-z, kind="stable")
    np.testing.assert_array_equal(found.argmax, np.full(24, order[0]))
    np.testing.assert_array_equal(found.label_rank, np.argsort(order))
    np.testing.assert_array_equal(found.top_k_indices, np.tile(order[:20], (24, 1)))


@pytest.mark.parametrize("classes", [21, 22, 3], ids=["21", "22", "fewer than shards"])
@pytest.mark.parametrize("head", [linear_softmax_cross_entropy, linear_token_statistics])
def test_classes_that_the_shards_do_not_divide(classes, head, rng):
    """They are padded; the padding gets no mass, and a label in it is out of range."""
    floats, fixed = drawn(rng, classes)
    x, w, b = (floats[k] for k in ("inputs", "kernel", "bias"))
    y = fixed["labels"].at[0, :2].set(jnp.array([classes, classes + 1]))
    options = {"top_k": 2}
    if head is linear_softmax_cross_entropy:
        weights = floats["class_weights"]
        options = {"class_weights": weights, "label_smoothing": 0.1, "reduction": "none"}
    sharded = shard_linear_head(head, mesh_of(), inputs=P("data"), kernel=P(None, "model"))

    def run(head):
        def total(x, w, b):
            out = head(x, w, y, b, **options)
            return jnp.nansum(jax.tree.leaves(out)[0]), out

        return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(x, w, b)

    (_, out), _ = actual = run(sharded)
    close(actual, run(head))
    assert np.isnan(jax.tree.leaves(out)[0][0, :2]).all()


def test_num_classes_on_one_device(rng):
    """A kernel that its owner has padded: as if the padding were not there."""
    floats, fixed = drawn(rng)
    labels = (fixed["labels"] % 21).at[0, 0].set(21)
    x, w, y = floats["inputs"], floats["kernel"], labels
    options = {"label_smoothing": 0.1, "reduction": "none"}

    def run(w, **more):
        return linear_softmax_cross_entropy(x, w, y, **options, **more)

    whole, pull = jax.vjp(functools.partial(run, num_classes=21), w)
    cut, pull_cut = jax.vjp(run, w[:, :21])
    close(whole, cut)
    assert np.isnan(whole[0, 0]) and not np.isnan(whole[1:]).any()
    g = jnp.ones(TOKENS).at[0].set(0)
    np.testing.assert_array_equal(pull(g)[0][:, 21:], 0)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_tied_embedding(reduction, rng):
    floats, fixed = drawn(rng)
    x, embedding, y = floats["inputs"], floats["kernel"].T, fixed["labels"]
    for kernel in (P("model"), P("model", "data")):
        sharded = shard_linear_head(
            linear_softmax_cross_entropy, mesh_of(), inputs=P("data"), kernel=kernel
        )

        def run(head, x, w):
            return jnp.sum(head(x, w, y, kernel_axes="VD", reduction=reduction))

        gradients = [
            jax.jit(jax.value_and_grad(functools.partial(run, head), (0, 1)))(x, embedding)
            for head in (sharded, linear_softmax_cross_entropy)
        ]
        close(*gradients)


@pytest.mark.skipif(jax.__version_info__ < (0, 7), reason="jax 0.6 lacks jax.sharding.reshard")
@pytest.mark.parametrize("kernel", [P(None, "model"), P("data", "model")], ids=str)
def test_explicit_sharding(kernel, rng):
    """Types say where arrays are; what is elsewhere is moved, and gradients lie as arguments."""
    floats, fixed = drawn(rng)
    mesh = mesh_of(kind=AxisType.Explicit)
    x, w, y = floats["inputs"], floats["kernel"], fixed["labels"]
    expected = jax.jit(jax.value_and_grad(linear_softmax_cross_entropy, (0, 1)))(x, w, y)
    with set_mesh(mesh):
        x, w = put(mesh, x, "data"), put(mesh, w, *kernel)
        sharded = shard_linear_head(linear_softmax_cross_entropy, inputs=P("data"), kernel=kernel)
        actual = jax.jit(jax.value_and_grad(sharded, (0, 1)))(x, w, y)
        close(actual, expected)
        assert [jax.typeof(g) for g in actual[1]] == [jax.typeof(x), jax.typeof(w)]
        with pytest.raises(ValueError, match="go through shard_linear_head"):
            linear_softmax_cross_entropy(x, w, y)


@pytest.mark.skipif(jax.__version_info__ >= (0, 7), reason="reads explicit meshes")
def test_an_explicit_mesh_needs_a_newer_jax():
    mesh = mesh_of(kind=AxisType.Explicit)
    sharded = shard_linear_head(linear_softmax_cross_entropy, mesh, inputs=P("data"), kernel=P())
    with pytest.raises(NotImplementedError, match=r"explicit axes needs jax 0\.7"):
        sharded(jnp.ones((8, 6)), jnp.ones((6, 24)), jnp.zeros(8, int))


def test_outside_jit(rng):
    floats, fixed = drawn(rng)
    x, w, y = floats["inputs"], floats["kernel"], fixed["labels"]
    sharded = shard_linear_head(
        linear_softmax_cross_entropy, mesh_of(), inputs=P("data"), kernel=P(None, "model")
    )
    run = functools.partial(jax.value_and_grad, argnums=(0, 1))
    close(run(sharded)(x, w, y), run(linear_softmax_cross_entropy)(x, w, y))


@functools.cache
def on(data, model, fully):
    """Losses, their gradient to the inputs, and a mean and its gradients, in float32; twice."""
    with x64(False):
        rng = np.random.default_rng(0)
        floats, fixed = drawn(rng)
        x, w, b = (floats[k] for k in ("inputs", "kernel", "bias"))
        x, w = jnp.tile(x, (1, 1, 4)), jnp.tile(w, (4, 1))  # a width that eight divide
        y = fixed["labels"].at[:5, 0].set(jnp.array([-1, CLASSES, 3, 0, 0]))
        x = x.at[4, 0, 0].set(jnp.nan)
        g = jnp.asarray(rng.standard_normal(TOKENS))
        kernel = P("data" if fully else None, "model")
        head = shard_linear_head(
            linear_softmax_cross_entropy, mesh_of(data, model), inputs=P("data"), kernel=kernel
        )

        @jax.jit
        def run(x, w, b):
            each = functools.partial(head, labels=y, reduction="none", **FIXED)
            losses, pull = jax.vjp(lambda x: each(x, w, bias=b), x)
            left = {"where": ~jnp.isnan(losses), "label_smoothing": 0.1, "z_loss": 1e-3}
            mean = jax.value_and_grad(
                lambda *args: head(*args[:2], y, args[2], **left, **FIXED), (0, 1, 2)
            )
            return losses, pull(g), mean(x, w, b)

        return run(x, w, b), run(x, w, b)


@pytest.mark.users_compile
@pytest.mark.parametrize("data, model", SPLITS)
@pytest.mark.parametrize("fully", [False, True], ids=["classes", "fully sharded"])
def test_the_split_changes_no_number(data, model, fully):
    """To 1e-6 of the largest; NaN rows alike; from run to run not a bit."""
    (expected, _), (first, second) = on(1, 1, False), on(data, model, fully)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(e))),
        first,
        expected,
    )
    rows = np.isnan(expected[0])
    assert rows.sum() == 3 and rows[0, 0] and rows[1, 0] and rows[4, 0]


# --------------------------------------------------------------------- what crosses devices

N, D, V = 2048, 512, 32768
OF_EACH_TOKEN = 24 * 1024
DX, DW = 4 * N // 2 * D, 4 * D * V // 4


def program(kernel, reduction="mean", tokens=256, **options):
    mesh = mesh_of()
    head = linear_softmax_cross_entropy
    head = shard_linear_head(head, mesh, inputs=P("data"), kernel=kernel)

    def step(x, w, y, g):
        out, pull = jax.vjp(
            lambda x, w: head(
                x, w, y, reduction=reduction, max_logits_bytes=tokens * 2 * V, **options
            ),
            x,
            w,
        )
        return out, pull(jnp.broadcast_to(g, out.shape) if reduction == "mean" else g)

    f32 = jnp.float32
    g = shaped(mesh, (), f32) if reduction == "mean" else shaped(mesh, (N,), f32, "data")
    arguments = (
        shaped(mesh, (N, D), f32, "data"),
        shaped(mesh, (D, V), f32, *kernel),
        shaped(mesh, (N,), jnp.int32, "data"),
        g,
    )
    return jax.jit(step).lower(*arguments).compile().as_text()


@pytest.mark.users_compile
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_two_gradients_cross(reduction):
    """In chunks: the inputs' over model, the kernel's over data, and few numbers by token."""
    text = program(P(None, "model"), reduction)
    assert DX + DW < bytes_per_device(text) <= DX + DW + 2 * OF_EACH_TOKEN
    large = sorted(c.bytes for c in collectives(text) if c.bytes > OF_EACH_TOKEN)
    assert [round(size / large[0]) for size in large] == [1, DW // DX]


@pytest.mark.users_compile
def test_a_mask_sends_nothing_more():
    """The bytes are the same if all chunks are computed, and fewer if not."""
    unmasked = sum(c.moved for c in collectives(program(P(None, "model"))))
    text = program(P(None, "model"), ignore_index=-100)
    masked = sum(c.moved for c in collectives(text, unknown=N // 2 // 256))
    assert masked == unmasked


@pytest.mark.users_compile
@pytest.mark.parametrize("options", [{"z_loss": 1e-4}, {"z_loss": 1e-4, "ignore_index": -100}])
def test_a_fully_sharded_kernel_is_gathered_once(options):
    """Not for each chunk; and its gradient is scattered as it is summed."""
    text = program(P("data", "model"), **options)
    found = collectives(text, unknown=N // 2 // 256)  # chunks, by a loop that may end early
    kinds = {
        kind: [c for c in found if c.kind == kind] for kind in ("all-gather", "reduce-scatter")
    }
    assert [(c.bytes, c.times) for c in kinds["all-gather"]] == [(DW, 1)]
    assert [(c.bytes, c.times) for c in kinds["reduce-scatter"]] == [(DW, 1)]


# ------------------------------------------------------------------------------- messages

X, W, Y = np.ones((8, 6), np.float32), np.ones((6, 8), np.float32), np.zeros(8, np.int32)
MESSAGES = {
    "another function": (
        lambda mesh: shard_linear_head(xent_jax.softmax, mesh, inputs=P(), kernel=P()),
        TypeError,
        "head must be linear_softmax_cross_entropy, linear_token_statistics or what "
        "with_linear_head returns, got the function softmax",
    ),
    "no spec": (
        lambda mesh: shard_linear_head(
            linear_softmax_cross_entropy, mesh, inputs="data", kernel=P()
        ),
        TypeError,
        r"inputs must be a PartitionSpec of mesh axes, such as P\('data'\), got 'data'",
    ),
    "an axis that is not there": (
        lambda mesh: shard_linear_head(
            linear_softmax_cross_entropy, mesh, inputs=P("batch"), kernel=P()
        )(X, W, Y),
        ValueError,
        r"the mesh must have the axes that inputs and kernel name, \['batch'\], got",
    ),
    "no mesh": (
        lambda mesh: shard_linear_head(
            linear_softmax_cross_entropy, inputs=P("data"), kernel=P()
        )(X, W, Y),
        ValueError,
        "Give it as mesh=, or by jax.set_mesh",
    ),
    "the width of the inputs": (
        lambda mesh: shard_linear_head(
            linear_softmax_cross_entropy, mesh, inputs=P(None, "data"), kernel=P()
        )(X, W, Y),
        ValueError,
        "inputs must be divided over their tokens alone",
    ),
    "one axis for both": (
        lambda mesh: shard_linear_head(
            linear_softmax_cross_entropy, mesh, inputs=P("data"), kernel=P(None, "data")
        )(X, W, Y),
        ValueError,
        r"a mesh axis divides the classes or the tokens, not both, got \['data'\]",
    ),
    "tokens that do not divide": (
        lambda mesh: shard_linear_head(
            linear_softmax_cross_entropy, mesh, inputs=P("data"), kernel=P()
        )(X[:7], W, Y[:7]),
        ValueError,
        "must divide axis 0 of inputs evenly, got 7 over 2",
    ),
    "what the head refuses, of whole arrays": (
        lambda mesh: shard_linear_head(
            linear_softmax_cross_entropy, mesh, inputs=P("data"), kernel=P()
        )(X, W.T[:5], Y),
        ValueError,
        r"linear_softmax_cross_entropy: inputs must have the shape \[..., D\] and kernel "
        r"\[D, classes\], got float32\[8,6\] and float32\[5,6\]",
    ),
    "a name outside shard_map": (
        lambda mesh: linear_softmax_cross_entropy(X, W, Y, axis_name="model"),
        ValueError,
        "axis_name must be a mesh axis of the jax.shard_map around the call, got 'model'",
    ),
    "of a loss": (
        lambda mesh: xent_jax.softmax_focal_loss(W, Y[:6], axis_name="model"),
        ValueError,
        "axis_name must be a mesh axis of the jax.shard_map around the call, got 'model'",
    ),
    "of the batch": (
        lambda mesh: xent_jax.softmax_cross_entropy(W, W, batch_axis_name=("data", "x")),
        ValueError,
        "batch_axis_name must be a mesh axis",
    ),
    "too many classes": (
        lambda mesh: linear_softmax_cross_entropy(X, W, Y, num_classes=9),
        ValueError,
        "num_classes must be an integer from 1 to 8",
    ),
    "over several class axes": (
        lambda mesh: shard_map(
            lambda z: xent_jax.logsumexp(z, axis=(0, 1), axis_name="model"),
            mesh=mesh, in_specs=P("model"), out_specs=P(),
        )(X),
        ValueError,
        "axis must be one class axis, which axis_name='model' shards, got 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call, error, message", MESSAGES.values(), ids=MESSAGES)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call(mesh_of())
