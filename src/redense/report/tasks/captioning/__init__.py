"""The sections on caption generation."""
