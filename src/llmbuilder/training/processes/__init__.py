"""The processes of a run: several that train together, and the signals that stop them."""
