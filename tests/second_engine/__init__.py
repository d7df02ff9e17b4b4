"""The second engine proves theorems exactly at small concrete shapes, by rules of its own.

``poly`` wraps the polynomials of FLINT; ``polynomials``, ``rationals`` and ``exact`` define the
numbers. ``extended`` adds infinities and NaN, and ``piecewise`` adds values that depend on signs.
``floats`` evaluates numbers where that saves time, and proves nothing. ``reading`` runs jaxprs on
all of these, by the reader of the search for counterexamples (``xent_jax.proofs._refutation``).
``inputs`` has the shapes and labellings, ``proof`` and ``search`` decide one claim, ``concrete`` a
theorem, and ``command`` is ``python -m tests.second_engine``.
"""
