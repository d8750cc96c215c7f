"""The report: one self-contained HTML page per run."""

from __future__ import annotations

from .runs.page import write_report

__all__ = ["write_report"]
