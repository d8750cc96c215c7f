"""A run as a folder: trained, gone on with, logged, exported, evaluated."""
