"""Every measured number of the documents follows from its raw result: each cell of each table, and each ± in the text.

A table with a measured number that nothing below explains fails, and so does a new ± between the tables. The
statistics are made anew here, apart from the library's: a t interval, Holm over all verdicts that are printed of an
experiment, and the sign-flip test's veto.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import stdtr, stdtrit

from .documented import (
    BASELINE,
    ELSEWHERE,
    EXPERIMENTS,
    HIGHER,
    IMAGES,
    LOOKS,
    MARGINS,
    METRICS,
    NOT_CHECKED,
    OF_ITS_OWN,
    OURS,
    PAPER,
    PLAIN,
    TEXT,
    TEXT_OF_ONE,
    R,
)

ROOT = Path(__file__).parents[1]
SITE = [path for place in ("docs", "zoo") for path in (ROOT / place).rglob("*.md")]
FILES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in SITE)]
NUMBER = r"[+−-]?\d[\d,]*(?:\.\d+)?"
MEASURED = re.compile(rf"{NUMBER} ± {NUMBER}|^\**{NUMBER}(?: %)?\**$")  # what a cell with a measurement looks like
PLUS_MINUS = re.compile(rf"({NUMBER}) ± ({NUMBER})")
LEVEL = 0.05


@dataclass(frozen=True)
class Table:
    file: str
    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.file, self.heading, self.head[0]


def split_row(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


@cache
def read(file: str) -> tuple[list[Table], str]:
    """The tables of a file, and the text between them; a bold opening of a paragraph counts as a heading."""
    tables: list[Table] = []
    text: list[str] = []
    heading, fenced = "", False
    block: list[tuple[str, ...]] = []
    for line in [*(ROOT / file).read_text().splitlines(), ""]:
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            block.append(split_row(line))
            continue
        if block:
            tables.append(Table(file, heading, block[0], tuple(block[2:])))
            block = []
        if not fenced and (match := re.match(r"#+ (.+)|\*\*([^*]+?)\.\*\* ", line)):
            heading = match[1] or match[2]
        if not fenced:
            text.append(line)
    return tables, " ".join(text)


TABLES = [table for file in FILES if file not in ELSEWHERE for table in read(file)[0]]
WITH_NUMBERS = [t for t in TABLES if any(MEASURED.search(cell) for row in t.rows for cell in row[1:])]


@cache
def sparsity_in_the_zoo(file: str) -> float | None:
    """The sparsity of the recipe that a card stands beside, which its row of `dsd` has."""
    recipe = (ROOT / file).parent / "recipe.yaml"
    return yaml.safe_load(recipe.read_text())["sparse"]["sparsity"] if file.startswith("zoo/") else None


@cache
def recipe_sparsity(folder: str) -> float | None:
    asked = ROOT / "results" / folder / "comparison.json"
    if not asked.exists():
        return None
    told = json.loads(asked.read_text())
    if "recipe" in told:
        return told["recipe"]["sparse"]["sparsity"]
    (dsd,) = (arm for arm in told["arms"] if arm["name"] == "dsd")
    return next(phase["sparsity"] for phase in dsd["schedule"]["phases"] if "sparsity" in phase)


@cache
def results(folders: tuple[str, ...], metric: str) -> dict[str, dict[str, float]]:
    """Arm with its sparsity, such as ``dsd 0.3`` -> seed -> figure; what two folders share must be the same in both."""
    found: dict[str, dict[str, float]] = {}
    for folder in folders:
        name, _, only = folder.partition(":")
        own = recipe_sparsity(name)
        with (ROOT / "results" / name / "compare.csv").open() as file:
            for row in csv.DictReader(file):
                arm, _, swept = row["arm"].partition(" sparsity=")
                arm = f"{arm} {swept}" if swept else f"{arm} {own}" if arm == "dsd" and len(folders) > 1 else arm
                if only and arm != only:
                    continue
                place = found.setdefault(f"best {arm}" if only else arm, {})
                assert place.setdefault(row["seed"], float(row[metric])) == float(row[metric]), (name, arm)
    return found


@dataclass(frozen=True)
class Paired:
    mean: float
    half: float
    p: float
    signs: float  # p of the sign-flip test
    n: int
    wide: float  # the end of the 90 % interval that is further from zero


def half_interval(values: np.ndarray) -> float:
    return float(stdtrit(values.size - 1, 0.975) * values.std(ddof=1) / values.size**0.5)


@cache
def paired(folders: tuple[str, ...], metric: str, arm: str, against: str) -> Paired:
    data = results(folders, metric)
    seeds = sorted(set(data[arm]) & set(data[against]))
    x = np.array([data[arm][seed] - data[against][seed] for seed in seeds])
    if not x.any():  # the same figures in every seed
        return Paired(0.0, 0.0, 1.0, 1.0, x.size, 0.0)
    t = abs(x.mean()) / (x.std(ddof=1) / x.size**0.5)
    # All sign flips, as sums of a half and a half.
    sums = [np.array([0.0])] * 2
    for index, value in enumerate(x):
        sums[index % 2] = np.concatenate([sums[index % 2] + value, sums[index % 2] - value])
    other, reached = np.sort(sums[1]), abs(x.sum()) - 1e-9
    inside = np.searchsorted(other, reached - sums[0], "left") - np.searchsorted(other, -reached - sums[0], "right")
    flips = 1 - float(inside.sum()) / (sums[0].size * sums[1].size)
    wide = abs(x.mean()) + stdtrit(x.size - 1, 0.95) * x.std(ddof=1) / x.size**0.5
    return Paired(float(x.mean()), half_interval(x), float(2 * stdtr(x.size - 1, -t)), flips, x.size, float(wide))


def check(printed: str, value: float, what: str) -> None:
    """A printed number is the value, rounded to as many decimals; a tie may go either way."""
    plain = printed.replace("−", "-").replace(",", "")
    decimals = len(plain.partition(".")[2])
    assert abs(float(plain) - value) <= 0.5 * 10**-decimals + 1e-9, f"{what}: {printed} is {value:.{decimals + 2}f}"


def arm_of(cell: str, known: Mapping[str, object], own: float | None) -> str:
    """The key of a row's arm: ``**DSD**, 30 %`` is ``dsd 0.3``, or ``dsd`` where that was not swept."""
    if "dense baseline" in cell:
        return BASELINE
    match = re.match(r"\W*([\w-]+)", cell)
    assert match, cell
    name, percent = match[1].lower(), re.search(r"(\d+) %", cell)
    quoted = re.match(r"`([^`]+)`", cell)
    if quoted and not percent and quoted[1] in known:  # with its setting, or the one without
        return quoted[1]
    found = [key for key in known if key == name or key.startswith(f"{name} ")]
    sparsity = int(percent[1]) / 100 if percent else own
    exact = [key for key in found if key == f"{name} {sparsity}"]
    chosen = exact or found
    assert len(chosen) == 1, f"'{cell}' may be any of {found}"
    return chosen[0]


@dataclass(frozen=True)
class Difference:
    where: str
    pair: tuple[tuple[str, ...], str, str, str]
    number: str
    half: str
    verdict: str


def cells_of(table: Table, folders: tuple[str, ...]) -> Iterator[Difference]:
    """Check the figures of a table and give its differences."""
    for row in table.rows:
        metric, mean_of = "", ""
        for title, cell in zip(table.head, row, strict=True):
            where = f"{table.file}, {table.heading}: {row[0]}, {title}"
            mean_of = next((name for start, name in METRICS.items() if title.startswith(start)), "")
            metric = mean_of or metric
            if title == table.head[0] or not cell:
                continue
            known = results(folders, metric or "test_error" if metric else "steps")
            arm = arm_of(row[0], known, sparsity_in_the_zoo(table.file))
            plain = cell.replace("**", "")
            if title == "optimizer steps":
                (steps,) = set(results(folders, "steps")[arm].values())
                check(plain, steps, where)
            elif mean_of:
                match = re.fullmatch(rf"({NUMBER})(?: ± ({NUMBER}))?(?: %)?", plain)
                assert match, where
                values = np.array(list(known[arm].values()))
                check(match[1], float(values.mean()), where)
                if match[2]:
                    check(match[2], half_interval(values), where)
            else:
                other = BASELINE if title == "against the dense baseline" else title.removeprefix("against ").strip("`")
                match = re.fullmatch(rf"({NUMBER}) ± ({NUMBER})(?:, (.+))?", plain)
                assert match, where
                assert other in known, where
                yield Difference(where, (folders, metric, arm, other), match[1], match[2], match[3] or "")


def explained(table: Table) -> bool:
    return table.key in {*EXPERIMENTS, *NOT_CHECKED, *OF_ITS_OWN} or (table.head[0] in OTHERS and not_of_another(table))


def not_of_another(table: Table) -> bool:
    return bool(table.head[0]) or table.file == R


def test_every_table_with_a_measurement_is_explained():
    unmapped = [table.key for table in WITH_NUMBERS if not explained(table)]
    assert not unmapped, "unmapped table: say in documented.py what it is of"
    assert set(EXPERIMENTS) == {table.key for table in WITH_NUMBERS if table.key in EXPERIMENTS}


def verdict(pair: Paired, p: float, *, lower: bool, margin: float = 0.0) -> str:
    if pair.wide < margin:
        return "equivalent"
    if p > LEVEL or pair.signs > max(LEVEL, 2.0 ** (1 - pair.n)) + 1e-12:
        return "no difference shown"
    return "better" if (pair.mean < 0) == lower else "worse"


def test_every_figure_difference_and_verdict_follows_from_the_raw_results():
    found = [d for t in WITH_NUMBERS if t.key in EXPERIMENTS for d in cells_of(t, EXPERIMENTS[t.key])]
    families: dict[tuple[tuple[str, ...], str], set[tuple[str, str]]] = {}
    for item in found:
        pair = paired(*item.pair)
        check(item.number, pair.mean, item.where)
        check(item.half, pair.half, item.where)
        if item.verdict:
            families.setdefault(item.pair[:2], set()).add(item.pair[2:])
    assert set(MARGINS) <= {folders for folders, _ in families}
    for (folders, metric), members in list(families.items()):
        if folders in MARGINS:  # a table may have a part of its experiment only
            whole = json.loads((ROOT / "results" / folders[0] / "compare.json").read_text())["comparisons"]
            # `results` names the recipe's sparsity, too, where there are several folders.
            own = f"dsd {recipe_sparsity(folders[0])}" if len(folders) > 1 else "dsd"
            names = {one["arm"]: own if one["arm"] == "dsd" else one["arm"].replace(" sparsity=", " ") for one in whole}
            pairs = {(names[one["arm"]], names.get(one["against"], one["against"])) for one in whole}
            assert members <= pairs
            families[folders, metric] = members | pairs
    for family, members in families.items():
        ordered = sorted(members, key=lambda pair: paired(*family, *pair).p)
        p, adjusted = 0.0, dict[tuple[str, str], float]()
        for index, member in enumerate(ordered):
            p = max(p, min(1.0, paired(*family, *member).p * (len(ordered) - index)))
            adjusted[member] = min(1.0, p * LOOKS.get(family[0], 1))
        lower = not any(name in family[1] for name in HIGHER)
        for item in found:
            if item.verdict and item.pair[:2] == family:
                margin = MARGINS.get(family[0], 0.0)
                told = verdict(paired(*item.pair), adjusted[item.pair[2:]], lower=lower, margin=margin)
                assert item.verdict == told, f"{item.where}: p = {adjusted[item.pair[2:]]:.4f} of {len(ordered)}"


# --- tables of another form -----------------------------------------------------------------------------------------


def beside_the_paper(table: Table) -> None:
    arms = ("baseline", "dsd", "llr", "restart")
    assert table.head[1:] == ("dense baseline", "DSD", "lower learning rate", "`restart`")
    for row in table.rows:
        source, _, what = row[0].partition(": ")
        printed = [re.sub(r"\*| \(.*\)", "", cell) for cell in row[1:]]
        if source == "paper":
            assert " ".join(printed).split() == PAPER[what].split(), row
            continue
        folders, metric, dsd = OURS[what]
        means = {arm: float(np.mean(list(values.values()))) for arm, values in results(folders, metric).items()}
        for arm, cell in zip(arms, printed, strict=True):
            check(cell, means[dsd if arm == "dsd" else arm], f"{row[0]}, {arm}")


def searched(table: Table) -> None:
    folders, metric = ("noisy-labels-search",), "validation_error"
    control = re.search(rf"\(({NUMBER}) %\)", table.head[0])
    assert control
    assert table.head[1:] == ("80 %", "90 %", "95 %")
    check(control[1], float(np.mean(list(results(folders, metric)["restart"].values()))), table.head[0])
    for row in table.rows:
        name = row[0].split("`")[1]
        for sparsity, cell in zip((0.8, 0.9, 0.95), row[1:], strict=True):
            match = PLUS_MINUS.search(cell)
            arm = name if name in results(folders, metric) else f"{name} {sparsity}"
            if match:
                pair = paired(folders, metric, arm, "restart")
                check(match[1], pair.mean, f"{row[0]}, {sparsity}")
                check(match[2], pair.half, f"{row[0]}, {sparsity}")


def allocated(table: Table) -> None:
    raw = json.loads((ROOT / "benchmarks" / "results" / "allocate_sparsity-1-thread.json").read_text())
    for row in table.rows:
        sparsity = str(int(row[0].removesuffix(" %")) / 100)
        for way, cell in zip(("uniform", "global", "erk", "sensitivity"), row[1:], strict=True):
            errors = [run["pruned"][sparsity][way]["test error"] for run in raw["facts"]["runs"]]
            check(cell.strip("*"), sum(errors) / len(errors), f"{row[0]}, {way}")


def of_the_zoo(table: Table) -> None:
    figures = json.loads((ROOT / Path(table.file).parent / "zoo.json").read_text())["figures"]
    for name, _, cell in table.rows:
        check(cell.removesuffix(" %"), figures[name], f"{table.file}: {name}")


OTHERS = {
    "": beside_the_paper,
    "validation error minus that of `restart` (19.73 %)": searched,
    "overall sparsity": allocated,
    "network": of_the_zoo,
}


@pytest.mark.parametrize("head", OTHERS)
def test_the_figures_of_the_other_tables_are_those_of_their_sources(head: str):
    tables = [table for table in WITH_NUMBERS if table.head[0] == head and not_of_another(table)]
    assert tables
    for table in tables:
        OTHERS[head](table)


# --- the text between the tables ------------------------------------------------------------------------------------


def told(file: str) -> Iterator[str]:
    """Every ± of a text with the word after it, where the table above tells two of the same digits apart by it."""
    text = re.sub(r"\s+", " ", read(file)[1])
    for match in PLUS_MINUS.finditer(text):
        longer = f"{match[0]}{re.match(r'(?: [a-z]+)?', text[match.end() :])[0]}"  # pyright: ignore[reportOptionalSubscript]
        yield longer if longer in TEXT else match[0]


@pytest.mark.parametrize("file", [file for file in FILES if file not in ELSEWHERE and list(told(file))])
def test_every_plus_minus_of_the_text_follows_from_the_raw_results(file: str):
    for printed in told(file):
        if printed in PLAIN.get(file, ()):
            continue
        if printed in TEXT_OF_ONE:
            folders, metric, arm = TEXT_OF_ONE[printed]
            values = np.array(list(results(folders, metric)[arm].values()))
            check(printed.split(" ± ")[0], float(values.mean()), f"{file}: {printed}")
            check(printed.split(" ± ")[1], half_interval(values), f"{file}: {printed}")
            continue
        assert printed in TEXT, f"unmapped number in {file}: {printed}"
        pair = paired(*TEXT[printed])
        match = PLUS_MINUS.match(printed)
        assert match
        signed = match[1][0] in "+−"
        check(match[1], pair.mean if signed else abs(pair.mean), f"{file}: {printed}")
        check(match[2], pair.half, f"{file}: {printed}")


def by_seed(folder: str, arm: str, against: str) -> np.ndarray:
    data = results((folder,), "test_error")
    return np.round([data[arm][seed] - data[against][seed] for seed in data[arm]], 2)


def test_the_counts_of_seeds_are_those_of_the_raw_results():
    against = np.concatenate([by_seed(folder, dsd, "restart") for folder, (dsd, _) in IMAGES.items()])
    assert ((against > 0).sum(), (against == 0).sum(), against.size) == (23, 2, 25)
    assert (against[against > 0].min(), against.max()) == (0.03, 0.52)
    for folder, (dsd, random) in IMAGES.items():
        assert (by_seed(folder, dsd, "llr") < 0).all()
        assert (by_seed(folder, random, dsd) > 0).all()
    llr = by_seed("noisy-labels-early-llr", "dsd", "llr")
    assert ((llr > 0).sum(), llr.size) == (16, 20)
    assert f"in {23} of all {25} seeds" in read("README.md")[1]


def holm_of(pairs: Sequence[float]) -> list[float]:
    ordered = np.sort(pairs)
    return np.maximum.accumulate(ordered * np.arange(len(pairs), 0, -1)).tolist()


def test_the_p_values_over_the_five_experiments_are_those_of_the_raw_results():
    def over_five(pick: int, against: str | int) -> list[str]:
        found: list[float] = []
        for folder, names in IMAGES.items():
            other = names[against] if isinstance(against, int) else against
            found.append(paired((folder,), "test_error", names[pick], other).p)
        return [f"{p:.3f}" for p in holm_of(found)]

    assert over_five(0, "restart") == ["0.005", "0.005", "0.069", "0.069", "0.069"]
    assert over_five(0, "llr") == ["0.015"] * 5
    assert over_five(1, 0) == ["0.002", "0.004", "0.009", "0.009", "0.023"]


def test_the_table_of_other_judges_has_what_its_script_wrote():
    written = json.loads((ROOT / "benchmarks" / "results" / "judge_peers.json").read_text(encoding="utf-8"))["pairs"]
    (table,) = (table for table in WITH_NUMBERS if table.key in NOT_CHECKED)
    assert len(table.rows) == len(written)
    for (pair, ours, scipy, deepsig, rliable), one in zip(table.rows, written, strict=True):
        expected = [one["scipy"][name] for name in ("ttest_rel", "wilcoxon", "permutation", "ttest_ind")]
        expected += [one["deepsig"]["aso"], one["rliable"]["probability_of_improvement"], *one["rliable"]["interval"]]
        numbers = re.findall(NUMBER, f"{scipy} {deepsig} {rliable}")
        for number, value in zip(numbers, expected, strict=True):
            check(number, value, f"{pair}: {one}")
        assert f"n = {one['n']}" in pair
        check(pair.rsplit(", ", 1)[1], one["difference"], pair)
        assert ours.startswith(one["redense"]["verdict"])
        for number in re.findall(rf"p = ({NUMBER})", ours):
            check(number, one["redense"]["p_adjusted"], pair)
