"""The parameters of a network: their names, their kind in their layer, and the layers that read the input."""
