"""Verbs of trained networks: predict, caption, transcribe, zoo."""
