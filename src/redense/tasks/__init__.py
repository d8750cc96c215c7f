"""Tasks: data, models, loss and metrics of one kind of problem each."""
