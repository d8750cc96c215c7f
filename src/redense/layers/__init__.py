"""What the parameters of a network are: their names, their kind in their layer, and which layers read the input."""
