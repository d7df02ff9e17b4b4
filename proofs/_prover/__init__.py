"""Proves claims about code, by reading its jaxprs at symbolic sizes as arrays of terms.

``spec`` describes arguments, and ``trace`` makes the jaxprs. ``read`` and the readers of primitives
(``elementwise``, ``truth``, ``shapes``, ``parts``, ``lookups``, ``scan``) turn them into terms, and
``linear`` differentiates terms. ``claims`` says which terms must be equal, and ``decision`` asks
``_normal_form`` whether they are. ``counterexample`` searches for arguments at which a claim is
wrong. Users call the functions in ``prove``.
"""
