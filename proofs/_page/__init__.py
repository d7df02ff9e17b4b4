"""Writes the page of all that is proved, with formulas in MathML and the code beside them."""
