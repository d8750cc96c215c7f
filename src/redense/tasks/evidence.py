"""Evidence: the networks' answers to test examples. One schema, for the writing task and the reading report.

A kind of evidence is a subclass of `Evidence`: the task makes one, ``evidence.json`` has its plain data, and the report
reads it through the same class. Text comes from networks and other people's files, so that any character in it is made
visible before it goes on.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # of ordinary writing: Persian words, a family of emoji


def visible(text: str) -> str:
    r"""Return text in which what has no shape of its own, or turns the text around, is written out.

    >>> visible("a\x00b\u202ec\ud800"), visible("niño año")
    ('a␀b⟨U+202E⟩c⟨U+D800⟩', 'niño año')
    """
    return text if text.isprintable() else "".join(map(_shown, text))


Text: TypeAlias = Annotated[str, AfterValidator(visible)]
"""Text of elsewhere."""
Count: TypeAlias = Annotated[int, Field(ge=0)]
Interval: TypeAlias = tuple[float, float]
Reason: TypeAlias = Annotated[Text | None, AfterValidator(lambda text: text or None)]
"""Why something is not there; None where it is."""


class Plain(BaseModel):
    """Plain data, checked as it is made and as it is read. No number in it is infinite or missing."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Evidence(Plain):
    """The answers of several networks to the same test examples; the first is the baseline, the last is judged.

    A kind of evidence is a subclass with a ``kind`` of its own, the name of the task.

    Args:
        networks: their names, in order.
    """

    kind: ClassVar[str]
    networks: tuple[Text, ...] = Field(min_length=1)

    @property
    def before(self) -> str:
        """The name of the baseline."""
        return self.networks[0]

    @property
    def after(self) -> str:
        """The name of the network that is judged."""
        return self.networks[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data. What was not given is left out."""
        return {"kind": self.kind, **self.model_dump(mode="json", exclude_unset=True)}


class Missing(Plain):
    """The reason why there is no evidence of a kind."""

    kind: str
    missing: Text

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return self.model_dump(mode="json")


def check_each(networks: tuple[str, ...], what: str, *rows: Any) -> None:
    """Raise unless there is an entry for each network.

    Raises:
        ValueError: there is not.
    """
    for row in rows:
        if len(row) != len(networks):
            raise ValueError(f"{what} of {len(row)} of {len(networks)} networks")


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if character not in _JOINERS and unicodedata.category(character) in _HIDDEN:
        return f"⟨U+{code:04X}⟩"
    return character
