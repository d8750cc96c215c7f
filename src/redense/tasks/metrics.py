"""The figure by which each task is judged. No torch here, so that the command line can name it at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure, its unit, and which way is up."""

    name: str
    unit: str
    lower_is_better: bool

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is strictly better than ``b``."""
        return a < b if self.lower_is_better else a > b


_LABELS = {"wer": "WER", "cer": "CER", "chrf": "chrF", **{f"bleu{n}": f"BLEU-{n}" for n in (1, 2, 3, 4)}}


def shown_name(name: str) -> str:
    """Return what people call a figure.

    >>> shown_name("bleu4"), shown_name("wer asterisk-es"), shown_name("top5_error")
    ('BLEU-4', 'WER asterisk-es', 'top5 error')
    """
    first, _, rest = name.partition(" ")
    return f"{_LABELS.get(first, first.replace('_', ' '))} {rest}".rstrip()
