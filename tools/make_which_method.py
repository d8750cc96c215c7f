"""Write docs/which-method.md: what helped, over all experiments of results/, against the strongest simple control.

Every number of the page is computed here from the raw tables, and every sentence on them stands beside a condition on
the numbers: a sentence that is no longer true stops this script. `tests/test_which_method.py` runs it again.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import redense
from redense.lab.arms import ARMS
from redense.lab.judging.figures import ArmFigures
from redense.lab.judging.judge import Judgement
from redense.lab.judging.statistics import compare_paired, holm
from redense.lab.judging.words import listed

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "which-method.md"
MEMORY = ROOT / "benchmarks" / "results" / "memory_of_arms-1-thread.json"
TEMPLATE = Path(__file__).with_name("which_method.md")
BASELINE = "baseline"
DRAWS = 4000  # resamples of the pooled table
MARGIN = 0.1  # of the experiment of a trained baseline, set before it was run
_RANKED = 20  # a table of more arms is in the order of its first column


@dataclass(frozen=True)
class Experiment:
    """A folder of results/, what it is called in the tables, and the folders of other seeds that it is joined with."""

    folder: str
    label: str
    more: tuple[str, ...] = ()


OPTIMIZERS = Experiment("captions-optimizers", "NeuralTalk, optimizers and their rates, BLEU-4")
"""Of arms of a plugin, which no table of `redense arms` has."""
SMALL = "Right labels, 2,000 images"
NOISE = "Wrong labels of 2,000 images, how many and when it stops"
PRETRAINED = "A pretrained start"
EVERYONE = "Every arm, at its defaults"
STRONGEST = "Some arms elsewhere, at their defaults"
CONVERGED = "Right labels, images, a baseline that is trained to its end"
GROUPS = {
    "Right labels, images": (
        Experiment("quickstart", "quickstart's CNN"),
        Experiment("fashion-mnist-cnn", "the CNN, 60,000 images"),
        Experiment("fashion-mnist-resnet20", "ResNet-20"),
        Experiment("fashion-mnist-squeezenet", "SqueezeNet"),
        Experiment("fashion-mnist-vgg", "VGG"),
    ),
    CONVERGED: (
        Experiment("converged", "quickstart's CNN, 40 epochs"),
        Experiment("converged-half", "the same, at higher rates"),
        Experiment("converged-resnet20", "ResNet-20, 30 epochs"),
        Experiment("converged-resnet20-half", "ResNet-20, at higher rates"),
        Experiment("converged-resnet20-ten", "ResNet-20, ten other seeds"),
    ),
    SMALL: (
        Experiment("noise-00-last", "MLP, the last epoch kept"),
        Experiment("noise-00-best", "the best epoch of each phase kept"),
    ),
    NOISE: tuple(
        Experiment(f"noise-{wrong}0-{keep}", f"{wrong}0 % wrong, the {keep} epoch kept")
        for wrong in "13"
        for keep in ("last", "best")
    ),
    PRETRAINED: (
        Experiment("transformer", "a small BERT, 400 mails with labels"),
        Experiment("pretrained", "EfficientNet-Lite0, solar cells"),
    ),
    EVERYONE: (
        Experiment("arms-quickstart", "quickstart's CNN", ("arms-quickstart-more",)),
        Experiment("arms-noisy", "wrong labels, every phase stopped early"),
    ),
    STRONGEST: (
        Experiment("arms-fashion", "the CNN, 60,000 images"),
        Experiment("arms-resnet20", "ResNet-20, 12 epochs"),
        Experiment("arms-captions", "NeuralTalk, BLEU-4"),
        Experiment("arms-captions-more", "NeuralTalk, other arms, BLEU-4"),
        Experiment("arms-captions-rest", "NeuralTalk, the remaining arms, BLEU-4"),
        Experiment("arms-captions-smooth", "NeuralTalk, label smoothing, BLEU-4"),
        Experiment("arms-speech", "BLSTM, WER"),
    ),
    "Wrong labels": (
        Experiment("noisy-labels", "MLP, learned by heart"),
        Experiment("noisy-labels-best", "the best epoch kept"),
        Experiment("noisy-labels-search", "the same, a search"),
        Experiment("noisy-labels-early-llr", "every phase stopped early"),
        Experiment("soups", "the same, averages"),
        Experiment("arms-noisy-muon", "the same, and Muon"),
    ),
    "Captions and speech": (
        Experiment("emoji-neuraltalk", "NeuralTalk, BLEU-4"),
        Experiment("prompts-es-deepspeech", "Deep Speech, WER"),
        Experiment("prompts-es-blstm", "BLSTM, WER"),
    ),
}


@dataclass(frozen=True)
class Cell:
    """An arm in one experiment.

    Args:
        gain: points ahead of the control, whichever way is better; negative: behind it.
        interval: of 95 %, not corrected.
        verdict: corrected over all of the experiment's verdicts (Holm); empty where there is none.
        wins: for each seed 1 where the arm is ahead of the control, 0.5 where they tie.
        steps: optimizer steps as a multiple of the control's.
    """

    setting: str
    gain: float
    interval: tuple[float, float]
    verdict: str
    wins: tuple[float, ...]
    steps: float


@dataclass(frozen=True)
class Column:
    """An experiment, judged: the control that decides, and each other arm at the setting that validation chose."""

    experiment: Experiment
    control: str
    n: int
    cells: dict[str, Cell]
    seconds: dict[str, float]
    figures: dict[str, ArmFigures]
    lower: bool
    told: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def ahead(self, arm: str, other: str) -> list[float]:
        """How far an arm is ahead of another, a value a seed, each at the setting that validation chose."""
        first, second = (self.figures[self.setting(name)].values for name in (arm, other))
        sign = 1 if self.lower else -1
        return [sign * (second[seed] - first[seed]) for seed in sorted(set(first) & set(second))]

    def setting(self, arm: str) -> str:
        return self.control if self.has_control(arm) else self.cells[arm].setting

    def has_control(self, arm: str) -> bool:
        """Whether the control is a setting of this arm."""
        return arm == self.control.partition(" ")[0]

    def has(self, *arms: str) -> bool:
        return all(arm in self.cells or arm == self.control for arm in arms)


def best_on_validation(names: Iterable[str], arms: dict[str, ArmFigures], lower: bool) -> str:
    """Return the setting with the best mean on validation figures; the first of equal ones."""
    sign = 1 if lower else -1
    return min(names, key=lambda name: sign * float(np.mean(list(arms[name].validation.values()))))


def judged(experiment: Experiment) -> Column:
    folder = ROOT / "results" / experiment.folder
    first = folder if (folder / "compare.json").exists() else folder / "compare.csv"
    result: Judgement = redense.judge([first, *(ROOT / "results" / name for name in experiment.more)])
    decision, arms = result.decision, dict(result.figures)
    (control,) = decision.deciding
    lower = decision.lower_is_better
    named: dict[str, list[str]] = {}
    for arm in arms:
        named.setdefault(arm.partition(" ")[0], []).append(arm)
    cells: dict[str, Cell] = {}
    # Two controls are not set against each other: no verdict.
    told: dict[tuple[str, str], str] = {(c.arm, c.against): c.verdict for c in decision.contrasts}
    for name, settings in named.items():
        chosen = best_on_validation(settings, arms, lower)
        if chosen == control:
            continue
        seeds = sorted(set(arms[chosen].values) & set(arms[control].values))
        ahead = [arms[control].values[s] - arms[chosen].values[s] for s in seeds]
        ahead = ahead if lower else [-value for value in ahead]
        paired = compare_paired(ahead, [0.0] * len(ahead))
        assert paired.interval is not None
        # The arm's own verdict is the folder's; a baseline has none, so it is the control's, turned round.
        turned = {"better": "worse", "worse": "better"}
        back = told.get((control, chosen), "")
        verdict = told.get((chosen, control)) or turned.get(back, back)
        steps = (arms[chosen].steps or 0) / (arms[control].steps or 1)
        wins = tuple(1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in ahead)
        cells[name] = Cell(chosen, paired.mean, (paired.interval[0], paired.interval[1]), verdict, wins, steps)
    costs = folder / "costs.json"
    seconds = json.loads(costs.read_text()) if costs.exists() else {}
    return Column(experiment, control, decision.seeds, cells, seconds, arms, lower, told)


# --- tables ---------------------------------------------------------------------------------------------------------


def signed(value: float, digits: int = 2) -> str:
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'−' if value < 0 else '+'}{text}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@cache
def compared(folder: str) -> Mapping[str, Any]:
    """The ``compare.json`` of an experiment; empty where it keeps a table alone."""
    path = ROOT / "results" / folder / "compare.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def rows_of(folder: str) -> dict[str, Mapping[str, Any]]:
    """The rows of `compared` by arm."""
    return {row["arm"]: row for row in compared(folder).get("rows", ())}


def gradients_a_step(column: Column, arm: str) -> float:
    """The gradients that a step of an arm takes, in the mean; 1 where the experiment keeps no such number."""
    found = rows_of(column.experiment.folder).get(column.setting(arm), {})
    return found["gradients"] / found["steps"] if found.get("gradients") else 1.0


def arms_of(columns: Iterable[Column]) -> list[str]:
    """The arms that any of the experiments has: baseline and controls, then the others as `redense arms` lists them."""
    found = {name for column in columns for name in (*column.cells, column.control.partition(" ")[0])}
    first = [BASELINE, "restart", "llr", "longer"]
    order = [*first, *(name for name in ARMS if name not in first)]
    return [name for name in order if name in found]


def group_table(columns: Sequence[Column]) -> str:
    def cell(column: Column, name: str) -> str:
        if column.has_control(name):
            return "the control"
        if name not in column.cells:
            return ""
        one = column.cells[name]
        setting = one.setting.partition(" ")[2].replace("sparsity=", "")
        low, high = (signed(value) for value in one.interval)
        said = f"{signed(one.gain)} ({low} to {high}){'*' if one.verdict in ('better', 'worse') else ''}"
        said += "†" if column.figures[one.setting].bound else ""
        return f"{said}, at {setting}" if setting else said

    def place(name: str) -> float:
        first = columns[0]
        return -first.cells[name].gain if name in first.cells else 0.0 if first.has_control(name) else math.inf

    head = ["arm", *(f"{column.experiment.label}, n = {column.n}" for column in columns)]
    names = arms_of(columns)
    if len(names) > _RANKED:
        names = sorted(names, key=place)
    return table(head, ([f"`{name}`", *(cell(column, name) for column in columns)] for name in names))


def pooled(columns: Sequence[Column], name: str) -> tuple[float, float, float, int]:
    """The probability that an arm is ahead of the control in a seed, a mean over experiments, with its 95 % interval.

    As in Agarwal et al., NeurIPS 2021 (rliable), for paired seeds: seeds are drawn again within each experiment.
    """
    wins = [np.array(column.cells[name].wins) for column in columns if name in column.cells]
    random = np.random.default_rng(0)
    draws = np.mean([w[random.integers(0, len(w), (DRAWS, len(w)))].mean(1) for w in wins], axis=0)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(np.mean([w.mean() for w in wins])), float(low), float(high), len(wins)


def pooled_table(groups: dict[str, list[Column]]) -> str:
    def cell(columns: list[Column], name: str) -> str:
        if not any(name in column.cells for column in columns):
            return ""
        value, low, high, count = pooled(columns, name)
        said = f"{value:.0%} ({low:.0%} to {high:.0%}), {count}".replace("%", " %")
        other = any(column.figures[column.cells[name].setting].bound for column in columns if name in column.cells)
        return f"{said}†" if other else said

    several = {group: columns for group, columns in groups.items() if len(columns) > 1}  # one is in its own table
    everything = [column for columns in several.values() for column in columns]
    head = ["arm", *several]
    return table(head, ([f"`{name}`", *(cell(c, name) for c in several.values())] for name in arms_of(everything)))


@cache
def memory() -> Mapping[str, Mapping[str, int]]:
    """Bytes at the peak of a training, by network and arm."""
    return json.loads(MEMORY.read_text(encoding="utf-8"))["facts"]


def memory_of(arm: str) -> str:
    """The memory of an arm as a multiple of the dense baseline's, on each network that was counted."""
    peaks = [f"{own[arm] / own[BASELINE]:.2f}" if arm in own else "—" for own in memory().values()]
    return " / ".join(peaks) if any(arm in own for own in memory().values()) else ""


def cost_table(columns: Sequence[Column]) -> str:
    rows: list[list[str]] = []
    for name in arms_of(columns):
        has = [column for column in columns if name in column.cells]
        steps = [column.cells[name].steps for column in has]
        seconds = [
            column.seconds[column.cells[name].setting] / column.seconds[column.control]
            for column in has
            if column.cells[name].setting in column.seconds and column.control in column.seconds
        ]
        if not has:
            continue
        spread = f"{min(steps):.2f}" if max(steps) - min(steps) < 0.005 else f"{min(steps):.2f} to {max(steps):.2f}"
        took = f"{np.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})" if seconds else "not kept"
        gradients = max(gradients_a_step(column, name) for column in has)
        rows.append([f"`{name}`", str(len(has)), spread, f"{gradients:.3g}", took, memory_of(name)])
    head = ["arm", "experiments", "steps", "gradients a step", "seconds, median and range", "memory, CNN / MLP"]
    return table(head, rows)


# --- sentences ------------------------------------------------------------------------------------------------------


def claim(name: str, condition: bool, sentence: str) -> tuple[str, str]:
    """Return a sentence that holds, behind its name.

    Raises:
        SystemExit: it does not.
    """
    if not condition:
        raise SystemExit(f"which-method: no longer true: {sentence}")
    return name, sentence


def quoted(arms: Sequence[str]) -> str:
    """Arms as a sentence names them."""
    return listed(f"`{arm}`" for arm in arms)


def interval(ahead: Sequence[float]) -> tuple[float, float]:
    """The mean of paired differences and half the width of its 95 % interval."""
    paired = compare_paired(ahead, [0.0] * len(ahead))
    assert paired.interval is not None
    return paired.mean, (paired.interval[1] - paired.interval[0]) / 2


def right_labels(groups: dict[str, list[Column]]) -> list[Column]:
    """The experiments whose labels are right."""
    (everyone, _), wrong = groups[EVERYONE], (NOISE, EVERYONE, "Wrong labels")
    return [everyone, *(column for group, columns in groups.items() if group not in wrong for column in columns)]


def answers(groups: dict[str, list[Column]]) -> Iterator[tuple[str, str]]:
    """The answer in ten plain sentences, by the names of their numbers in the template; the first two are README's.

    What each of them stands on is in `reasons`.
    """
    everyone, noisy = groups[EVERYONE]
    fashion, residual, *speaking = groups[STRONGEST]
    rest = speaking[2]
    (converged, higher, *_), (bert, cells), small = groups[CONVERGED], groups[PRETRAINED], groups[SMALL]
    right = right_labels(groups)

    dsd, half = converged.cells["dsd"], higher.cells["dsd"]
    baseline = max(abs(float(np.mean(column.ahead("dsd", BASELINE)))) for column in (converged, higher))
    yield claim(
        "converged",
        (converged.control, dsd.setting, dsd.verdict) == ("longer", "dsd sparsity=0.3", "worse")
        and converged.told[dsd.setting, BASELINE] == converged.told["restart", BASELINE] == "equivalent"
        and converged.told["longer", BASELINE] == "better"
        and higher.told[half.setting, BASELINE] == "equivalent"
        and converged.n == higher.n
        and baseline < MARGIN,
        "To a small CNN that is trained for 40 epochs, until its validation error is flat, DSD adds nothing, neither "
        f"at the paper's learning rates (1 / 0.1 / 0.01) nor at higher ones (1 / 0.5 / 0.1): over {converged.n} seeds "
        f"it is equal to its dense baseline within {MARGIN} points of test error, and at the paper's it is "
        f"{-dsd.gain:.1f} points behind one schedule as long as all three phases (`longer`).",
    )
    yield claim(
        "none",
        not any(cell.verdict == "better" for column in right for cell in column.cells.values()),
        f"In none of the {len(right)} experiments with right labels, on images, mails, captions and speech, is "
        "dense-sparse-dense training or any other arm shown to be ahead of the strongest control without a mask.",
    )
    over = float(np.mean(fashion.ahead("longer", "dsd")))
    yield claim(
        "clean",
        everyone.control == "longer"
        and fashion.told["longer", BASELINE] == everyone.told["longer", BASELINE] == "better"
        and min(fashion.ahead("longer", "dsd")) > 0
        and fashion.control == "dropout"
        and residual.control == "longer",
        "Clean data: first train longer, in one schedule without a mask (`longer`). On 9,000 images that is "
        f"{-everyone.cells[BASELINE].gain:.1f} points better than the dense baseline and "
        f"{-everyone.cells['dsd'].gain:.1f} better than DSD (with a ResNet-20 {-residual.cells['dsd'].gain:.1f}), on "
        f"54,000 images {over:.1f} better than DSD ({{{{ #longer }}}}, {{{{ #images }}}}, {{{{ #residual }}}}).",
    )
    yield claim(
        "few",
        not any(told == "better" for column in small for told in column.told.values()),
        "Small data: with 2,000 images nothing that we tried is shown to help a small network, with early stopping or "
        "without ({{ #small }}).",
    )
    of_noisy = {name: float(np.mean(noisy.ahead(name, BASELINE))) for name in ("gce", "augment", "dsd")}
    (another,) = (one for one in groups["Wrong labels"] if one.experiment.folder == "arms-noisy-muon")
    yield claim(
        "wrong",
        all(noisy.told[name, BASELINE] == "better" for name in of_noisy)
        and (another.control, another.told["muon", BASELINE]) == ("muon", "better")
        and min(float(np.mean(noisy.ahead("gce", "dsd"))), float(np.mean(noisy.ahead("augment", "dsd")))) > 0.5,
        "Noisy labels: keep the best epoch, then try a robust loss (`gce`) or augmented images (`augment`): "
        f"{of_noisy['gce']:.1f} and {of_noisy['augment']:.1f} points better than early stopping alone, where DSD gives "
        f"{of_noisy['dsd']:.1f}. Another optimizer (`muon`) gave {-another.cells[BASELINE].gain:.1f} in an "
        "experiment of its own ({{ #best }}, {{ #robust }}).",
    )
    solar = float(np.mean(cells.ahead("longer", BASELINE)))
    yield claim(
        "start",
        bert.told["restart", BASELINE] == cells.told["longer", BASELINE] == "better"
        and {bert.cells["dsd"].verdict, cells.cells["dsd"].verdict} == {"no difference shown"},
        "Pretrained weights: fine-tune for longer, without a mask: "
        f"{-bert.cells[BASELINE].gain:.1f} points on mails (`restart`), {solar:.1f} on solar cells (`longer`); that a "
        "mask adds anything is shown for neither ({{ #pretrained }}).",
    )
    others = groups["Captions and speech"]
    blstm = others[-1]
    better = [
        (column.experiment.folder, arm)
        for column in (*speaking, *others)
        for (arm, than), told in column.told.items()
        if than == BASELINE and told == "better"
    ]
    muon = float(np.mean(rest.ahead("muon", BASELINE)))
    yield claim(
        "optimizer-first",
        better == [(rest.experiment.folder, "muon"), (blstm.experiment.folder, "restart")],
        "Captions and speech: on captions another optimizer (`muon`) alone is shown to be better than the dense "
        f"baseline, by {muon:.1f} points of BLEU-4; on speech training on (`restart`) alone, by "
        f"{-blstm.cells[BASELINE].gain:.1f} points of word error rate for a BLSTM. `muon` was not tried on speech "
        "({{ #others }}, {{ #optimizer }}, {{ #spoken }}).",
    )
    gains = [float(np.mean(column.ahead("ensemble", BASELINE))) for column in (everyone, noisy)]
    yield claim(
        "spare",
        gains[0] < float(np.mean(everyone.ahead("longer", BASELINE)))
        and noisy.control == "distill"
        and noisy.told["distill", BASELINE] == "better"
        and gains[1] > -noisy.cells[BASELINE].gain,
        "Time to spare: on wrong labels train networks of other seeds and let them teach one more (`distill`, "
        f"{-noisy.cells[BASELINE].gain:.1f} points) or answer together (`ensemble`, {gains[1]:.1f}, at as many times "
        f"the cost at inference); on clean images `ensemble` gives {gains[0]:.1f} points, less than `longer`.",
    )
    llr = [value for column in groups["Right labels, images"] for value in column.ahead("dsd", "llr")]
    yield claim(
        "fair",
        min(llr) > 0,
        "If you use DSD all the same, prune by magnitude, prune once, and compare it with `longer` and `restart`: "
        f"against a lower learning rate alone, the paper's control, it wins in all {len(llr)} seeds of five "
        "experiments on images and would pass for a gain ({{ #llr }}, {{ #magnitude }}, {{ #twice }}).",
    )
    found = {
        arm: {column.told.get((arm, BASELINE)) for column in right if column.has(arm)}
        for arm in arms_of(right)
        if arm != BASELINE
    }
    never = [arm for arm, told in found.items() if "better" not in told]
    worse = [arm for arm in never if "worse" in found[arm]]
    yield claim(
        "never",
        worse == ["self-distill", "schedule-free"]
        and all(everyone.told[arm, BASELINE] == "worse" for arm in worse)
        and len(never) > len(worse),
        "What never helped on right labels, at its defaults: `self-distill` and `schedule-free`, both shown to be "
        f"worse than the dense baseline on the quickstart; and {quoted([arm for arm in never if arm not in worse])}, "
        "nowhere shown to be better.",
    )


def reasons(groups: dict[str, list[Column]]) -> Iterator[tuple[str, str]]:
    """What the answers stand on, in sentences by the names of their numbers in the template."""
    clean, others = groups["Right labels, images"], groups["Captions and speech"]
    everyone, noisy = groups[EVERYONE]
    fashion, residual, talker, teachers, rest, smoothed, spoken = groups[STRONGEST]
    (converged, higher, resnet, residual_higher, ten), (bert, cells), small = (
        groups[CONVERGED],
        groups[PRETRAINED],
        groups[SMALL],
    )
    right = right_labels(groups)
    by_name = {column.experiment.folder: column for columns in groups.values() for column in columns}

    again, more = resnet.cells["dsd"], ten.cells["dsd"]
    half, own = (ten.figures[name].values for name in ("dsd sparsity=0.5", BASELINE))
    costs = float(np.mean([own[seed] - half[seed] for seed in own]))
    yield claim(
        "resnet",
        (resnet.control, again.verdict, resnet.told["dsd", BASELINE]) == ("longer", "no difference shown", "equivalent")
        and all(np.mean(resnet.ahead(name, "dsd")) > 0 for name in (BASELINE, "restart", "llr", "longer"))
        and (ten.control, more.setting, more.verdict) == ("longer", "dsd sparsity=0.3", "no difference shown")
        and min(ten.ahead("longer", "dsd")) > 0
        and ten.told["dsd sparsity=0.5", BASELINE] == "worse",
        f"ResNet-20 of 30 epochs says what the small CNN of 40 says, over {resnet.n} seeds and over {ten.n} others: "
        f"at 30 %, which validation figures choose, DSD is behind `longer` in each of the {ten.n}, by "
        f"{-more.gain:.1f} points on average (not shown after correction), and at 50 %, the paper's sparsity, it is "
        f"{-costs:.1f} points worse than its own dense baseline.",
    )
    by_half = higher.cells["dsd"]
    yield claim(
        "rates",
        (higher.control, by_half.setting, by_half.verdict) == ("restart", "dsd sparsity=0.5", "no difference shown")
        and higher.told["dsd sparsity=0.3", "restart"] == higher.told["dsd sparsity=0.5", BASELINE] == "equivalent"
        and higher.told["dsd sparsity=0.3", BASELINE] == "no difference shown"
        and by_half.gain < 0
        and residual_higher.control == "longer"
        and set(residual_higher.told.values()) == {"no difference shown"},
        "Nor is it the paper's low rates: with higher ones (1 / 0.5 / 0.1) the CNN of 40 epochs gains "
        f"nothing by a mask over {higher.n} seeds. At 50 %, which validation figures choose, DSD is equal to its dense "
        f"baseline and {-by_half.gain:.1f} points behind `restart` (not shown); at 30 % it is equal to `restart`. A "
        f"ResNet-20 of 30 epochs shows nothing at these rates over {residual_higher.n} seeds.",
    )
    ranked = sorted(everyone.cells, key=lambda name: -everyone.cells[name].gain)
    same = [name for name in ranked if not everyone.figures[name].bound]  # as the network that the control ends with
    yield claim(
        "longer",
        everyone.control == "longer"
        and everyone.cells[same[0]].gain < 0
        and everyone.cells["dsd"].verdict == "worse"
        and everyone.cells["surgery"].verdict == "equivalent"
        and everyone.cells[BASELINE].gain < everyone.cells["dsd"].gain < everyone.cells["restart"].gain,
        f"Where all arms were tried, untuned, on the quickstart, over {everyone.n} seeds, `longer` has the best mean "
        "error of all that end in its network, "
        f"{-everyone.cells[BASELINE].gain:.1f} points ahead of the dense baseline, "
        f"{-everyone.cells['restart'].gain:.1f} of `restart` (DSD's steps and rates without its mask) and "
        f"{-everyone.cells['dsd'].gain:.1f} of DSD.",
    )
    fewer = ("restart", "swa", "lawa", "anneal", "early", "dsd", "surgery")
    yield claim(
        "images",
        fashion.control == "dropout"
        and fashion.cells["dsd"].verdict == "worse"
        and fashion.told["longer", BASELINE] == "better"
        and all(min(fashion.ahead("longer", name)) > 0 for name in fewer),
        "With six times the images, each seen less often, one long schedule is again ahead of all arms of several "
        "phases that keep the recipe's dropout, in every seed, and of DSD by "
        f"{float(np.mean(fashion.ahead('longer', 'dsd'))):.1f} points. To leave that dropout away (`dropout`) is "
        f"better still, by {-fashion.cells['longer'].gain:.1f} points.",
    )
    yield claim(
        "residual",
        residual.control == "longer"
        and residual.cells["dsd"].verdict == "worse"
        and all(min(residual.ahead("longer", name)) > 0 for name in (BASELINE, "restart", "dsd", "late-depth"))
        and residual.told["late-depth", BASELINE] == "better"
        and min(residual.ahead("restart", "late-depth")) > 0,
        f"With a ResNet-20 of 12 epochs `longer` is ahead of all, in each of {residual.n} seeds: of DSD by "
        f"{-residual.cells['dsd'].gain:.1f} points, of `restart` by {-residual.cells['restart'].gain:.1f}. Stochastic "
        "depth after the dense phase (`late-depth`), which needs such a network, is "
        f"{float(np.mean(residual.ahead('restart', 'late-depth'))):.1f} points behind `restart`.",
    )
    behind = [-column.cells[BASELINE].gain for column in clean]
    yield claim(
        "restart",
        all(column.control.startswith("restart") and column.cells[BASELINE].verdict == "worse" for column in clean)
        and max(cell.gain for column in clean for cell in column.cells.values()) < 0,
        "Where the baseline stops early, the steps and learning rates of DSD alone (`restart`) end "
        f"{min(behind):.1f} to {max(behind):.1f} points of test error ahead of it, in all {len(clean)} experiments on "
        "images that had no `longer`; every other arm has a worse mean there.",
    )
    llr = [column.ahead("dsd", "llr") for column in clean]
    means = [float(np.mean(values)) for values in llr]
    yield claim(
        "llr",
        min(map(min, llr)) > 0 and float(np.mean(converged.ahead("dsd", "llr"))) < 0,
        f"A lower learning rate (`llr`), the paper's control, is too weak a control: DSD is ahead of it in all "
        f"{sum(map(len, llr))} seeds of these experiments on images, by {min(means):.2f} to {max(means):.2f} points, "
        "and would pass for a gain. On the CNN of 40 epochs it is not ahead.",
    )
    means = [float(np.mean(column.ahead("dsd", "random"))) for column in clean]
    yield claim(
        "magnitude",
        min(means) > 0,
        "If you prune, prune by magnitude: at random costs "
        f"{min(means):.1f} to {max(means):.1f} points more on images.",
    )
    twice = [column for column in right if column.has("dsd", "dsd-iter")]
    yield claim(
        "twice",
        len(twice) == 5
        and all(np.mean(column.ahead("dsd", "dsd-iter")) > 0 for column in twice if column is not teachers)
        and abs(float(np.mean(teachers.ahead("dsd", "dsd-iter")))) < 0.01
        and everyone.cells["dsd-iter3"].gain < everyone.cells["dsd-iter"].gain,
        "Two iterations in as many steps as one (`dsd-iter`) have the worse mean in four of the five experiments with "
        "right labels that tried them, and the same in one on captions; three iterations have a worse one than two.",
    )
    yield claim(
        "pretrained",
        bert.control == "restart"
        and all(bert.told[name, BASELINE] == "better" for name in ("dsd", "random", "restart", "llr", "longer"))
        and bert.cells["dsd"].verdict == bert.cells["random"].verdict == "no difference shown"
        and abs(bert.cells["dsd"].gain) < 0.1
        and bert.cells["random"].gain > bert.cells["dsd"].gain,
        "A pretrained transformer that is fine-tuned on 400 mails gains "
        f"{-bert.cells[BASELINE].gain:.1f} points by training on, with `restart`, and nothing more by a mask: `dsd` is "
        f"{-bert.cells['dsd'].gain:.2f} points behind it over {bert.n} seeds (not shown), and random pruning has a "
        "better mean than pruning by magnitude.",
    )
    yield claim(
        "small",
        all(abs(column.cells["dsd"].gain) < 0.2 and column.n == 6 for column in small)
        and not any(told == "better" for column in small for told in column.told.values()),
        "On 2,000 images with right labels an MLP gains nothing that six seeds show by any of `dsd` at 80 to 95 %, "
        "`restart`, `llr`, `forget` and `gce`, with early stopping or without.",
    )
    another = by_name["arms-noisy-muon"]
    heart, kept, early = (by_name[name] for name in ("noisy-labels", "noisy-labels-best", "noisy-labels-early-llr"))
    dsd, random = heart.cells["dsd"], heart.cells["random"]
    yield claim(
        "heart",
        (dsd.setting, random.setting) == ("dsd sparsity=0.95", "random sparsity=0.8")
        and (dsd.verdict, random.verdict) == ("better", "better"),
        "With wrong labels that the network has learned by heart, and no early stopping, a strong mask makes it forget "
        f"them: `dsd` at 95 % ends {dsd.gain:.1f} points ahead of the control, and `random` at 80 % {random.gain:.1f}.",
    )
    stopped, forgot = kept.figures[BASELINE].values, heart.figures[dsd.setting].values
    gain = [forgot[seed] - stopped[seed] for seed in sorted(stopped)]
    yield claim(
        "best",
        set(stopped) == set(forgot) and len(gain) == 8 and min(gain) > 0,
        f"But keep the best epoch instead: the dense network alone, at its best epoch, is {np.mean(gain):.1f} points "
        "ahead of that DSD over the same eight seeds, and ahead in each.",
    )
    yield claim(
        "early",
        early.control == "llr" and early.cells["dsd"].verdict == "worse",
        "Where every phase is stopped early, lower the learning rate: `llr` is "
        f"{-early.cells['dsd'].gain:.2f} points ahead of `dsd` over {early.n} seeds.",
    )
    last, best = by_name["noise-30-last"], by_name["noise-30-best"]
    forgot, stopped = last.figures[last.cells["dsd"].setting].values, best.figures[BASELINE].values
    gain = [forgot[seed] - stopped[seed] for seed in sorted(stopped)]
    primary = [
        compare_paired(column.ahead("dsd", column.control.partition(" ")[0]), [0.0] * column.n).p_t
        for column in (*small, *groups[NOISE])
    ]
    corrected = holm(primary)[len(small) + 2]
    yield claim(
        "noise",
        len(primary) == 6
        and (last.cells["dsd"].verdict, last.cells["dsd"].setting) == ("better", "dsd sparsity=0.95")
        and not any(column.cells["dsd"].verdict == "better" for column in groups[NOISE] if column is not last)
        and corrected is not None
        and corrected > 0.05
        and min(gain) > 0,
        "How many labels are wrong does not change that. With 10 or 30 % of 2,000 labels wrong, every control tuned as "
        "often as DSD, six seeds, `dsd` is shown to be ahead of the strongest control in one of four experiments: at "
        f"95 %, with 30 % wrong labels and no early stopping, by {last.cells['dsd'].gain:.2f} points. Corrected over "
        f"all six experiments of the question it is not shown (p = {corrected:.2f}), and the dense network alone, at "
        f"its best epoch, is {np.mean(gain):.1f} points ahead of that DSD, in every seed.",
    )
    of_same = [name for name in noisy.cells if not noisy.figures[name].bound]
    close = ("gce", "augment", "dropconnect")
    yield claim(
        "robust",
        noisy.control == "distill"
        and noisy.cells["dsd"].gain < 0
        and not any(noisy.cells[name].verdict == "better" for name in of_same)
        and all(abs(noisy.cells[name].gain) < 0.15 and noisy.told[name, BASELINE] == "better" for name in close)
        and noisy.told["longer", BASELINE] == "no difference shown"
        and abs(float(np.mean(noisy.ahead("longer", BASELINE)))) < 0.1
        and another.control == "muon"
        and another.cells["dsd"].verdict == "worse"
        and 0 < -another.cells["gce"].gain < 0.3,
        "Where all arms were tried, untuned, on wrong labels with every phase stopped early, what helps most needs no "
        "sparse phase: dense networks of other seeds as teachers (`distill`) end "
        f"{-noisy.cells[BASELINE].gain:.1f} points ahead of the baseline and "
        f"{-noisy.cells['dsd'].gain:.1f} of `dsd`, over {noisy.n} seeds. A robust loss "
        "(`gce`), augmented images (`augment`) and `dropconnect` end within 0.15 points of that and train no teachers; "
        "`longer` gains nothing there, and no arm of sparse phases is shown to be ahead. `muon`, which that processor "
        f"could not train, ends {-another.cells['dsd'].gain:.1f} points ahead of `dsd` on another one and "
        f"{-another.cells['gce'].gain:.1f} of `gce`, over {another.n} seeds; its steps take about "
        f"{another.seconds['muon'] / another.seconds['restart']:.0f} times as long.",
    )
    soups = by_name["soups"]
    masked, twice_on = (interval(soups.ahead(*pair)) for pair in (("dsd-soup", "soup"), ("dsd-iter", "dsd")))
    yield claim(
        "soup",
        soups.control == "distill"
        and soups.cells["dsd-soup"].verdict == "equivalent"
        and min(masked[0] - masked[1], twice_on[0] - twice_on[1]) > 0
        and abs(float(np.mean(soups.ahead("dsd-soup", "gce")))) < 0.1
        and float(np.mean(noisy.ahead("dsd-soup", "soup"))) > 0
        and abs(float(np.mean(everyone.ahead("dsd-soup", "soup")))) < 0.05,
        "A mask does help an average: the mean of three DSD runs with other masks (`dsd-soup`) ends "
        f"{masked[0]:.2f} ± {masked[1]:.2f} points ahead of the mean of three runs without (`soup`), and two cycles "
        f"(`dsd-iter`) {twice_on[0]:.2f} ± {twice_on[1]:.2f} ahead of one, over {soups.n} seeds that were drawn for "
        "these two questions. It is no gain: `dsd-soup` is equal to `distill` within 0.2 points and level with `gce`. "
        "With right labels on the quickstart the two averages are level.",
    )
    captions = {
        arm: told
        for one in (talker, teachers, rest, smoothed)
        for (arm, than), told in one.told.items()
        if than == BASELINE
    }
    yield claim(
        "others",
        all(column.n == 5 and column.control == "restart" for column in others)
        and {talker.n, teachers.n, rest.n, smoothed.n} == {5}
        and len(captions) == 39
        and {arm for arm, told in captions.items() if told not in ("no difference shown", "equivalent")} == {"muon"},
        "For captions and speech, five seeds a recipe show nothing ahead of `restart` but another optimizer: on "
        f"captions all {len(captions)} arms that a captioner can be trained with were tried, untuned, and `muon` alone "
        "is shown to be ahead of the dense baseline.",
    )
    rates = judged(OPTIMIZERS)
    rivals = [name for kind in ("restart", "rmsprop", "adamw") for name in rates.figures if name.startswith(kind)]
    rate = best_on_validation(rivals, rates.figures, lower=False)
    ahead = interval(rates.ahead("muon", rate))
    decision = redense.judge(ROOT / "results" / OPTIMIZERS.folder, controls=[rate]).decision
    (lead,) = (one for one in decision.contrasts if (one.arm, one.against) == ("muon", rate))
    better, slower = interval(rest.ahead("muon", BASELINE)), rest.seconds["muon"] / rest.seconds["restart"]
    gains = [
        float(np.mean(one.ahead(arm, BASELINE)))
        for one in (talker, teachers, rest, smoothed)
        for arm in one.cells
        if arm != "muon"
    ]
    yield claim(
        "optimizer",
        rest.control == "muon"
        and captions["muon"] == "better"
        and max(gains) < 0.4
        and 0 < -everyone.cells["muon"].gain < 0.2
        and not everyone.cells["muon"].verdict
        and rate == "adamw-0.001"
        and best_on_validation(rivals[:4], rates.figures, lower=False) == "restart"
        and rates.told["muon", BASELINE] == "better"
        and lead.verdict == "no difference shown"
        and min(rates.ahead("muon", rate)) > 0,
        f"That optimizer does more for captions than any schedule, mask or average: `muon` ends {better[0]:.1f} ± "
        f"{better[1]:.1f} points of BLEU-4 ahead of the baseline, which trains with RMSprop, and no other arm more "
        f"than 0.4; its steps take about {slower:.0f} times as long. On the quickstart it is level with `longer`, and "
        "no better than that. The rate of RMSprop is not why: of four rates it is the best, and the best of AdamW's "
        f"four ends {ahead[0]:.1f} ± {ahead[1]:.1f} points behind `muon`, in all five seeds, which corrected over all "
        f"comparisons is not shown (p = {lead.p_adjusted:.2f}).",
    )
    means = {name: -cell.gain for name, cell in spoken.cells.items()}
    yield claim(
        "spoken",
        (spoken.n, spoken.control, spoken.cells["dsd"].verdict) == (5, "longer", "no difference shown")
        and min(behind for name, behind in means.items() if name != spoken.control) > 0
        and {told for (arm, _), told in spoken.told.items() if arm not in (BASELINE, "dropout")}
        == {"no difference shown"}
        and spoken.told["dropout", BASELINE] == "worse",
        "Of the ten arms that were tried on speech, `longer` has the best mean word error rate, too, and nothing is "
        f"shown to be ahead of the dense baseline: `dsd` is {means['dsd']:.1f} points behind `longer`, not shown. To "
        "leave dropout away (`dropout`), the best arm on 60,000 images, is shown to be worse there than the dense "
        f"baseline, by {float(np.mean(spoken.ahead(BASELINE, 'dropout'))):.1f} points.",
    )
    solar = cells.cells["dsd"]
    yield claim(
        "open",
        cells.n == 5 and solar.verdict == "no difference shown" and solar.gain > 0,
        "Not known yet: smaller data than that, a network pretrained on pictures by more than five seeds of small ones "
        f"(`dsd` is {solar.gain:.2f} points ahead of `{cells.control}` there, not shown), larger networks, every arm "
        "on speech, and most arms with their settings tuned.",
    )


def missing(columns: Sequence[Column]) -> str:
    """Say which arms of `redense arms` are in no experiment."""
    names = [name for name in ARMS if name not in arms_of(columns)]
    return (
        f"Without a figure above are {quoted(names)}." if names else "Every arm of `redense arms` has a figure above."
    )


def page() -> str:
    """Return the page."""
    groups = {
        group: columns
        for group, experiments in GROUPS.items()
        if (columns := [judged(one) for one in experiments if (ROOT / "results" / one.folder / "compare.csv").exists()])
    }
    every = [column for columns in groups.values() for column in columns]
    first, then = list(answers(groups)), list(reasons(groups))
    numbers = {name: number for number, (name, _) in enumerate([*first, *then], 1)}
    parts = {
        "answers": "\n".join(f"{numbers[name]}. {sentence}" for name, sentence in first),
        "reasons": "\n".join(f"- **{numbers[name]}** {sentence}" for name, sentence in then),
        **{f"#{name}": str(number) for name, number in numbers.items()},
        "arms": "\n\n".join(f"### {group}\n\n{group_table(columns)}" for group, columns in groups.items()),
        "pooled": pooled_table(groups),
        "costs": cost_table(every),
        "missing": missing(every),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", part)
    return text


def main() -> int:
    if "--check" in sys.argv[1:]:
        return int(OUT.read_text(encoding="utf-8") != page())
    OUT.write_text(page(), encoding="utf-8")
    print(OUT.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
