"""The second engine: exact proofs at small concrete shapes, that share no rule with the first.

``inputs`` are the shapes and labellings, ``exact`` and ``extended`` the numbers,
``piecewise`` values that depend on signs, ``reading`` runs jaxprs on them, ``proof`` and
``search`` decide one claim, ``concrete`` is what the command calls.
"""
