"""Flattens arguments that are trees, such as a dict, a tuple or a NamedTuple of specs.

A proof is about the arrays in a tree, each by its own name: ``p['w']``, ``p[0]`` or ``p.w``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .spec import Spec


def flattened(args: Any, wrt: Any = ()) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Returns the specs of all arrays, the names to differentiate by, and a wrapper of functions.

    The wrapper makes a function of trees a function of the arrays in them. A tree in ``wrt`` stands
    for the arrays of floats in it. If ``args`` is not a mapping, it is returned unchanged, and
    ``check`` will reject it.
    """
    if not isinstance(args, Mapping) or all(isinstance(spec, Spec) for spec in args.values()):
        return args, wrt, lambda fun: fun
    specs: dict[str, Spec] = {}
    named: dict[str, list[str]] = {}
    shapes: list[Any] = []
    for name, tree in args.items():
        leaves, shape = jax.tree_util.tree_flatten_with_path(tree)
        shapes.append(shape)
        found = {f"{name}{jax.tree_util.keystr(path)}": spec for path, spec in leaves}
        named[name] = [
            leaf
            for leaf, spec in found.items()
            if isinstance(spec, Spec) and np.issubdtype(spec.dtype, np.floating)
        ]
        specs |= found
    if isinstance(wrt, Sequence) and not isinstance(wrt, str):
        wrt = tuple(leaf for name in wrt for leaf in named.get(name) or [name])

    def of_arrays(fun: Any) -> Any:
        if fun is None:
            return None

        @functools.wraps(fun, updated=())
        def function(*arrays: Any) -> Any:
            left = iter(arrays)
            trees = (itertools.islice(left, shape.num_leaves) for shape in shapes)
            return fun(*map(jax.tree_util.tree_unflatten, shapes, trees))

        return function

    return specs, wrt, of_arrays
