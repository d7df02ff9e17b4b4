"""Searches for arguments at which a claim is wrong; no proof depends on this search.

``samples`` draws arguments. ``digits`` runs jaxprs on them with 100 digits; where it has no rule
for a primitive, ``floats`` runs them in float64. Both return derivatives with an estimate of their
error, and ``search`` compares these with what JAX returns.
"""
