"""The sections on image classification."""
