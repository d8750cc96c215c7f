"""The networks of speech and their layers."""
