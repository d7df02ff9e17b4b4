"""The second engine: exact proofs at small concrete shapes, that share no rule with the first.

``polynomials``, ``rationals`` and ``exact`` are the numbers, ``extended`` adds infinities and
NaN, ``piecewise`` values that depend on signs; ``entries``, ``moves`` and ``reading`` run
jaxprs on them; ``inputs`` are the shapes and labellings, ``proof`` and ``search`` decide
one claim, ``concrete`` is what the command calls.
"""
