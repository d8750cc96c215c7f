"""Verbs that compare and judge."""
