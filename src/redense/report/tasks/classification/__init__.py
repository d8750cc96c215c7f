"""What classifiers did, on a page."""
