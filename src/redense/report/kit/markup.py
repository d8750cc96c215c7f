"""HTML as data, which notebooks share: `redense.files.markup`."""

from __future__ import annotations

from redense.files.markup import Attribute, Block, Child, Element, blocks, h, html, text

__all__ = ["Attribute", "Block", "Child", "Element", "blocks", "h", "html", "text"]
