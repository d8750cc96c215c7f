"""Terminal output: texts, tables, progress bars."""
