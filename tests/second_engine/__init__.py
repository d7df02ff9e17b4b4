"""The second engine: exact proofs at small concrete shapes, which share no rule with the first.

``polynomials``, ``rationals`` and ``exact`` define the numbers. ``extended`` adds infinities and
NaN, and ``piecewise`` adds values that depend on signs. ``reading`` runs
jaxprs on them, by the reader of the search for counterexamples (``xent_jax.proofs._refutation``).
``inputs`` has the shapes and labellings, ``proof`` and ``search`` decide one claim, ``concrete`` a
theorem, and ``command`` is ``python -m tests.second_engine``.
"""
