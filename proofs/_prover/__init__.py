"""The prover of code: jaxprs read as arrays of terms, at symbolic sizes.

``spec`` says what arguments are, ``trace`` makes the jaxprs, ``read`` and the readers of
primitives (``elementwise``, ``truth``, ``shapes``, ``parts``, ``lookups``, ``scan``) make terms
of them, ``linear`` transposes, ``claims`` says what must be equal, ``decision`` asks
``_normal_form`` whether it is, ``counterexample`` looks for numbers, and ``prove`` is what users
call.
"""
