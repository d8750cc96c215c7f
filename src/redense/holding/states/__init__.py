"""The states that optimizers keep for weights: their places, those of a new weight, and which steps leave at zero."""
