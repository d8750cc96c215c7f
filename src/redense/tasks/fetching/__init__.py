"""Fetching data: tools for one package system each, and modules that sort a source's files. No torch here."""
