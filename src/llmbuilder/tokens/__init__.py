"""Texts as token ids on the disk: the split, the shards, the windows that a model trains on."""
