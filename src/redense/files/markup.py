"""HTML as data: a tree of elements, written once at the end. Text is text, so no file can smuggle markup in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Protocol, TypeAlias, runtime_checkable

Attribute: TypeAlias = str | bool | int | None
_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})
_VERBATIM = frozenset({"script", "style"})  # HTML reads no entities in these
_LISTS = (tuple, list)  # no blocks: asked first, because to ask whether something fits a protocol takes long


@runtime_checkable
class Block(Protocol):
    """A part of a page that is more than its elements: a table, a figure."""

    def elements(self) -> Child:
        """Return what is shown of it."""
        ...


class _Joiner(str):
    """A text between two parts of a cell in one line, where the page has a new line."""

    __slots__ = ()


@dataclass(frozen=True)
class Element:
    """An element with its attributes and children."""

    tag: str
    children: tuple[Child, ...]
    attributes: Mapping[str, Attribute]

    def __str__(self) -> str:
        """Return it as HTML."""
        return html(self)


Child: TypeAlias = str | Element | Block | Iterable["Child"] | None


def h(tag: str, *children: Child, **attributes: Attribute) -> Element:
    """Return an element. ``class_`` and ``aria_label`` mean ``class`` and ``aria-label``; False and None leave out.

    >>> print(h("p", "loss < ", h("b", "1"), class_="note", hidden=True, id=None))
    <p class="note" hidden>loss &lt; <b>1</b></p>
    """
    # A generator could be walked once only.
    return Element(tag, tuple(tuple(child) if isinstance(child, Iterator) else child for child in children), attributes)


def html(*children: Child) -> str:
    """Return HTML of the children one after the other, escaped where they are text.

    >>> html("a & b", [h("br"), None])
    'a &amp; b<br>'
    """
    parts: list[str] = []
    _write(children, parts)
    return "".join(parts)


def text(child: Child) -> str:
    """Return what is read of a part of a table's cell, in one line: for files that have no markup.

    >>> text([h("code", "a"), " b", h("br"), ["9.8", h("small", "9.1 to 10.2")]])
    'a b; 9.8 [9.1 to 10.2]'
    """
    parts = [part for part in _read(child) if part]
    # A joiner, or a space, joins two texts; the same signs in a text of somebody else are theirs, and stay.
    while parts and _joins(parts[0]):
        del parts[0]
    while parts and _joins(parts[-1]):
        del parts[-1]
    return re.sub(r"[\t\r\n]+", " ", "".join(parts))  # a space, one that does not break too, stays what it is


def _joins(part: str) -> bool:
    return isinstance(part, _Joiner) or not part.strip(" ")


def blocks(child: Child) -> Iterator[Block]:
    """Yield the tables and figures in a part of a page, in order, wherever they are nested."""
    if isinstance(child, Element):
        yield from blocks(child.children)
    elif not isinstance(child, _LISTS) and isinstance(child, Block):
        yield child
    elif child is not None and not isinstance(child, str):
        for one in child:
            yield from blocks(one)


def _write(child: Child, to: list[str]) -> None:
    if isinstance(child, str):
        to.append(escape(child))
    elif isinstance(child, Element):
        attributes = "".join(_attribute(name, value) for name, value in child.attributes.items())
        to.append(f"<{child.tag}{attributes}>")
        if child.tag in _VERBATIM:
            to += [part for part in child.children if isinstance(part, str)]
        else:
            _write(child.children, to)
        if child.tag not in _VOID:
            to.append(f"</{child.tag}>")
    elif not isinstance(child, _LISTS) and isinstance(child, Block):
        _write(child.elements(), to)
    elif child is not None:
        for one in child:
            _write(one, to)


def _read(child: Child) -> Iterator[str]:
    if isinstance(child, str):
        yield child
    elif isinstance(child, Element):
        inner = list(_read(child.children))
        if child.tag == "br":
            yield _Joiner("; ")
        elif not any(inner):
            return  # as of an arm of which nothing is told
        elif child.tag == "small":  # an interval below its figure
            yield from (" [", *inner, "]")
        else:
            if {"under", "about"} & set(str(child.attributes.get("class_") or "").split()):
                yield _Joiner(", ")
            yield from inner
    elif not isinstance(child, _LISTS) and isinstance(child, Block):
        yield from _read(child.elements())
    elif child is not None:
        for one in child:
            yield from _read(one)


def _attribute(name: str, value: Attribute) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
