"""The processes of a run: several that train together, what fits into them, what stops them."""
