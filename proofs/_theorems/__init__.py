"""States theorems about the library's code: it equals a textbook function or its derivative.

``theorem`` defines what a theorem is. ``shipped`` lists all theorems, with those about the linear
head from ``head`` and those about shards from ``shards``. ``textbook`` has the textbook's
functions, which are made of ``textbook_parts``.
"""
