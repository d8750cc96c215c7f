"""A whole comparison in one or two sentences, the first that a page says. They say no more than the conclusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redense.files.visible import counted, folded
from redense.tasks.metrics import shown_name

from .figures import CONTROLS, SPLITS, shown, split_of
from .verdicts import Decision
from .words import called, listed, obstacle, size


def headline(decision: Decision, *, seeds: int | None = None, figure: str = "", dense: bool = False) -> str:
    """Return what a comparison comes to.

    Args:
        decision: on all arms.
        seeds: how many were run; the fewest that a comparison has, if not given.
        figure: what decides, in words: ``test error``; the metric, if not given.
        dense: the baseline is the dense phase that the other arms begin with.
    """
    said = _Headline(decision, seeds or decision.seeds, figure or decision.metric or "figure", dense)
    return shown(said.text())


def figure_of(split: str, metric: str) -> str:
    """Return what a figure of a split is called in a sentence; a name that says its split says it once.

    >>> figure_of("test", "top5_error"), figure_of("validation", "val_error"), figure_of("test", "test")
    ('test top5 error', 'validation error', 'test figure')
    """
    own, bare = split_of(metric)
    name = shown_name(bare if split and own == split else metric)
    alone = not name or SPLITS.get(name.casefold()) == split  # the split is all that it says
    return f"{split} {'figure' if alone else name}" if split else name


@dataclass(frozen=True)
class _Headline:
    decision: Decision
    seeds: int
    figure: str
    dense: bool

    def text(self) -> str:
        decision, over = self.decision, f"over {counted(self.seeds, 'seed')}"
        if not decision.contrasts:
            few = "there is one arm" if len(decision.arms) == 1 else "too few runs came to their end"
            return f"Nothing can be compared: {few}."
        if self.seeds == 1:
            return "One seed was run, and one seed shows nothing: whether any arm is a gain is open."
        first = self.first
        verdicts = {item.arm: item.verdict for item in decision.contrasts if item.against == first}
        arms = [name for name, told in decision.conclusions.items() if told.role == "arm" and told.against]
        if not arms:
            controls = listed([f"{name} {verdict}" for name, verdict in verdicts.items()])
            said = f"Only controls were compared with {self.named(first)}, {over}: {controls}."
            lost = [name for name, told in decision.conclusions.items() if told.role == "arm"]
            if not lost:
                return f"{said} There is no arm to judge."
            return f"{said} {listed(lost)} {'has' if len(lost) == 1 else 'have'} no run that came to its end."
        better = [name for name in arms if verdicts.get(name) == "better"]
        if not decision.deciding:
            ahead = "No arm is better than the baseline."
            if better:
                than = f"{_are(better)} better than {self.named(first)}"
                ahead = f"{than}; whether training longer does the same is open."
            return (
                f"No gain can be claimed {over}: no arm beside the baseline counts as a control without a mask. {ahead}"
            )
        won = [name for name in arms if decision.conclusions[name].gain]
        if len(won) == 1:
            return f"{self.one_gain(won[0])} {over}."
        if won:
            return f"{listed(won)} are gains {over}: each better than {self.beaten}."
        return f"No arm shows a gain {over}. {self.why_not(arms, better)}"

    @property
    def first(self) -> str:
        """The arm that every other is compared with first: the baseline, or a control where there is none."""
        return self.decision.baseline or next(iter(self.decision.deciding), "")

    def named(self, other: str) -> str:
        return called(self.decision, other, dense=self.dense)

    @property
    def beaten(self) -> str:
        return f"{self.named(self.first)} and than {self.controls}" if self.decision.baseline else self.controls

    @property
    def controls(self) -> str:
        which = "the control" if len(self.decision.deciding) == 1 else "the controls"
        return f"{listed(self.decision.deciding)}, {which} without a mask"

    def one_gain(self, arm: str) -> str:
        decision = self.decision
        side = "lower" if decision.lower_is_better else "higher"
        than = [
            f"{size(decision, found)} {side} than {self.its(other)}'s"
            for other in dict.fromkeys((self.first, *decision.deciding))
            if (found := decision.contrast(arm, other))
        ]
        no_mask = "which has no mask" if len(decision.deciding) == 1 else "which have no mask"
        return f"{arm} is a gain: its {self.figure} is {listed(than)}, {no_mask},"

    def its(self, other: str) -> str:
        name = self.named(other)
        return "its dense baseline" if name == "the dense baseline" else name

    def why_not(self, arms: Sequence[str], better: Sequence[str]) -> str:
        told, decision = self.decision.conclusions, self.decision
        # A control some of whose runs diverged says nothing of training longer.
        longer = [
            one
            for one in decision.deciding
            if one in told and told[one].against.get(self.first) == "better" and not told[one].obstacle
        ]
        unbeaten = [one for one in decision.deciding if any(told[arm].against.get(one) != "better" for arm in better)]
        # Better than all that could be compared, and something else is against it.
        ahead = [name for name in arms if all(verdict == "better" for verdict in told[name].against.values())]
        if ahead:
            return " ".join(f"{self.obstacle(name)}, so {name} is none." for name in ahead)
        if any(arm.name == self.first and not arm.n for arm in decision.arms):
            return f"No run of {self.named(self.first)} came to its end, so no arm is compared with it."
        if not better:
            too = f"; {_are(longer)}, without a mask" if longer else ""
            return f"None is shown to be better than {self.its(self.first)}{too}."
        which = self.controls
        if unbeaten != list(decision.deciding):
            which = f"{listed(unbeaten)}, {'a control' if len(unbeaten) == 1 else 'controls'} without a mask"
        but = f"not shown to be better than {which}"
        if level := [one for one in longer if one in unbeaten]:
            also = f"so {'is' if len(level) == 1 else 'are'} {listed(level)}"
            what = (
                "training longer" if self.are_longer(level) else f"what {'it does' if len(level) == 1 else 'they do'}"
            )
            but = f"{also}, without a mask: {what} helps by itself, and nothing more is shown"
        others = list(dict.fromkeys(filter(None, map(self.obstacle, better))))
        rest = f" {'; '.join(others)}: no gain could be claimed anyway." if others else ""
        return f"{_are(better)} better than {self.named(self.first)}, but {but}.{rest}"

    def are_longer(self, controls: Sequence[str]) -> bool:
        """Whether controls train longer than the baseline, as the usual ones do where nobody told the steps."""
        steps = {arm.name: arm.steps for arm in self.decision.arms}
        least = steps.get(self.first)

        def is_longer(one: str) -> bool:
            own = steps[one]
            return folded(one.partition(" ")[0]) in CONTROLS if own is None or least is None else own > least

        return all(map(is_longer, controls))

    def obstacle(self, arm: str) -> str:
        found = self.decision.conclusions[arm].obstacle
        return obstacle(found) if found else ""


def _are(names: Sequence[str]) -> str:
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'}"
