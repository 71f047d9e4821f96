"""The command line: a thin layer over the Python functions of the same names."""
