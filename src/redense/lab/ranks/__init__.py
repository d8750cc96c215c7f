"""One process or many: how it was launched, what the ranks say to each other, and how they end."""
