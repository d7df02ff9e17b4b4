"""Eager calls are compiled once for each shape and choice of options, whatever the numbers."""

import functools

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.calls import CALLS
from tests.heads import modes, plain
from tests.meshes import kinds, mesh_of, on_mesh
from tests.programs import compilations

pytestmark = pytest.mark.fast_compile

Z, Y = jnp.linspace(-1.0, 1.0, 40).reshape(8, 5), jnp.arange(8) % 5
X, KERNEL = jnp.linspace(-1.0, 1.0, 24).reshape(8, 3), jnp.linspace(0.0, 1.0, 15).reshape(3, 5)


def compiled(call):
    """Returns how many programs a call compiles."""
    with compilations() as found:
        call()
    return len(found)


def test_the_listener_hears_a_compilation():
    assert compiled(lambda: jax.jit(lambda z: z * 3 + 1)(Z)) == 1


@modes
@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name, module):
    call, given = CALLS[name]
    again = functools.partial(call, module, jax.tree.map(jnp.asarray, given))
    again()
    assert compiled(again) == 0


def head(**options):
    return xent_jax.linear_softmax_cross_entropy(X, KERNEL, Y, **options)


TWO = Z, Z[:, ::-1]
NUMBERS = [
    ("softmax_cross_entropy_with_integer_labels", (Z, Y), {
        "z_loss": [0.1, 0.2, np.float32(0.3), np.float64(0.4)], "label_smoothing": [0.1, 0.2],
    }),
    ("linear_softmax_cross_entropy", (X, KERNEL, Y), {
        "z_loss": [0.1, 0.2, 0.3], "label_smoothing": [0.1, 0.2], "logit_softcap": [3.0, 4.0, 5],
        "temperature": [0.7, 2.0, 3],
    }),
    ("sigmoid_binary_cross_entropy", (Z, jnp.ones(5)), {"label_smoothing": [0.1, 0.2]}),
    ("softmax_focal_loss", (Z, Y), {"gamma": [2.0, 1.5]}),
    ("softmax_kl_divergence", TWO, {"temperature": [2.0, 1.5]}),
    ("softmax_jensen_shannon_divergence", TWO, {"beta": [0.25, 0.5]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "option", "values"),
    [
        pytest.param(name, args, option, values, id=f"{name}-{option}")
        for name, args, options in NUMBERS
        for option, values in options.items()
    ],
)
def test_a_number_on_a_schedule_is_an_operand(name, args, option, values):
    """A Python float or a NumPy number may change at each step, and nothing is compiled again."""
    loss, kinds = functools.partial(getattr(xent_jax, name), *args), {}
    for value in values:
        kinds.setdefault(jnp.result_type(value), loss(**{option: value}))
    with compilations() as found:
        got = [loss(**{option: value}) for value in values]
    assert not found
    assert len({float(jnp.sum(g)) for g in got}) == len(values)


OTHER_FORMS = [
    {"ignore_index": np.int64(2)},
    {"class_weights": [1.0, 2.0, 3.0, 4.0, 5.0]},
    {"bias": flax.nnx.Param(jnp.ones(5))},
    {"num_classes": np.int32(4), "z_loss": np.float32(0.5)},
]


@pytest.mark.parametrize("options", OTHER_FORMS, ids=lambda o: "-".join(o))
def test_options_in_other_forms(options):
    head(**options)
    assert compiled(lambda: head(**options)) == 0


def ours(z, y):
    return xent_jax.softmax_focal_loss(z, y)


JITTED = jax.jit(plain)


def test_a_head_is_compiled_once_for_each_loss_that_can_be_a_key():
    losses = {
        "a function of the library": lambda: xent_jax.softmax_focal_loss,
        "a function of one's own": lambda: ours,
        "a lambda, made anew": lambda: lambda z, y: plain(z, y),
        "a partial, made anew": lambda: functools.partial(xent_jax.softmax_focal_loss, gamma=1.5),
        "one that is jitted": lambda: JITTED,
    }
    for name, made in losses.items():

        def run(made=made):
            return xent_jax.with_linear_head(made(), logit_transform=jnp.tanh)(X, KERNEL, Y)

        first = run()
        assert compiled(run) == 0, name
        assert first == run()


def test_a_loss_that_reads_what_may_change_is_read_anew():
    scale = 1.0

    def closing(z, y):
        return scale * plain(z, y)

    run = xent_jax.with_linear_head(closing)
    first = run(X, KERNEL, Y)
    scale = 2.0
    assert run(X, KERNEL, Y) == 2 * first

    def weighing(weights):
        return functools.partial(lambda z, y, w: w * plain(z, y), w=weights)

    one, two = (xent_jax.with_linear_head(weighing(jnp.float32(w)))(X, KERNEL, Y) for w in (1, 2))
    assert two == 2 * one
    typed = [functools.partial(lambda z, y, w: plain(z, y) * (w is True), w=w) for w in (1, True)]
    assert [float(xent_jax.with_linear_head(f)(X, KERNEL, Y)) > 0 for f in typed] == [False, True]


LOSSES = {
    "integer": lambda z: xent_jax.softmax_cross_entropy_with_integer_labels(z, Y),
    "log-sum-exp": xent_jax.logsumexp,
}


@pytest.mark.skipif(
    not hasattr(jax.sharding, "use_abstract_mesh"),
    reason="before jax 0.8 no public function names the mesh, and the trace is made twice",
)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_trace_of_the_gradient_finds_that_of_the_value(loss, monkeypatch):
    clamp, traced = jax.lax.clamp, []  # only row_origin clamps, once in each trace
    monkeypatch.setattr(jax.lax, "clamp", lambda *given: traced.append(1) or clamp(*given))
    jax.clear_caches()
    jax.jit(jax.grad(lambda z: LOSSES[loss](z).sum())).trace(Z)
    assert len(traced) == 1


def test_options_that_are_off_and_on_are_told_apart():
    values = [float(head(z_loss=z)) for z in (0.0, 0.1, 0.0)]
    assert values[0] == values[2] != values[1]


@kinds
def test_the_head_on_a_mesh(kind):
    run = on_mesh(xent_jax.linear_softmax_cross_entropy, mesh=mesh_of(2, 2, kind))
    run(X, KERNEL, Y, z_loss=0.1)
    with compilations() as found:
        got = run(X, KERNEL, Y, z_loss=0.2)
    assert not found
    np.testing.assert_allclose(got, head(z_loss=0.2), rtol=1e-6)
