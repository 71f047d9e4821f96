"""Documents: what lies in a folder or a container, what kind each file is, and one reader for each format."""
