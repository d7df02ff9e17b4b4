"""Compiled heads and losses on a mesh send no more between devices than they must."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import xent_jax
from benchmarks._collectives import bytes_per_device, collectives, grouped
from tests.meshes import EXPLICIT, explicit, mesh_of, mesh_set, shaped, shard_map
from tests.programs import to_be_read
from xent_jax import linear_softmax_cross_entropy, shard_linear_head, with_linear_head

N, D, V = 2048, 512, 32768
OF_EACH_TOKEN = 24 * 1024  # bytes of a few numbers for each token, on 2 x 4 devices
DX, DW = 4 * N // 2 * D, 4 * D * V // 4
CHUNKS = N // 2 // 256  # at most, in a loop that may end early
INTEGER = xent_jax.softmax_cross_entropy_with_integer_labels
BY_CLASS, FULLY = P(None, "model"), P("data", "model")


def text(function, *arrays):
    return to_be_read(function, *arrays).as_text()


# ------------------------------------------------------------------------ the linear head

CHUNKED = {"max_logits_bytes": 256 * 2 * V}


@functools.cache
def program(kernel, any_loss=False, **options):
    """Returns the compiled text of a head's value and gradients, in chunks of 256 tokens."""
    mesh, head, options = mesh_of(), linear_softmax_cross_entropy, CHUNKED | options
    if any_loss:
        loss = functools.partial(INTEGER, axis_name="model")
        head, options = with_linear_head(loss, axis_name="model", **options), {}
    sharded = shard_linear_head(head, mesh, inputs=P("data"), kernel=kernel)

    def step(x, w, y, g):
        out, pull = jax.vjp(lambda x, w: sharded(x, w, y, **options), x, w)
        return out, pull(g)

    each = options.get("reduction") == "none"
    return text(
        step,
        shaped(mesh, (N, D), jnp.float32, "data"),
        shaped(mesh, (D, V), jnp.float32, *kernel),
        shaped(mesh, (N,), jnp.int32, "data"),
        shaped(mesh, (N,) if each else (), jnp.float32, *(["data"] if each else [])),
    )


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_two_gradients_cross(reduction):
    """The inputs' gradient is summed over model, the kernel's over data; little else is sent."""
    program_text = program(BY_CLASS, reduction=reduction)
    assert DX + DW < bytes_per_device(program_text) <= DX + DW + 2 * OF_EACH_TOKEN
    large = sorted(c.bytes for c in collectives(program_text) if c.bytes > OF_EACH_TOKEN)
    assert [round(size / large[0]) for size in large] == [1, DW // DX]


def test_of_any_loss_no_more_crosses():
    of_any = bytes_per_device(program(BY_CLASS, any_loss=True))
    assert 0 < of_any <= bytes_per_device(program(BY_CLASS, reduction="mean"))


def test_a_mask_sends_nothing_more():
    """With a mask, the bytes are the same if all chunks are computed, and fewer if not."""
    unmasked = collectives(program(BY_CLASS, reduction="mean"))
    masked = collectives(program(BY_CLASS, ignore_index=-100), unknown=CHUNKS)
    assert sum(c.moved for c in masked) == sum(c.moved for c in unmasked)


@pytest.mark.parametrize("options", [{"z_loss": 1e-4}, {"z_loss": 1e-4, "ignore_index": -100}])
def test_a_fully_sharded_kernel_is_gathered_once(options):
    """The kernel is gathered once, not for each chunk, and its gradient is scattered once."""
    found = collectives(program(FULLY, **options), unknown=CHUNKS)
    for kind in ("all-gather", "reduce-scatter"):
        assert [(c.bytes, c.times) for c in found if c.kind == kind] == [(DW, 1)]


# ------------------------------------------------------------------------ losses of logits

IN_SHARD_MAP = "in shard_map"
OPTIONS = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-4}


@pytest.mark.parametrize("kind", [AxisType.Auto, EXPLICIT, IN_SHARD_MAP], ids=str)
@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "options"])
def test_a_few_numbers_for_each_token_cross(kind, options):
    loss = functools.partial(INTEGER, reduction="mean", **options)
    if kind == IN_SHARD_MAP:
        local = functools.partial(loss, axis_name="model", batch_axis_name="data")
        loss, kind = shard_map(local, (FULLY, P("data")), P()), AxisType.Auto
    with mesh_set(kind=kind) as mesh:
        z = shaped(mesh, (N, V), jnp.float32, "data", "model")
        y = shaped(mesh, (N,), jnp.int32, "data")
        assert 0 < bytes_per_device(text(jax.value_and_grad(loss), z, y)) <= OF_EACH_TOKEN


SMALL = 4, 6


def crossing(mesh, function, *arrays):
    """Returns the sorted kinds of the collectives in the compiled program."""
    return sorted(c.kind for c in collectives(text(function, *arrays), dict(mesh.shape)))


@explicit
@pytest.mark.parametrize("spec", [("data",), (None, "model"), ("data", "model")], ids=str)
@pytest.mark.parametrize("loss", ["integer", "soft"])
def test_labels_that_are_not_divided_add_no_collective(loss, spec, kind):
    """Each device takes its part of the labels that it holds, and nothing is gathered."""
    function, labels, division = xent_jax.softmax_cross_entropy, (SMALL, jnp.float32), spec
    if loss == "integer":
        function, labels, division = INTEGER, (SMALL[:1], jnp.int32), spec[:1]
    step = jax.value_and_grad(lambda z, t: function(z, t).sum())
    with mesh_set(2, 2, kind) as mesh:
        z = shaped(mesh, SMALL, jnp.float32, *spec)
        divided = crossing(mesh, step, z, shaped(mesh, *labels, *division))
        whole = crossing(mesh, step, z, shaped(mesh, *labels))
    assert whole == divided
    assert set(whole) == {"all-reduce"}


@explicit
def test_data_parallel_class_weights_add_no_collective_to_the_losses(kind):
    with mesh_set(4, 1, kind) as mesh:
        z, y = shaped(mesh, SMALL, jnp.float32, "data"), shaped(mesh, SMALL[:1], jnp.int32, "data")
        w = shaped(mesh, SMALL[1:], jnp.float32)
        losses = crossing(mesh, lambda z, y, w: INTEGER(z, y, class_weights=w), z, y, w)
    assert losses == []


# ------------------------------------------------------------------------ known programs

PART = 32 * 8 * 4  # bytes of what one device holds


def looped(x):
    def inner(c, _):
        return jnp.sin(lax.psum(c, "data")) + x, None

    def outer(c, _):
        return lax.scan(inner, c, length=3)[0] + 1, None

    return lax.scan(outer, x, length=5)[0]


def moved(x):
    gathered = lax.all_gather(x, "model", axis=1, tiled=True)
    x = lax.psum_scatter(gathered, "model", tiled=True, scatter_dimension=1)
    x = lax.all_to_all(jnp.sin(x), "data", 0, 0, tiled=True)
    return lax.ppermute(jnp.cos(x), "model", [(i, (i + 1) % 4) for i in range(4)])


@pytest.mark.parametrize(
    "function, divided, expected",
    [
        (jnp.sin, False, []),
        (lambda x: x - x.max(1, keepdims=True), False, [("all-reduce", "model", 4, 1, 32 * 4)]),
        (looped, True, [("all-reduce", "data", 2, 15, 15 * PART)]),
        (
            moved,
            True,
            [
                ("all-gather", "model", 4, 1, 4 * PART),
                ("all-to-all", "data", 2, 1, PART),
                ("collective-permute", "model", 4, 1, PART),
                ("reduce-scatter", "model", 4, 1, 4 * PART),
            ],
        ),
    ],
    ids=["nothing", "automatic", "looped", "moved"],
)
def test_compiled_programs(function, divided, expected):
    mesh, function = mesh_of(), shard_map(function, FULLY, FULLY) if divided else function
    program_text = text(function, shaped(mesh, (64, 32), jnp.float32, *FULLY))
    assert sorted(grouped(collectives(program_text, dict(mesh.shape)))) == expected
    assert bytes_per_device(program_text) == sum(moved for *_, moved in expected)
