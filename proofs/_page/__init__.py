"""The page of all that is proved, with expressions in MathML and the code beside them."""
