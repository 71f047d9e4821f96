"""Hugging Face's folders: configuration and weights, read and written."""
