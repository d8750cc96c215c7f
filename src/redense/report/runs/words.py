"""The sentences of the report. No sentence says more than the run shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from redense.lab.judging.single import ONE_OF_SEVERAL, beside, unmoved
from redense.lab.judging.words import listed
from redense.report.kit.parts import BigFigure
from redense.report.kit.quantities import (
    Number,
    cell,
    count,
    difference,
    duration,
    number,
    percent,
    quantity,
)

from .commands import compare_arm_command, control_command, resume_command
from .reading import EpochLine, PhaseRow, Run, overall_sparsity, zeros


def metric(run: Run, value: float | None) -> str:
    """Return a figure of the run's metric with its unit."""
    return quantity(value, run.metric.unit, run.decimals)


def metric_cell(run: Run, line: EpochLine) -> Number:
    """Return the validation figure of an epoch with its unit, for a table."""
    value = line.validation.get(run.metric.name)
    found = cell(value, run.decimals)
    return replace(found, shown=metric(run, value), unit=run.metric.unit if found.plain else "")


def phase_label(phase: PhaseRow) -> str:
    """Return a phase's name, with its sparsity if it has one."""
    return f"{phase.name} {percent(phase.sparsity)}" if phase.sparse and phase.sparsity else phase.name


# --- the verdict ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """The sentence that comes first, what has to be said with it, a command to run next, and the figures.

    A remark that is empty says nothing.
    """

    sentence: str
    remarks: tuple[str, ...] = ()
    command: str | None = None
    figures: tuple[BigFigure, ...] = ()


def verdict(run: Run) -> Verdict:
    """Return what the run shows, in the words of the design's rule 7: without its control, nothing is called a gain."""
    if not run.finished:
        return _unfinished(run)
    if not run.phases:
        return Verdict("The run has no phase: there is nothing to report.")
    split = "test" if all(run.metric.name in phase.test for phase in run.phases) else "validation"
    if run.arm:
        return _of_arm(run, run.arm, split)
    final, first_sparse = run.phases[-1], run.first_sparse
    if first_sparse is None:
        return _control(run, split)
    what = "sparse model" if final.sparse else "DSD model"
    label = "Sparse model" if final.sparse else "DSD model"
    name, value = f"{split} {run.metric.label}", _figure(run, final, split)
    end = BigFigure(label, metric(run, value), _spent(run, len(run.phases)))
    no_control = BigFigure("Same budget, no mask", "not run", "the control that matters", missing=True)
    if first_sparse == 0:
        sentence = f"The {what}'s {name} is {metric(run, value)}; this run has no dense baseline to hold it against."
        return Verdict(sentence, _facts(run, split), None, (end,))
    base = _figure(run, run.phases[first_sparse - 1], split)
    start = BigFigure("Dense baseline", metric(run, base), _spent(run, first_sparse))
    sentence, better = _compared(run, f"The {what}'s {name}", value, base, "its own dense baseline")
    if better:
        caution = (
            "That alone does not show that the mask helped: training longer helps too. "
            "The control with the same steps and learning rates and no mask was not run here; this trains it:"
        )
    else:
        caution = (
            "What the mask did, as against training longer, only the control with the same steps and learning rates "
            "and no mask can tell. It was not run here; this trains it:"
        )
    still = unmoved([_figure(run, phase, split) for phase in run.phases], run.metric.label, run.recipe)
    remarks = (caution, still, *_facts(run, split))
    return Verdict(sentence, remarks, control_command(run), (start, end, no_control))


def _unfinished(run: Run) -> Verdict:
    if not run.log.phases:
        return Verdict("This run has not finished, and has logged nothing so far.", command=resume_command(run))
    index = len(run.phases)
    of = f" of {run.planned_phases}" if run.planned_phases else ""
    step = run.ends[-1]
    sentence = (
        f"This run has not finished: its log ends in phase {index}{of}, {run.phases[-1].name}, "
        f"after {count(step, 'optimizer step')}. There is no test figure yet, and no verdict."
    )
    figures = tuple(
        BigFigure(
            phase.name.capitalize(),
            metric(run, phase.validation[run.metric.name]),
            f"validation {run.metric.label}" + (" so far" if phase is run.phases[-1] else ""),
        )
        for phase in run.phases
        if run.metric.name in phase.validation
    )
    stopped = "If it was stopped, this goes on from its last checkpoint:"
    return Verdict(sentence, (stopped,), resume_command(run), figures)


def _control(run: Run, split: str) -> Verdict:
    final, name = run.phases[-1], f"{split} {run.metric.label}"
    value = _figure(run, final, split)
    end = BigFigure("Final model, no mask", metric(run, value), _spent(run, len(run.phases)))
    if len(run.phases) == 1:
        sentence = f"This run trained one dense phase, with no mask: its model's {name} is {metric(run, value)}."
        return Verdict(sentence, _facts(run, split), None, (end,))
    base = _figure(run, run.phases[0], split)
    start = BigFigure("After the first phase", metric(run, base), _spent(run, 1))
    compared, _ = _compared(run, f"its final {name}", value, base, "that of its first dense phase", gain_word=False)
    sentence = f"This is a control run, with no mask in any phase: {compared}"
    caution = (
        "That is what training on does by itself, with these steps and learning rates. A DSD run of the same "
        "recipe and seed has to do better than this final figure before its mask can be said to help."
    )
    return Verdict(sentence, (caution, *_facts(run, split)), None, (start, end))


def _of_arm(run: Run, arm: str, split: str) -> Verdict:
    """Return what the run of an arm shows; its first phase may be no baseline, and it has no control."""
    final, first, name = run.phases[-1], run.phases[0], f"{split} {run.metric.label}"
    values = [_figure(run, phase, split) for phase in run.phases]
    figures = [BigFigure(f"Network of {arm}", metric(run, values[-1]), _spent(run, len(run.phases)))]
    if len(run.phases) == 1:
        sentence = f"The {name} of {arm}'s network is {metric(run, values[-1])}."
    else:
        against = f"that of the network after its first phase, {phase_label(first)}"
        sentence, _ = _compared(run, f"The {name} of {arm}'s network", values[-1], values[0], against, gain_word=False)
        figures.insert(0, BigFigure("After the first phase", metric(run, values[0]), _spent(run, 1)))
    told = run.result.get("arm")
    about = f"{arm}: {told['about']}." if isinstance(told, Mapping) and told.get("about") else ""
    caution = f"{ONE_OF_SEVERAL[:1].upper()}{ONE_OF_SEVERAL[1:]}. This makes one:"
    still = unmoved(values, run.metric.label, run.recipe)
    zeros_left = f"It ends under a mask: {phase_label(final)}." if final.sparse else ""
    remarks = (caution, about, zeros_left, still, *_facts(run, split))
    return Verdict(sentence, remarks, compare_arm_command(run), tuple(figures))


def _compared(
    run: Run, subject: str, value: float, base: float, against: str, *, gain_word: bool = True
) -> tuple[str, bool]:
    """The sentence that compares two figures, and whether the first one is the better."""
    shown = metric(run, value)
    found = beside(value, base, lower_is_better=run.metric.lower_is_better)
    if found == "unknown":
        return f"{subject} is {shown}, against {metric(run, base)} of {against}: nothing can be compared.", False
    no_gain = ": no gain" if gain_word and found != "better" else ""
    if found == "same":
        return f"{subject} is {shown}, the same as {against}{no_gain}.", False
    apart = difference(value - base, run.metric.unit, run.decimals)
    side = "below" if value < base else "above"
    return f"{subject} is {shown}, {apart} {side} {against}{no_gain}.", found == "better"


def _figure(run: Run, phase: PhaseRow, split: str) -> float:
    return (phase.test if split == "test" else phase.validation).get(run.metric.name, math.nan)


def _spent(run: Run, phases: int) -> str:
    return f"after {count(sum(phase.epochs for phase in run.phases[:phases]), 'epoch')}"


def _facts(run: Run, split: str) -> tuple[str, ...]:
    """List the cost of a run, what one seed can say, and what was measured."""
    one = f"One seed is one seed: how much of any difference is chance, this run (seed {run.seed}) cannot say."
    return (_cost(run), "" if run.seed is None else one, _split(run, split))


def _cost(run: Run) -> str:
    """Describe the cost, and the dense baseline's share of it."""
    steps, seconds = run.ends[-1], run.result.get("seconds")
    spent = f" and {duration(seconds)}" if isinstance(seconds, int | float) else ""
    epochs = sum(phase.epochs for phase in run.phases)
    text = f"It cost {count(epochs, 'epoch')}, {count(steps, 'optimizer step')}{spent}"
    if run.first_sparse and steps and not run.arm:
        text += f"; up to the dense baseline it was {count(run.ends[run.first_sparse - 1], 'step')}"
    return f"{text}."


def _split(run: Run, split: str) -> str:
    better = f"{run.metric.direction}. " if run.metric.direction else ""
    if split == "validation":
        return f"{better}The run has no test figure, so these are of the validation split, on which choices were made."
    examples = run.result.get("test_examples")
    return f"{better}Measured on {count(examples, 'test example')}." if examples else better.strip()


# --- the sections' opening sentences --------------------------------------------------------------------------------


def phases_sentence(run: Run) -> str:
    """Return the sentence above the table of phases."""
    if not run.phases:
        return "No phase has begun."
    split = "test" if any(phase.test for phase in run.phases) else "validation"
    shown = [metric(run, _figure(run, p, split)) for p in run.phases if (p.test if split == "test" else p.validation)]
    known = sum(phase.seconds for phase in run.phases if phase.seconds is not None)
    if run.finished:
        text = f"{count(len(run.phases), 'phase')} took {duration(known)}"
    else:
        text = f"{count(len(run.phases), 'phase')} began so far, with {duration(known)} of finished epochs"
    end = "its end" if len(run.phases) == 1 else "the end of each"
    return f"{text}; {split} {run.metric.label} at {end}: {', then '.join(shown)}." if shown else f"{text}."


def kept_sentence(run: Run) -> str:
    """Return which epoch each phase has kept, and by what; nothing where all kept their last."""
    on = "by the loss on validation data" if run.keep_by == "loss" else "on validation data"
    if run.phases and (last := run.phases[-1]).kept_of:
        return f"Kept, as the best of the whole run {on}: {last.kept_of} epoch {last.kept:g}."
    kept = [(phase, phase.kept) for phase in run.phases if phase.kept is not None]
    told = (f"{p.name} {f'epoch {epoch:g} of {p.epochs:g}' if epoch else 'what it began with'}" for p, epoch in kept)
    return f"Kept, as the best {on}: {', '.join(told)}." if kept else ""


def curves_sentence(run: Run) -> str:
    """Return the sentence above the curves."""
    epochs = run.log.epochs
    if not epochs:
        logged = count(len(run.log.steps), "step")
        return f"No epoch has ended yet; {logged} of training loss {'is' if len(run.log.steps) == 1 else 'are'} logged."
    text = _losses(epochs)
    best = best_epoch(run)
    if best is None:
        return f"{text}."
    last = epochs[-1].validation.get(run.metric.name, math.nan)
    value = best.validation[run.metric.name]
    extreme = "highest" if run.metric.lower_is_better is False else "lowest"
    if best is epochs[-1]:
        return f"{text}; the validation {run.metric.label} was {extreme} at the very end, {metric(run, value)}."
    return (
        f"{text}; the validation {run.metric.label} was {extreme}, {metric(run, value)}, at step {best.step:,} "
        f"in phase {best.phase_name}, and ended at {metric(run, last)}."
    )


def _losses(epochs: Sequence[EpochLine]) -> str:
    """Return where the training loss came from and went to, for each of the losses that phases train with."""
    parts: list[str] = []
    for by, group in groupby(epochs, key=lambda line: line.loss_with):
        lines = list(group)
        first, last = (number(line.train_loss, 3) for line in (lines[0], lines[-1]))
        if len(lines) == len(epochs):
            return f"The training loss went from {first} in the first epoch to {last} in the last"
        way = f"went from {first} to {last}" if len(lines) > 1 else f"was {first}"
        names = listed(dict.fromkeys(line.phase_name for line in lines))
        parts.append(f"{way} in {names}{f', with {listed(by)}' if by else ''}")
    return f"The training loss is not one and the same in all phases: it {', then it '.join(parts)}"


def best_epoch(run: Run) -> EpochLine | None:
    """Return the epoch with the best validation figure, the last of equals."""
    known = [line for line in run.log.epochs if math.isfinite(line.validation.get(run.metric.name, math.nan))]
    sign = -1 if run.metric.lower_is_better is False else 1
    return min(reversed(known), key=lambda line: sign * line.validation[run.metric.name], default=None)


def layers_sentence(run: Run) -> str:
    """Return the sentence above the layers."""
    if not run.layers:
        return "The layers and their sparsities are listed when the run has finished."
    total = sum(layer.weights for layer in run.layers)
    prunable = sum(layer.prunable for layer in run.layers)
    layers = list(run.layers)
    peak = max(range(len(run.phases)), key=lambda index: zeros(layers, index), default=None)
    of = f"{prunable} of {count(len(layers), 'layer')} may be pruned"
    if peak is None or not zeros(layers, peak):
        when = "in no epoch that was kept" if any(phase.kept_of for phase in run.phases) else "at no phase's end"
        return f"{of}; {when} was a weight of the {total:,} zero."
    rate = percent(overall_sparsity(layers, peak))
    text = (
        f"{of}; at the end of {run.phases[peak].name}, {zeros(layers, peak):,} of {total:,} weights ({rate}) were zero"
    )
    last = len(run.phases) - 1
    return f"{text}." if peak == last else f"{text}, and {zeros(layers, last):,} at the end of the run."


def provenance_sentence(run: Run) -> str:
    """Return the sentence above recipe, environment and commands."""
    lines = len((run.recipe_text or "").splitlines())
    recipe = f"The recipe has {count(lines, 'line')}" if lines else "The recipe is missing"
    logged = count(len(run.log.steps) + len(run.log.epochs), "record")
    damaged = f" and {count(run.log.unreadable, 'line')} that cannot be read" if run.log.unreadable else ""
    return f"{recipe}, the log {logged}{damaged}."
