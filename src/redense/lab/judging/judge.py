"""`redense.judge`: a table of results that any program made, judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from redense.errors import DataError
from redense.files.notebook import html_table
from redense.files.visible import aligned, counted

from . import words
from .figures import (
    ArmFigures,
    all_quoted,
    check_arms,
    check_metric,
    choose_baseline,
    choose_controls,
    is_lower_better,
    quoted,
    shown,
)
from .headline import figure_of, headline
from .reading.cells import label
from .reading.folders import told_by
from .reading.tables import read_table
from .verdicts import Contrast, Decision, check_looks, check_margin, decide, plain_interval

_LEGEND = (
    "d_z is the mean difference in standard deviations of the differences; detectable the true difference that this "
    "verdict shows in 80 % of experiments; gain and loss at most are the ends of the 95 % interval; seeds for 80 % are "
    "those that show a difference as large as the one seen."
)


@dataclass(frozen=True)
class Judgement:
    """The judgement of a table of results. ``str()`` of it is text, a notebook shows a table.

    Attributes:
        decision: the arms, comparisons and conclusions with all their numbers.
        figures: what was judged, by arm; empty where it lies elsewhere.
        split: of the figures that decide, empty where nobody told it.
        seeds: how many were run, those that failed among them; None for as many as a comparison has.
        dense: the baseline is the dense phase that the other arms begin with.
    """

    decision: Decision
    figures: Mapping[str, ArmFigures] = field(default_factory=dict[str, ArmFigures], repr=False, compare=False)
    split: str = ""
    seeds: int | None = None
    dense: bool = False

    @property
    def gains(self) -> tuple[str, ...]:
        """The arms that are a gain: better than the baseline and than every control that decides."""
        return tuple(name for name, told in self.decision.conclusions.items() if told.gain)

    @property
    def caution(self) -> str | None:
        """The caution that belongs to the verdicts."""
        return words.caution(self.decision)

    @property
    def headline(self) -> str:
        """The result of the table in one or two sentences, as the page says it."""
        figure = figure_of(self.split, self.decision.metric or "")
        return headline(self.decision, seeds=self.seeds, figure=figure, dense=self.dense)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``redense judge --json`` prints it; what there is not is None."""
        decision = self.decision
        return {
            "metric": {"name": decision.metric, "lower_is_better": decision.lower_is_better},
            "arms": [
                {
                    "arm": arm.name,
                    "role": arm.role,
                    "n": arm.n,
                    "mean": arm.mean,
                    "interval": plain_interval(arm.interval),
                }
                for arm in decision.arms
            ],
            "comparisons": [item.to_dict() for item in decision.contrasts],
            "control": list(decision.deciding),
            "family": vars(decision.family).copy(),
            "conclusions": {
                name: {"gain": told.gain, "text": words.said_of(decision, name)}
                for name, told in decision.conclusions.items()
            },
            "codes": {name: told.to_dict() for name, told in decision.conclusions.items()},
            "headline": self.headline,
            "caution": self.caution,
        }

    def __str__(self) -> str:
        decision = self.decision
        head, rows = self.table
        parts = [self.headline, "", self.caption, "", *aligned([head, *rows])]
        if decision.contrasts:
            parts += ["", *aligned(_evidence(decision), left=2)]
            parts += [_LEGEND] if decision.seeds > 1 else []
        parts += ["", words.control_sentence(decision), ""]
        parts += [words.said_of(decision, name) for name in decision.conclusions]
        if self.caution:
            parts += ["", self.caution]
        return "\n".join(parts)

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """The head and a row for each arm: its mean, and its difference to the baseline and to what decides."""
        decision = self.decision
        others = [*([decision.baseline] if decision.baseline else []), *decision.deciding]
        head = ["arm", "n", "mean"]
        for other in others:
            head += [f"against {shown(other)}", "p", "verdict"]
        rows: list[list[str]] = []
        for arm in decision.arms:
            mean = "" if arm.mean is None else words.interval_text(arm.mean, arm.interval)
            row = [shown(arm.name), str(arm.n), mean]
            for other in others:
                row += _against(decision.contrast(arm.name, other))
            rows.append(row)
        return head, rows

    @property
    def said(self) -> list[str]:
        """The control and how it was chosen, the conclusion on each arm, and the caution."""
        told = [words.control_sentence(self.decision)]
        told += [words.said_of(self.decision, name) for name in self.decision.conclusions]
        return told + ([self.caution] if self.caution else [])

    @property
    def caption(self) -> str:
        """A caption: the figures, and the way in which they are compared."""
        decision = self.decision
        side = "lower" if decision.lower_is_better else "higher"
        family = decision.family
        looks = f", {family.looks:,} looks" if family.looks > 1 else ""
        margin = ""
        if decision.margin is not None:
            margin = f", margin {decision.margin:g} (equivalent: the whole 90 % interval inside it, uncorrected)"
        name = shown(decision.metric) if decision.metric else "the figure"
        return (
            f"{name}: {side} is better; paired by seed, Holm over "
            f"{counted(family.comparisons, 'comparison')}{looks}{margin}; intervals are of 95 %"
        )

    def _repr_html_(self) -> str:
        return self.html()

    def html(self, more: Iterable[str] = ()) -> str:
        """Return what a notebook shows, with more sentences below it."""
        head, rows = self.table
        return html_table(head, rows, caption=self.caption, said=[*self.said, *more])


def judge(
    table: Any,
    *,
    validation: Any = None,
    metric: str | None = None,
    lower_is_better: bool | None = None,
    baseline: str | None = None,
    controls: Iterable[str] | None = None,
    margin: float | None = None,
    looks: int = 1,
    changed_code: bool = False,
) -> Judgement:
    """Judge a table of results: is an arm better than its baseline, and than the strongest control without a mask?

    Any program may have made the table. Arms are paired by seed; `redense.lab.judging.verdicts` has the rule of a gain.

    Args:
        table: a path of a CSV or JSON file, or the open file (or several, or folders of ``redense compare``), a data
            frame, or a list of dicts, with columns ``arm``, ``seed`` and one of numbers; or ``{arm: values}``, where
            values are ``{seed: number}`` or one number a seed in the same order.
        validation: beside numbers by arm, those on validation data, which choose the control.
        metric: the column of the figures, where there are several; the one that a folder names, if not given.
        lower_is_better: of the figures, where a well-known name such as ``error`` or ``accuracy`` does not say it.
        baseline: the arm that the others are compared with; ``baseline`` or ``dense`` if not given.
        controls: the arms without a mask; those that a folder knows as such, and those named after ``restart``, ``llr``
            and ``longer``, if not given. What a folder knows as such is no gain in any case.
        margin: differences within it are of no interest, and called equivalent where that is shown; a folder's for its
            own metric, if not given.
        looks: how often the table will have been looked at when no more seeds are added; at least as often as a folder,
            and a further time for each that adds seeds or arms to it.
        changed_code: code that differs between folders makes the same numbers; without it they are refused.

    Raises:
        DataError: the table cannot be judged; the message says where.

    >>> result = judge(
    ...     {"baseline": [12.5, 12.1, 12.9], "restart": [11.9, 11.6, 12.2], "dsd": [11.8, 11.7, 12.0]},
    ...     lower_is_better=True,
    ... )
    >>> result.gains
    ()
    """
    check_margin(margin)
    check_looks(looks)
    check_metric(metric)
    baseline = label(baseline) if isinstance(baseline, Real) else baseline  # as the arms of a table are called
    if controls is not None:
        several: Iterable[Any] = [controls] if isinstance(controls, str | Real) else controls
        controls = [label(one) if isinstance(one, Real) else one for one in several]
    if isinstance(table, Iterator) and not hasattr(table, "read"):
        table = list(table)  # it is read twice: the folders, and their tables
    told = told_by(table, changed_code=changed_code)
    read = read_table(table, metric=metric or told.metric, validation=validation)
    check_arms(read.arms, told.arms)
    if lower_is_better is None:
        if len(sides := told.sides_of(read.metric)) > 1:
            raise DataError(
                f"folders say both that lower and that higher is better of {quoted(read.metric)}: say which, with "
                "--lower-is-better or --higher-is-better (in Python lower_is_better=True or False)"
            )
        lower_is_better = next(iter(sides), None)
    lower = is_lower_better(read.metric, lower_is_better)
    if baseline is None and len(told.baselines) > 1:
        raise DataError(f"folders have different baselines, {all_quoted(told.baselines)}: say which with --baseline")
    own = told.baseline if baseline is None and told.baseline in read.arms else baseline
    without = own is None and told.baseline == "" and set(read.arms) <= set(told.arms)  # only controls, by the folder
    first = "" if without else choose_baseline(read.arms, own)
    chosen = choose_controls(read.arms, controls, first)
    if controls is None:
        known = [name for name in told.controls if name in read.arms and name != first]
        chosen = tuple(dict.fromkeys([*(name for name in chosen if name not in told.arms), *known]))
    arms = {name: replace(figures, **told.beside.get(name, {})) for name, figures in read.arms.items()}
    for name in {*told.controls}.intersection(arms).difference(chosen):
        arms[name] = replace(arms[name], unmasked=True)
    only = read.validation_only or told.validation_only
    joined = told.looks_at(arms)
    at_least, added = (joined.correction, joined.added) if joined else (told.looks, told.added)
    tells_split = told.split != "" and (read.by_split or any(one.validation for one in arms.values()))
    return Judgement(
        decide(
            arms,
            lower_is_better=lower,
            baseline=first,
            controls=chosen,
            metric=read.metric,
            unit=told.unit_of(read.metric),
            margin=told.margin_of(read.metric) if margin is None else float(margin),
            looks=max(int(looks), at_least),
            validation_only=only,
            added=added if at_least >= looks else "",
            folders=told.folders,
        ),
        arms,
        split="validation" if only else "test" if tells_split else "",
        seeds=max(one.runs for one in arms.values()),
        dense=told.dense and baseline is None,
    )


def _against(item: Contrast | None) -> list[str]:
    if item is None:
        return ["", "", ""]
    p = "" if item.p_adjusted is None else words.p_text(item.p_adjusted).removeprefix("p ").removeprefix("= ")
    return [words.interval_text(item.paired.mean, item.paired.interval, sign=True), p, item.verdict]


def _evidence(decision: Decision) -> list[list[str]]:
    """One row a comparison: what its numbers can carry."""
    rows = [["arm", "against", "d_z", "detectable", "gain at most", "loss at most", "seeds for 80 %"]]
    for item in decision.contrasts:
        effect, needed = item.paired.effect, words.seeds_needed(decision, item)
        ends = words.reach(decision, item.paired.interval) if item.paired.interval else None
        row = [shown(item.arm), shown(item.against), "" if effect is None else f"{effect:+.2f}"]
        row.append("" if item.detectable is None else f"{item.detectable:.3g}")
        row += [f"{size:.3g}" if size > 0 else "none" for size in ends] if ends else ["", ""]
        rows.append([*row, "" if needed is None else f"{needed:,}"])
    return rows
