"""What captioning networks wrote, on a page."""
