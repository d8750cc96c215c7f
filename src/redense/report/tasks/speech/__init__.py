"""What recognisers heard, on a page."""
