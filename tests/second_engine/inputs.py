"""Lists the shapes, labellings, permutations and masks for which the second engine proves."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from xent_jax.proofs._prover.spec import Spec, size_of
from xent_jax.proofs._refutation.entries import Refused


def distinct(sizes: Sequence[Mapping[str, int]], args: Mapping[str, Spec]) -> list[dict[str, int]]:
    """Reduces sizes to the dimensions that the arguments have, and drops repetitions."""
    used = {name for spec in args.values() for name in spec.names}
    out: list[dict[str, int]] = []
    for size in sizes:
        kept = {name: n for name, n in size.items() if name in used}
        missing = used - set(kept)
        if missing:
            raise ValueError(f"prove_concrete: sizes must give {', '.join(sorted(missing))}.")
        if kept not in out:
            out.append(kept)
    return out


def written(size: Mapping[str, int]) -> str:
    """Returns sizes as text, such as ``n = 1, k = 3``."""
    return ", ".join(f"{name} = {n}" for name, n in size.items())


def dims(spec: Spec, size: Mapping[str, int]) -> tuple[int, ...]:
    """Returns the concrete shape of an argument."""
    return tuple(int(d) if d.isdigit() else size[d] for d in spec.dims)


def shape_of(spec: Spec, size: Mapping[str, int]) -> jax.ShapeDtypeStruct:
    """Returns the concrete shape and the dtype of an argument."""
    return jax.ShapeDtypeStruct(dims(spec, size), jnp.dtype(spec.dtype))


def configurations(
    args: Mapping[str, Spec], size: Mapping[str, int]
) -> list[dict[str, np.ndarray]]:
    """Returns every combination of labellings, permutations and masks, as arrays by name."""
    fixed = {n: s for n, s in args.items() if not jnp.issubdtype(s.dtype, jnp.floating)}
    choices = [_choices(name, spec, size) for name, spec in fixed.items()]
    shapes = {name: dims(spec, size) for name, spec in fixed.items()}
    everything = []
    for combination in itertools.product(*choices):
        arrays = {
            name: np.array(entries, spec.dtype).reshape(shapes[name])
            for (name, spec), entries in zip(fixed.items(), combination, strict=True)
        }
        if all(_kept(arrays[name], spec, args, arrays) for name, spec in fixed.items()):
            everything.append(arrays)
    return everything


def _choices(name: str, spec: Spec, size: Mapping[str, int]) -> Iterable[tuple[int, ...]]:
    """Returns all possible entries of one argument: its labellings, masks or permutations."""
    shape = dims(spec, size)
    if spec.permutes:
        return itertools.permutations(range(*shape))
    per_entry = [False, True] if spec.dtype == np.bool_ else _labels(name, spec, size)
    return itertools.product(per_entry, repeat=math.prod(shape))


def _kept(mask: np.ndarray, spec: Any, args, arrays: dict[str, np.ndarray]) -> bool:
    """Returns whether a mask keeps the class of each label, if its spec demands this."""
    if spec.keeps is None:
        return True
    y = arrays[spec.keeps]
    taken = y != args[spec.keeps].ignore if args[spec.keeps].ignore is not None else y == y
    at_label = np.take_along_axis(mask, np.maximum(y, 0)[..., None], -1)[..., 0]
    return bool((at_label | ~taken).all())


def _labels(name: str, spec: Any, size: Mapping[str, int]) -> list[int]:
    if spec.classes is None:
        raise Refused(f"the integer argument {name}, which are not labels")
    sentinel = [] if spec.ignore is None else [spec.ignore]
    return [*range(size_of(spec.classes, size)), *sentinel]
