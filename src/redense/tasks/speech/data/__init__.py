"""Recordings with transcripts: which layouts are read, and what comes of them.

``layouts`` finds out which one a source has; ``manifests``, ``corpora`` and ``wsj`` read them; ``tones`` makes a small
set; ``mp3`` finds the frames of a file; ``checking`` listens to every clip once; ``loading`` makes splits of what can
be used.
"""
