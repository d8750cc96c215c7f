"""The ways in which sets of pictures are stored, one a module."""
