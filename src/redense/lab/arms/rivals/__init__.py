"""Rivals of DSD: other things to do with the same budget, one file each, with its technique, its arm and its card.

Unless a card says otherwise they begin with the dense phase that all arms share, and change what comes after it.
Those that only change a setting of the recipe are in `settings`.
"""
