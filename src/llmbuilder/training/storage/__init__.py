"""What a run keeps on the disk: where its files are, its checkpoints, how its state becomes one and comes back."""
