"""Figures as people write them: with their unit, as many decimals as they deserve, and never broken over two lines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from redense.lab.judging.words import p_text

_MOST_DECIMALS = 15
_LONG = 1e15  # from here on a number has more digits than anybody reads, and than it has
NBSP = "\u00a0"


class Nothing(str):
    """The text that stands where nothing is known; a name that looks like it is an ordinary text."""

    __slots__ = ()


NONE = Nothing("\u2013")  # an en dash


@dataclass(frozen=True)
class Number:
    """A number in the cell of a table.

    Args:
        shown: as the page has it.
        plain: as programs read it; empty where nothing is known.
        half: half the width of its interval, as programs read it.
        word: what is said of it: ``better``.
        unit: its unit, where the cell and not the head of the column has it.
    """

    shown: str
    plain: str = ""
    half: str = ""
    word: str = ""
    unit: str = ""

    def __str__(self) -> str:
        """Return what a reader of a file sees."""
        return f"{self.shown} {self.word}".rstrip()


NOTHING = Number(NONE)


def number(value: float | None, decimals: int | None = None) -> str:
    """Return a figure with fixed decimals, or with as many as its size asks for.

    >>> number(10.906, 2), number(0.21874), number(1234.5), number(-1.5e200, 2), number(float("nan")), number(None)
    ('10.91', '0.2187', '1,234', '−1.5e200', 'not a number', '–')
    """
    if value is None:
        return NONE
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite"
    if abs(value) >= _LONG:
        return f"{value:.4g}".replace("e+", "e").replace("-", "−")
    text = f"{value:,.{decimals_for(value) if decimals is None else decimals}f}"
    return text.removeprefix("-") if not float(text.replace(",", "")) else text.replace("-", "−")


def decimals_for(value: float) -> int:
    """Return how many decimals show a figure of that size to about four digits."""
    size = abs(value)
    return 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0


def decimals_that_show(usual: int, means: Iterable[float | None], differences: Iterable[float]) -> int:
    """Return the usual decimals, or more where the least difference that is to be seen, or the means, would be 0.

    >>> (
    ...     decimals_that_show(2, [31.2, 30.1], [-1.1]),
    ...     decimals_that_show(0, [1234.5], [0.03]),
    ...     decimals_that_show(2, [0.002], []),
    ... )
    (2, 3, 5)
    """
    mean = max((abs(mean) for mean in means if mean), default=1.0)
    least = min((abs(size) for size in differences), default=mean / 10)
    return usual if least >= 10.0**-usual else min(1 - math.floor(math.log10(least)), _MOST_DECIMALS)


def quantity(value: float | None, unit: str, decimals: int | None = None) -> str:
    """Return a figure with its unit, kept on one line."""
    text = number(value, decimals)
    return f"{text}{NBSP}{unit}" if unit and value is not None and math.isfinite(value) else text


def cell(value: float | None, decimals: int | None = None, *, signed: bool = False) -> Number:
    """Return a figure for a table, as `number` shows it.

    >>> cell(-1234.5, 1), cell(0.25, 2, signed=True).shown
    (Number(shown='−1,234.5', plain='-1234.5', half='', word='', unit=''), '+0.25')
    """
    shown = number(value, decimals)
    if value is None or not math.isfinite(value):
        return Number(shown, "" if value is None else shown)
    plain = f"{value:z.{decimals_for(value) if decimals is None else decimals}f}" if abs(value) < _LONG else str(value)
    return Number(f"+{shown}" if signed and value > 0 else shown, plain)


def signed(value: float | None, decimals: int) -> str:
    """Return a change with its sign.

    >>> signed(1.26, 1), signed(-0.5, 1), signed(0.01, 1)
    ('+1.3', '−0.5', '0.0')
    """
    text = number(value, decimals)
    return f"+{text}" if value is not None and round(value, decimals) > 0 else text


def whole(value: float | None) -> Number:
    """Return a number of things for a table; a mean of such numbers need not be whole.

    >>> whole(3384).shown, whole(3384).plain, whole(102.6).shown, whole(None).shown
    ('3,384', '3384', '102.6', '–')
    """
    return NOTHING if value is None else cell(value, 1 if value % 1 else 0)


def share(fraction: float | None) -> Number:
    """Return a fraction for a table, as a percentage with no more decimals than it needs."""
    if fraction is None or not math.isfinite(fraction):
        return NOTHING
    plain = f"{100 * fraction:.2f}".rstrip("0").rstrip(".")
    return Number(f"{plain}{NBSP}%", plain, unit="%")


def estimate(
    mean: float | None,
    interval: tuple[float, float] | None,
    decimals: int,
    *,
    signed: bool = False,
    word: str = "",
) -> Number:
    r"""Return a mean with half the width of its interval, for a table.

    >>> estimate(-0.834, (-1.1, -0.568), 2, word="better")
    Number(shown='−0.83\xa0±\xa00.27', plain='-0.83', half='0.27', word='better', unit='')
    """
    if mean is None:
        return NOTHING
    alone = cell(mean, decimals, signed=signed)
    if interval is None:
        return Number(alone.shown, alone.plain, word=word)
    half = cell((interval[1] - interval[0]) / 2, decimals)
    return Number(f"{alone.shown}{NBSP}±{NBSP}{half.shown}", alone.plain, half.plain, word)


def between(interval: tuple[float, float] | None, decimals: int) -> str:
    """Return an interval in the unit of what stands beside it."""
    return NONE if interval is None else f"{number(interval[0], decimals)} to {number(interval[1], decimals)}"


def p_value(p: float | None) -> str:
    """Return a p-value with as many digits as are of use, and as it takes to stay on its side of the level.

    >>> p_value(0.0004), p_value(0.0312), p_value(0.25), p_value(0.0501), p_value(None)
    ('< 0.001', '0.031', '0.25', '0.0501', '–')
    """
    return NONE if p is None else p_text(p).removeprefix("p ").removeprefix("= ")


def titled(text: str, unit: str) -> str:
    """Return what an axis or a column shows, with its unit."""
    return f"{text}, {unit}" if unit else text


def percent(fraction: float | None) -> str:
    """Return a fraction as `share` shows it.

    >>> percent(0.3).replace(NBSP, " "), percent(0.2995).replace(NBSP, " "), percent(0.0).replace(NBSP, " ")
    ('30 %', '29.95 %', '0 %')
    """
    return share(fraction).shown


def duration(seconds: float | None) -> str:
    """Return a time in the two largest units that it needs.

    >>> [duration(s).replace(NBSP, " ") for s in (0.42, 58.2, 151, 7260, 100_000)]
    ['0.4 s', '58 s', '2 min 31 s', '2 h 1 min', '1 d 3 h']
    """
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    rest = round(seconds)
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    first = next(index for index, (_, size) in enumerate(units) if rest >= size)
    parts: list[str] = []
    for name, size in units[first : first + 2]:
        count, rest = divmod(rest, size)
        if count or not parts:
            parts.append(f"{count}{NBSP}{name}")
    return " ".join(parts)


def significant(value: float | None) -> Number:
    """Return a figure of any size to three significant digits, for a table: weights may be tiny.

    >>> [significant(value).shown for value in (0.043771, -0.000021, 1234.5, None)]
    ['0.0438', '−2.1e-5', '1.23e3', '–']
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    plain = f"{value:z.3g}".replace("e-0", "e-").replace("e+0", "e")
    return Number(plain.replace("-", "−", 1) if value < 0 else plain, plain)


def learning_rate(value: float | None) -> str:
    """Return a learning rate to three significant digits.

    >>> learning_rate(0.02), learning_rate(1.99e-05)
    ('0.02', '1.99e-5')
    """
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e+")


def count(value: float, noun: str) -> str:
    r"""Return a number of things: ``count(1, "epoch")``, ``count(2, "epoch")``.

    >>> count(1, "epoch"), count(3384, "optimizer step"), count(0.5, "epoch")
    ('1\xa0epoch', '3,384\xa0optimizer steps', '0.5\xa0epochs')
    """
    shown = f"{value:,.6g}" if value % 1 else f"{int(value):,}"
    return f"{shown}{NBSP}{noun}{'' if value == 1 else 's'}"


def difference(value: float, unit: str, decimals: int) -> str:
    r"""Return the size of a difference, in points where the unit is a percentage.

    >>> [difference(d, "%", 2).replace(NBSP, " ") for d in (-0.834, 0.004)], difference(1.2, "BLEU", 1)
    (['0.83 points', 'less than 0.01 points'], '1.2\xa0BLEU')
    """
    unit = "points" if unit == "%" else unit
    if value and not float(f"{value:.{decimals}f}"):
        return f"less than {quantity(10**-decimals, unit, decimals)}"
    return quantity(abs(value), unit, decimals)
