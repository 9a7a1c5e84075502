"""The operations, one file per family: attributes, type rule, NumPy meaning and cost side by side."""
