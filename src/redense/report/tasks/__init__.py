"""The sections that each task adds to a page."""
