"""The second engine: exact proofs at small concrete shapes, which share no rule with the first.

``polynomials``, ``rationals`` and ``exact`` define the numbers. ``extended`` adds infinities and
NaN, and ``piecewise`` adds values that depend on signs. ``entries``, ``moves`` and ``reading`` run
jaxprs on them. ``inputs`` has the shapes and labellings, ``proof`` and ``search`` decide one claim,
and the command calls ``concrete``.
"""
