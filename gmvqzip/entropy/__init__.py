"""Integer tables, the range coder, code indices, transparency. numpy and constriction; no torch."""
