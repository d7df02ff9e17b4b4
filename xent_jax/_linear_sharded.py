"""The linear head on a mesh: a ``shard_map`` around it that takes and returns whole arrays."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from xent_jax import _checks, _shards
from xent_jax._checks import describe
from xent_jax._linear import AnyHead, linear_softmax_cross_entropy
from xent_jax._linear_problem import token_weights, tokens_of
from xent_jax._modes import explained
from xent_jax._shards import Shards
from xent_jax._token_statistics import linear_token_statistics
from xent_jax._types import AxisName, KernelAxes

_HEADS = tuple(inspect.unwrap(f) for f in (linear_softmax_cross_entropy, linear_token_statistics))


def shard_linear_head(
    head: Callable[..., Any],
    mesh: Mesh | AbstractMesh | None = None,
    *,
    inputs: PartitionSpec,
    kernel: PartitionSpec,
) -> Callable[..., Any]:
    """The linear head for inputs and a kernel that are sharded over a mesh.

    Each device computes the logits of its own tokens and classes, chunk by chunk. Devices exchange
    a few numbers for each token, the gradient of the inputs over the mesh axes of the classes,
    and the gradient of the kernel over the mesh axes of the tokens, each once.

    Args:
        head: ``linear_softmax_cross_entropy`` or ``linear_token_statistics``, of this module or
            of ``forward_mode``, or a head that ``with_linear_head`` returned. If the classes of
            the kernel are sharded, give that head and its loss the mesh axis of the classes:
            ``with_linear_head(functools.partial(loss, axis_name="model"), axis_name="model")``.
        mesh: the mesh; by default that of ``jax.set_mesh``.
        inputs: how the inputs ``[*batch, D]`` are sharded, such as ``P("data")``; D must not be.
        kernel: how the kernel is sharded, in the order of ``kernel_axes``: ``P(None, "model")``
            for ``[D, classes]``. If D is sharded too, as in fully sharded training, the kernel
            is gathered once.

    Returns:
        The head, with the same arguments and results, for whole arrays; call it under
        ``jax.jit``. Labels, targets, masks, bias and class weights are sharded like the inputs and
        the kernel. Sums and means are over all tokens. If the number of classes is not a multiple
        of the number of shards, the kernel is padded, and the padding takes no part. Since JAX
        cannot keep such a kernel sharded, it is better to pad it once yourself and to pass
        ``num_classes``.

    Raises:
        TypeError: ``head`` is another function, or a spec is not a PartitionSpec. ValueError: D of
        the inputs is sharded, or a mesh axis shards both tokens and classes, or does not divide
        their number. The head raises its own errors too.

    Gradient: as for the head; devices add up their parts in the dtypes of inputs and kernel.
    Proof: ``linear_softmax_cross_entropy``. Source: Shoeybi et al. (2019), "Megatron-LM",
    section 3; fully sharded: Rajbhandari et al. (2020), "ZeRO".

    >>> from jax.sharding import PartitionSpec as P
    >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
    >>> head = shard_linear_head(
    ...     linear_softmax_cross_entropy, mesh, inputs=P("data"), kernel=P(None, "model"))
    >>> x, kernel = jnp.ones((3, 8)), jnp.zeros((8, 100))
    >>> round(float(head(x, kernel, jnp.array([0, 5, 99]))), 4)
    4.6052
    """
    name = "shard_linear_head"
    original = _checked(name, head, mesh, inputs, kernel)
    if isinstance(original, AnyHead):
        return functools.partial(_any_sharded, name, original, mesh, inputs, kernel)
    signature = inspect.signature(head)

    @functools.wraps(head)
    def sharded(*args: Any, **kwargs: Any) -> Any:
        options = _bound(signature, original.__name__, args, kwargs)
        arrays = {
            k: _checks.array(original.__name__, k, v) for k, v in options.items() if _is_array(k, v)
        }
        fixed = {k: v for k, v in options.items() if k not in arrays}
        # The head checks the whole arrays: a shard's shapes in an error would tell the user little.
        whole = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in arrays.items()}
        jax.eval_shape(lambda arrays: head(**arrays, **fixed), whole)
        for which, of_tokens in (("where", tokens_of), ("weights", token_weights)):
            if which in arrays:  # broadcast to [*batch], and sharded like the tokens
                batch = arrays["inputs"].shape[:-1]
                arrays[which] = of_tokens(original.__name__, arrays[which], batch)
        mesh_axes = _mesh_axes(name, mesh, inputs, kernel, arrays, fixed["kernel_axes"])
        arrays, fixed = _padded(mesh_axes, arrays, fixed)
        given = [k for k, off in _NUMBERS.items() if k in fixed and fixed[k] != off]
        numbers = {k: jnp.asarray(fixed.pop(k)) for k in given}
        with explained():
            return _run(head, mesh_axes, tuple(fixed.items()), arrays | numbers)

    return sharded


def _checked(name: str, head: Any, mesh: Any, inputs: Any, kernel: Any) -> Callable[..., Any]:
    """Checks the arguments, and returns the head without its wrappers."""
    original = inspect.unwrap(head) if callable(head) else head
    if not isinstance(original, AnyHead) and original not in _HEADS:
        choices = ", ".join(f.__name__ for f in _HEADS)
        raise TypeError(
            f"{name}: head must be {choices} or what with_linear_head returns, got "
            f"{_checks.shown(head)}."
        )
    for which, spec in {"inputs": inputs, "kernel": kernel}.items():
        if not isinstance(spec, PartitionSpec) or PartitionSpec.UNCONSTRAINED in tuple(spec):
            raise TypeError(
                f"{name}: {which} must be a PartitionSpec of mesh axes, such as P('data'), "
                f"got {_checks.shown(spec)}."
            )
        axes = [a for entry in spec for a in _axes(entry)]
        if len(set(axes)) < len(axes):
            raise ValueError(f"{name}: {which} must name each mesh axis once, got {spec}.")
    if mesh is not None and not isinstance(mesh, Mesh | AbstractMesh):
        raise TypeError(
            f"{name}: mesh must be a mesh, as jax.make_mesh gives, got {_checks.shown(mesh)}."
        )
    return original


_AXES = "axis_name", "batch_axis_name"  # the arguments that the wrapper passes itself
# Options that are numbers, with the value that turns each off; other values become operands.
_NUMBERS = {"label_smoothing": 0, "z_loss": 0, "logit_softcap": None, "temperature": 1}
_BY_TOKEN, _BY_CLASS = ("labels", "where", "weights"), ("bias", "class_weights")


def _bound(signature: inspect.Signature, head: str, args: Any, kwargs: Any) -> dict[str, Any]:
    """Returns the head's arguments by name, without the axes."""
    try:
        given = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{head}: {error}, in a call through shard_linear_head.") from None
    for axis in _AXES:
        if given.arguments.get(axis) is not None:
            raise ValueError(
                f"{head}: {axis} must be left out, for shard_linear_head gives it, "
                f"got {given.arguments[axis]!r}."
            )
    given.apply_defaults()
    return {k: v for k, v in given.arguments.items() if k not in _AXES}


class _MeshAxes(NamedTuple):
    """The mesh axes that shard tokens, width and classes."""

    mesh: Mesh | AbstractMesh
    batch: PartitionSpec  # of [*batch]
    width: tuple[str, ...]
    classes: tuple[str, ...]
    kernel_axes: KernelAxes

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(a for entry in self.batch for a in _axes(entry))

    def shards(self, axes: tuple[str, ...]) -> int:
        return math.prod(self.mesh.shape[a] for a in axes)

    def spec(self, argument: str) -> PartitionSpec:
        """Returns the PartitionSpec of one of the head's arguments."""
        if argument == "kernel":
            by = {"D": self.width, "V": self.classes}
            return PartitionSpec(*(by[a] or None for a in self.kernel_axes))
        if argument in _BY_CLASS:
            return PartitionSpec(self.classes or None)
        by_token = argument == "inputs" or argument in _BY_TOKEN
        return self.batch if by_token else PartitionSpec()


def _axes(entry: Any) -> tuple[str, ...]:
    """Returns the mesh axes that an entry of a PartitionSpec names."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _mesh_axes(name: str, mesh, inputs, kernel, arrays: dict[str, Array], axes) -> _MeshAxes:
    x, w = arrays["inputs"], arrays["kernel"]
    mesh = jax.sharding.get_abstract_mesh() if mesh is None else mesh
    of_inputs, of_kernel = (
        [_axes(e) for e in spec] + [()] * (a.ndim - len(spec))
        for spec, a in ((inputs, x), (kernel, w))
    )
    if len(of_inputs) > x.ndim or len(of_kernel) > w.ndim or of_inputs[-1]:
        raise ValueError(
            f"{name}: inputs must be sharded over their tokens alone and kernel over its two "
            f"axes, got {inputs} for {describe(x)} and {kernel} for {describe(w)}."
        )
    width, classes = of_kernel[axes.index("D")], of_kernel[axes.index("V")]
    out = _MeshAxes(mesh, PartitionSpec(*(e or None for e in of_inputs[:-1])), width, classes, axes)
    named = {*out.tokens, *width, *classes}
    if not named <= set(mesh.axis_names):
        raise ValueError(
            f"{name}: the mesh must have the axes that inputs and kernel name, "
            f"{sorted(named)}, got {tuple(mesh.axis_names)}. Give it as mesh=, or by jax.set_mesh."
        )
    if both := set(classes) & {*out.tokens, *width}:
        raise ValueError(
            f"{name}: a mesh axis must shard the classes or the tokens, not both, got "
            f"{sorted(both)} in {inputs} and {kernel}."
        )
    sizes = [("inputs", a, n, e) for a, (n, e) in enumerate(zip(x.shape, of_inputs, strict=True))]
    sizes.append(("kernel", axes.index("D"), w.shape[axes.index("D")], width))
    for which, axis, size, entry in sizes:
        if size % out.shards(entry):
            raise ValueError(
                f"{name}: {entry} of the mesh must divide axis {axis} of {which} evenly, got "
                f"{size} over {out.shards(entry)}. Pad it, and leave padded tokens out by where."
            )
    return out


def _padded(
    mesh_axes: _MeshAxes, arrays: dict[str, Array], fixed: dict[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Returns the arguments with the classes padded to a multiple of the number of shards."""
    axis = mesh_axes.kernel_axes.index("V")
    classes = arrays["kernel"].shape[axis]
    more = -classes % mesh_axes.shards(mesh_axes.classes)
    if not more:
        return arrays, fixed

    def pad(x: Array, axis: int) -> Array:
        return jnp.pad(x, [(0, more if a == axis else 0) for a in range(x.ndim)])

    padded = {k: pad(arrays[k], 0) for k in _BY_CLASS if k in arrays}
    padded["kernel"] = pad(arrays["kernel"], axis)
    count = classes if fixed["num_classes"] is None else fixed["num_classes"]
    return arrays | padded, fixed | {"num_classes": count}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    head: Callable[..., Any],
    mesh_axes: _MeshAxes,
    options: tuple[tuple[str, Any], ...],
    arrays: dict[str, Array],
) -> Any:
    fixed = dict(options)
    names = {"axis_name": mesh_axes.classes or None}
    if "reduction" in fixed:
        names["batch_axis_name"] = mesh_axes.tokens or None

    def local(arrays: dict[str, Array]) -> Any:
        return head(
            **(arrays | {"kernel": _gathered(mesh_axes, arrays["kernel"])}), **fixed, **names
        )

    out = mesh_axes.batch if fixed.get("reduction", "none") == "none" else PartitionSpec()
    specs = {k: mesh_axes.spec(k) for k in arrays}
    return _shards.shard_map(local, mesh_axes.mesh, (specs,), out)(arrays)


def _any_sharded(
    name: str,
    head: AnyHead,
    mesh: Mesh | AbstractMesh | None,
    inputs_spec: PartitionSpec,
    kernel_spec: PartitionSpec,
    /,
    inputs: Any,
    kernel: Any,
    *targets: Any,
    bias: Any = None,
    where: Any = None,
    weights: Any = None,
    **others: Any,
) -> Any:
    """Returns the result of a head of any loss for whole arrays, computed in shards."""
    # The head checks the whole arrays: a shard's shapes in an error would tell the user little.
    axes, *rest, _ = head.layer
    of_whole = dataclasses.replace(head, layer=(axes, *rest, None))
    checks = functools.partial(of_whole.problem, others=others)
    whole = jax.eval_shape(checks, inputs, kernel, targets, bias, where, weights)
    count = None if head.num_classes is None else whole.num_classes(head.num_classes)
    masks = {"where": where, "weights": weights}
    arrays = {"inputs": jnp.asarray(inputs), "kernel": jnp.asarray(kernel)}
    arrays |= {} if bias is None else {"bias": jnp.asarray(bias)}
    for which, of_tokens in (("where", tokens_of), ("weights", token_weights)):
        if masks[which] is not None:
            arrays[which] = of_tokens("with_linear_head", masks[which], whole.batch)
    mesh_axes = _mesh_axes(name, mesh, inputs_spec, kernel_spec, arrays, axes)
    _check_axis_names(name, head, mesh_axes)
    arrays, fixed = _padded(mesh_axes, arrays, {"num_classes": count})
    local_head = dataclasses.replace(
        head,
        num_classes=fixed["num_classes"],
        layer=(axes, *rest, _one(mesh_axes.classes)),
        batch_axis_name=mesh_axes.tokens or None,
    )

    def local(arrays: dict[str, Array], targets: Any) -> Any:
        arrays = arrays | {"kernel": _gathered(mesh_axes, arrays["kernel"])}
        inputs, kernel = arrays.pop("inputs"), arrays.pop("kernel")
        return local_head(inputs, kernel, *targets, **arrays)

    value = mesh_axes.batch if head.reduction == "none" else PartitionSpec()
    out = (value, mesh_axes.batch) if head.of_logits.has_aux else value
    specs = {k: mesh_axes.spec(k) for k in arrays}, mesh_axes.batch
    targets = jax.tree.unflatten(whole.tree, map(jnp.asarray, jax.tree.leaves(targets)))
    with explained():
        return _shards.shard_map(local, mesh_axes.mesh, specs, out)(arrays, targets)


def _check_axis_names(name: str, head: AnyHead, mesh_axes: _MeshAxes) -> None:
    """Raises ValueError unless the head names the mesh axis of the classes, and no other."""
    axis_name = head.layer[-1]
    if Shards(axis_name).names != set(mesh_axes.classes):
        raise ValueError(
            f"{name}: with_linear_head, and the loss that it is given, must have the axis_name "
            f"that shards the kernel's classes, {_one(mesh_axes.classes)!r}, got {axis_name!r}."
        )
    if head.batch_axis_name is not None:
        raise ValueError(
            f"with_linear_head: batch_axis_name must be left out, for shard_linear_head gives it, "
            f"got {head.batch_axis_name!r}."
        )


def _one(axes: tuple[str, ...]) -> AxisName | None:
    """Returns mesh axes as an ``axis_name``: None, one name, or the tuple."""
    return None if not axes else axes[0] if len(axes) == 1 else axes


def _gathered(mesh_axes: _MeshAxes, kernel: Array) -> Array:
    """Returns a shard's kernel, gathered along its width if that is sharded."""
    if not mesh_axes.width:
        return kernel
    axis = mesh_axes.kernel_axes.index("D")
    return lax.all_gather(kernel, mesh_axes.width, axis=axis, tiled=True)


def _is_array(argument: str, value: Any) -> bool:
    named = ("inputs", "kernel", *_BY_TOKEN, *_BY_CLASS)
    return value is not None and (argument in named or isinstance(value, Array))
