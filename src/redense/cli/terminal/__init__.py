"""What the command line shows: texts, tables, bars."""
