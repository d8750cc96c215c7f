"""The sections on speech recognition."""
