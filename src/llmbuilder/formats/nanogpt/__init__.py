"""nanoGPT's files and those of the older LLMBuilder scripts, read without running anything in them."""
