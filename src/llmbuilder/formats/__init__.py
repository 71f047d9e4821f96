"""Files of models, each format's reading and writing side by side: our own, Hugging Face's, GGUF, nanoGPT's."""
