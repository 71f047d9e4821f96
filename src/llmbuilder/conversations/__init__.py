"""Conversations: read from the forms in which others keep them, rendered by a chat template, masked, and cut."""
