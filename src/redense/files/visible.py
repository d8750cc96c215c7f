"""Text that somebody else wrote, as a terminal or Markdown may show it: nothing in it is obeyed, and nothing is hidden.

Names of files and classes, lines of recipes, words of a vocabulary, transcripts: a stranger can put commands for the
terminal into each of them, or characters that turn the direction of the text around.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Controls (C0 and C1), marks of direction, line and paragraph separators, halves of characters, tags, and what has no
# width: soft hyphens, fillers, the zero width space. The joiners (U+200C, U+200D) are spelling in ordinary words.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_HIDDEN_IN_LINE = re.compile(f"[\t\n{_HIDDEN.pattern[1:]}")
_MARKS = re.compile(r"[\\|`*_\[\]<>&$~]")  # of Markdown, HTML's entities and GitHub's mathematics included
_BEGINNING = re.compile(
    r"^([ \t]*\d*)(?:(?<=\d)([.)])|(?<!\d)([-+#]+))(?=\s|$)", re.MULTILINE
)  # of a list, of a heading


def visible(text: str) -> str:
    r"""Return text whose control characters are written out, but for the ends of lines and tabs.

    They are written as JSON writes them, so that a line of JSON stays one and means the same.

    >>> print(visible("\x1b[2Jred\u202e\udcff"))
    \u001b[2Jred\u202e\udcff
    """
    return _HIDDEN.sub(_written, text)


def visible_line(text: str) -> str:
    r"""Return text as `visible` does, in one line.

    >>> print(visible_line("red\nredense: all is well"))
    red\u000aredense: all is well
    """
    return _HIDDEN_IN_LINE.sub(_written, text)


def markdown(text: str) -> str:
    r"""Return a line of text as Markdown that shows it, where a line begins too.

    >>> print(markdown("<b>|x_1 &lt; $2 ~~3~~"), markdown("# 1"), markdown("1. -5"), markdown("-0.5"))
    \<b\>\|x\_1 \&lt; \$2 \~\~3\~\~ \# 1 1\. -5 -0.5
    """
    escaped = _MARKS.sub(r"\\\g<0>", text)
    return _BEGINNING.sub(lambda found: f"{found[1]}\\{found[2] or found[3]}", escaped)


def _written(found: re.Match[str]) -> str:
    data = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[at]:02x}{data[at + 1]:02x}" for at in range(0, len(data), 2))


# Small letters of Cyrillic and Greek that look like one of ours (Unicode's confusables).
_TWINS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u051b\u051d\u03bf\u03bd",
    "aeopcyxijsdhqwov",
)


def folded(name: str) -> str:
    r"""Return a name without what a reader overlooks: case, width, how letters are composed, what is not seen.

    So are, in a word that has Latin letters too, those of another alphabet that look like one.

    >>> folded("LLR"), folded("restart\u200b"), folded(" Hot\u00a0 Dog\u2013two"), folded("rest\u0430rt")
    ('llr', 'restart', 'hot dog-two', 'restart')
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    kinds = [(c, unicodedata.category(c)) for c in plain]
    seen = "".join("-" if kind == "Pd" else c for c, kind in kinds if kind not in ("Cf", "Cc") or c.isspace())
    return " ".join(w.translate(_TWINS) if any("a" <= c <= "z" for c in w) else w for w in seen.split())


def counted(count: int, word: str) -> str:
    """Return a number with its noun, which has an s where there are several.

    >>> counted(1, "image"), counted(2000, "class")
    ('1 image', '2,000 classes')
    """
    plural = f"{word}es" if word.endswith("ss") else f"{word}s"
    return f"{count:,} {word if count == 1 else plural}"


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return rows as lines of columns, made visible; the first ``left`` columns flush left, the others right.

    >>> aligned([["layer", "cost"], ["conv1", "0.5"]])
    ['layer  cost', 'conv1   0.5']
    """
    rows = [[visible_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
