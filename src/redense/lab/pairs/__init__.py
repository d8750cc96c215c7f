"""Comparing any training: pairs of arm and seed, each done once and kept."""
