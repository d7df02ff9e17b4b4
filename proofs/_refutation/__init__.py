"""The search for arguments at which a claim is wrong; no proof rests on it.

``samples`` draws arguments, ``digits`` runs jaxprs on them with 100 digits, ``floats`` in float64
where a primitive has no rule there. Both give derivatives with an estimate of their error, which
``search`` compares with what JAX gives. ``shown`` writes what was found.
"""
