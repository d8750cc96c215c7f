"""What each task adds to a page."""
