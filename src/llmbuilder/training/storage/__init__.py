"""What a run keeps on the disk: where its files are, its checkpoints, the record it is opened by, its tokenizer."""
