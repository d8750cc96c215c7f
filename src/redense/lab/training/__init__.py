"""Training one recipe: its plan, its batches, the engine that goes through its phases, and its checkpoints."""
