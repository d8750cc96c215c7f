"""Parts that schedules are made of: numbers, criteria by name, and the drawing of a schedule. No torch here."""
