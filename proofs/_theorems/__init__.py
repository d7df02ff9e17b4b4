"""Theorems about the code that ships: it equals a textbook function, or its derivative.

``theorem`` is one, ``textbook`` the functions, ``shipped`` the list; ``head`` and
``shards`` are its parts on the linear head and on divided classes.
"""
