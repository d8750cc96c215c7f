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


METRICS = {
    "classification": Metric("error", "%", lower_is_better=True),
    "captioning": Metric("bleu4", "", lower_is_better=False),
    "speech": Metric("wer", "%", lower_is_better=True),
}
