"""Labelled images: which layouts are read, and what comes of them.

``reading`` finds out which layout a source has; ``layouts`` reads one each; ``checking`` looks at every file once;
``assemble`` and ``loading`` make three splits of what can be used; ``transforms`` brings images to size.
"""
