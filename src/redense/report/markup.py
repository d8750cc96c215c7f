"""HTML built from escaped parts: text is text unless it says that it is HTML, so no file can smuggle markup in."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Html(str):
    """Text that is HTML already. Everything else is escaped when it becomes a child or an attribute."""

    __slots__ = ()


Child = str | Iterable["Child"] | None

_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})


def h(tag: str, *children: Child, **attributes: str | bool | int | None) -> Html:
    """Return an element. ``class_`` and ``aria_label`` mean ``class`` and ``aria-label``; False and None leave out.

    >>> h("p", "loss < ", h("b", "1"), class_="note", hidden=True, id=None)
    '<p class="note" hidden>loss &lt; <b>1</b></p>'
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Return the children one after the other, escaped where they are text.

    >>> join("a & b", [Html("<br>"), None])
    'a &amp; b<br>'
    """
    parts: list[str] = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child))
        elif child is not None:
            parts.append(join(*child))
    return Html("".join(parts))


def _attribute(name: str, value: str | bool | int | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
