"""A second opinion on what was read: the same files taken in an independent way, and how much of each came out."""
