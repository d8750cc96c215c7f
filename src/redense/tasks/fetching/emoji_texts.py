"""Texts on emoji as captions of their pictures: emojipedia's descriptions and Unicode's names.

A description is cut into sentences. Those that speak of how a vendor draws the thing, of Unicode, of history, of other
emoji, or of what it is used for and means say nothing that can be seen, and are left out, and so is what is too short
or too long for a caption.

The references of a picture are different sentences about one concept, not several people's words for one picture.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

WORDS = (4, 25)  # of a caption
MOST = 5  # captions of one concept

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(])")
_OTHER = re.compile(
    r"""\b(?:emojis?|emojipedia|unicode|platforms?|vendors?|versions?|designs?|designed|apple|google|samsung|microsoft
    |windows|android|ios|facebook|twitter|twemoji|whatsapp|joypixels|openmoji|lg|htc|softbank|docomo|kddi|gmail|skype
    |messenger|snapchat|zwj|modifiers?|sequences?|glyphs?|keycaps?|codepoints?|flags?\s+for|not\s+to\s+be\s+confused
    |previously|formerly|identical|displayed?|displays|shows?\s+as|distinct|depending|above|below|see\s+also)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_USE = re.compile(
    r"""^(?:also|commonly|often|may|can|could|used|sometimes|occasionally|frequently|popular\w*|generally\s+used
    |usually\s+used|especially|as\s+with|similar|intended|its\s+meaning|less|more|not|one\s+of|named|known|called
    |part\s+of|created|based|in\s+some|when|note)\b
    |\b(?:used\s+(?:for|to|as|in|with)|convey\w*|express\w*|represent\w*|meanings?|senses?|metaphor\w*|associat\w*
    |content|ideographs?|writing\s+systems?)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_NAMES = re.compile(r"\b(?:cjk|ideograph|keycap|flag)\b", re.IGNORECASE)
_LETTERS = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


def captions(names: Path, texts: Path) -> dict[str, list[str]]:
    """Return the captions of every concept that has one: its code -> sentences, at most five.

    Args:
        names: the unpacked package with Unicode's names.
        texts: the unpacked package with the descriptions.
    """
    found: dict[str, list[str]] = {}
    for path in sorted((texts / "lib/data").glob("*.json")):
        described = json.loads(path.read_text(encoding="utf-8"))
        code = code_of(str(point)[2:] for point in described.get("codepointsHex") or ())
        found.setdefault(code, []).extend(sentences(str(described.get("description") or "")))
    for concept in json.loads((names / "en/data.json").read_text(encoding="utf-8")):
        name = _name(concept)
        if name:
            found.setdefault(code_of(concept["hexcode"].split("-")), []).append(name)
    return {code: list(dict.fromkeys(said))[:MOST] for code, said in found.items() if said}


def sentences(description: str) -> list[str]:
    """Return what can be said of a picture, from a description in HTML.

    >>> sentences("<p>A <b>delivery truck</b>, seen from its side. Apple's design is white. See Lorry.</p>")
    ['A delivery truck, seen from its side.']
    """
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", description)).split())
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    return [part for part in _SENTENCE.split(text) if _fits(part) and not _OTHER.search(part) and not _USE.search(part)]


def code_of(points: Iterator[str] | list[str]) -> str:
    """Return what a concept is called everywhere: its code points in hex, without what only joins or styles them."""
    return "-".join(point.lower() for point in points if point.lower() not in ("fe0f", "200d"))


def dataset(pictures: Mapping[str, list[tuple[str, str]]], said: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return what ``dataset.json`` holds, in Karpathy's layout.

    Args:
        pictures: split -> (file name, code) of every picture.
        said: code -> captions.
    """
    images = [
        {"filename": name, "split": split, "sentences": [{"raw": text} for text in said[code]]}
        for split, members in pictures.items()
        for name, code in sorted(members)
        if code in said
    ]
    return {"dataset": "emoji", "images": images}


def _name(concept: Mapping[str, Any]) -> str | None:
    name = str(concept.get("label") or "").replace(":", ",")
    return name if _fits(name) and not _NAMES.search(name) else None


def _fits(text: str) -> bool:
    return WORDS[0] <= len(_LETTERS.findall(text.lower())) <= WORDS[1]
