"""Many texts at once: which repeat others, exactly, nearly, by meaning or line by line."""
