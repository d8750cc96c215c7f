"""Captioned images: every layout they come in, and the splits that training needs."""

from __future__ import annotations

from .loading import CaptionSet, CaptionSplits, load_captions

__all__ = ["CaptionSet", "CaptionSplits", "load_captions"]
