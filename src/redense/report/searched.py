"""`redense.search`: many settings on validation figures, then the best alone against the strongest control, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redense.errors import DataError, RecipeError, StateError
from redense.files.checksums import add_sums
from redense.files.notebook import html_table
from redense.files.visible import counted, visible_line
from redense.files.writing import write_text
from redense.lab.environment import environment
from redense.lab.folder import check_new, given_folder
from redense.lab.judging import words
from redense.lab.judging.figures import is_lower_better, quoted, usual_baseline
from redense.lab.pairs.by_name import tuned_controls
from redense.lab.pairs.carrying import Backend, carrier_of_functions
from redense.lab.pairs.figures import UNNAMED, choose_metric
from redense.lab.pairs.functions import Arms, Comparing, Trained, arms_of
from redense.lab.pairs.keeping import PLAN, kept, read_plan
from redense.lab.pairs.plan import make_plan, seeds_of
from redense.lab.pairs.progress import ProgressLine
from redense.lab.pairs.results import unfinished
from redense.lab.search.halving import Round, Rung, halve, plan_rungs, price
from redense.schedule import Schedule
from redense.schedules.numeric import as_int

from .compared import Compared, compared
from .comparisons.page import write_compare_report

_FRESH = 1000  # the first seed of the confirmation; those of the search are below it
_LEAST_SEEDS = 5


@dataclass(frozen=True)
class Searched:
    """The result of `redense.search`. ``str()`` of it is text.

    Attributes:
        folder: where everything lies.
        winner: the best candidate on validation figures; None where all failed.
        control: the strongest control on them.
        rounds: of the candidates and of the controls.
        runs: how many were trained for the search, and for the confirmation.
        confirmed: the winner against the control on fresh seeds; None where there was no winner.
        budget: how many runs the search was allowed.
    """

    folder: Path
    winner: str | None
    control: str | None
    rounds: Mapping[str, Sequence[Round]]
    runs: Mapping[str, int]
    confirmed: Compared | None
    budget: int = 0

    @property
    def gain(self) -> bool:
        """Whether the winner was confirmed as better than the strongest control."""
        return self.confirmed is not None and self.winner in self.confirmed.gains

    @property
    def sentence(self) -> str:
        """The result of the search in a sentence."""
        tried = f"{sum(self.runs.values()):,} runs, {self.runs['search']:,} of them to search"
        if left := self.left:
            tried += f"; {left:,} of its budget of {self.budget:,} {'is' if left == 1 else 'are'} left over"
        if self.confirmed is None:
            return f"Nothing could be confirmed: every candidate or every control failed ({tried})."
        seeds = len(self.confirmed.results["seeds"])
        where = f"on {seeds} fresh seeds and test figures ({tried})"
        if self.gain:
            return f"{self.winner} beats {self.control}, the strongest control, {where}."
        decision = self.confirmed.judgement.decision
        lost = [f"no run of {arm.name} has a figure" for arm in decision.arms if not arm.n]
        nothing = ", ".join(lost) or "no seed has a figure of both"
        verdict = decision.contrasts[0].verdict if decision.contrasts else nothing
        told = decision.conclusions.get(self.winner or "")
        but = f" {words.obstacle(told.obstacle)}, so no gain can be claimed." if told and told.obstacle else ""
        return f"Nothing here beats the control: {self.winner} against {self.control}, {verdict} {where}.{but}"

    @property
    def left(self) -> int:
        """The runs that the search was allowed and did not need."""
        return max(0, self.budget - self.runs["search"])

    def to_dict(self) -> dict[str, Any]:
        """Return the whole tree and its price as plain data, as ``search.json`` has it."""
        return {
            "winner": self.winner,
            "control": self.control,
            "gain": self.gain,
            "sentence": self.sentence,
            "runs": {**self.runs, "budget": self.budget, "left": self.left},
            "rounds": {pool: [one.to_dict() for one in rounds] for pool, rounds in self.rounds.items()},
        }

    def _repr_html_(self) -> str:
        return self.html(self.sentence)

    def html(self, caption: str) -> str:
        """Return what a notebook shows, under a sentence."""
        rows = [
            [pool, str(number), name, str(len(one.seeds)), "failed" if mean is None else f"{mean:.4g}", stays]
            for pool, rounds in self.rounds.items()
            for number, one in enumerate(rounds, 1)
            for name, mean in one.means.items()
            for stays in ["stays" if name in one.stay else ""]
        ]
        head = ["of", "round", "setting", "seeds", "mean on validation", ""]
        found = html_table(head, rows, caption=caption, left=(0, 2, 5))
        return found + (self.confirmed._repr_html_() if self.confirmed else "")

    def __str__(self) -> str:
        return f"{self.table}\n\n{visible_line(self.sentence)}"

    @property
    def table(self) -> str:
        """The rounds and the confirmation as text."""
        parts: list[str] = []
        for pool, rounds in self.rounds.items():
            for number, one in enumerate(rounds, 1):
                parts.append(f"{visible_line(pool)}, round {number}, {counted(len(one.seeds), 'seed')}:")
                for name, mean in one.means.items():
                    stays = "  stays" if name in one.stay else ""
                    parts.append(f"  {visible_line(name):<24}{'failed' if mean is None else f'{mean:.4g}'}{stays}")
        if self.confirmed:
            parts += ["", str(self.confirmed)]
        return "\n".join(parts)


def search(
    train: Callable[..., Any] | None = None,
    schedule: Schedule | None = None,
    *,
    candidates: Arms,
    controls: Mapping[str, Any] | None = None,
    runs: int = 60,
    confirm: int = 10,
    out: str | Path,
    metric: str | None = None,
    lower_is_better: bool | None = None,
    jobs: int = 1,
    backend: Backend = "loky",
    threads: int | None = 1,
    retry_failed: bool = False,
    changed_code: bool = False,
    quiet: bool = False,
) -> Searched:
    """Search for the best of many candidates, then confirm it against the strongest control, or say that it is none.

    Successive halving over seeds on **validation** figures, of the candidates and, with as many settings and as many
    runs, of the controls. Then the best candidate alone is trained beside the best control on ``confirm`` fresh seeds,
    and test figures decide, once. The number of seeds is fixed beforehand, and there is one comparison to correct for.
    Killed at any moment, the same call goes on.

    Args:
        train: as for `redense.compare`; it returns validation and test figures.
        schedule: DSD's.
        candidates: arms by name, or schedules with a mask and functions by name.
        controls: schedules and functions without a mask; as many settings of ``restart``, ``llr`` and ``longer`` as
            there are candidates, three at least, if not given.
        runs: the budget of the search, half for the candidates and half for the controls.
        confirm: fresh seeds for the confirmation, five at least; `redense judge --plan` says how many it takes.
        out: the folder.
        metric: the figure that decides.
        lower_is_better: of it, where its name does not say so.
        jobs: how many runs at once.
        backend: processes of this machine, or a Ray cluster.
        threads: of PyTorch in each job.
        retry_failed: try runs again that have failed before, which may change what is ahead.
        changed_code: go on in ``out`` though the code of ``train`` has changed: it makes the same numbers.
        quiet: say nothing on the error output.

    Raises:
        RecipeError: there are fewer controls than candidates, the budget is too small, an arm is unknown, or has the
            name of a baseline; a candidate has no mask.
        DataError: there are no validation figures, or no test figures.
        StateError: another setting or control is ahead than was confirmed in ``out``.
    """
    unsaid = metric is None and lower_is_better is None  # the figures that come have a name
    lower = None if unsaid else is_lower_better(metric, lower_is_better)
    pools = _pools(train, schedule, candidates, controls)
    runs, confirm = _budget(runs, confirm)
    rungs = _rungs(pools, runs)
    most = max(rung.seeds for pool in rungs.values() for rung in pool)
    everything = [one for trained in pools.values() for one in trained]
    plan = make_plan(
        [one.arm for one in everything],
        form="function",
        name="search",
        seeds=most,
        baseline=None,
        controls=[one.arm.name for one in pools["controls"]],
        metric=metric,
        lower_is_better=lower,
        threads=threads,
        settings={"runs": runs, "confirm": confirm},
    )
    carrier = carrier_of_functions(jobs, backend)
    carrier.join()
    folder = given_folder(out)
    if not (folder / "search").is_dir():
        check_new(folder)
    found: dict[str, tuple[str | None, list[Round]]] = {}
    with kept(folder / "search", plan, environment(threads=plan.threads), changed_code=changed_code) as held:
        if retry_failed:
            for pair in {*held.outcomes()} - {*unfinished(held, retry_failed=True)}:
                held.drop(*pair)
        progress = ProgressLine(sum(map(price, rungs.values())), jobs=jobs, quiet=quiet)
        score = _Score(Comparing(held, everything, carrier, progress), metric, lower)
        try:
            for pool, trained in pools.items():
                names = [one.arm.name for one in trained]
                found[pool] = halve(names, rungs[pool], seeds_of(most), score, is_lower_better=score.is_lower_better)
        finally:
            progress.end()
        failed = [f"{arm}, seed {seed}: {done.failed}" for (arm, seed), done in held.outcomes().items() if done.failed]
        if failed:
            progress.say(f"{counted(len(failed), 'run')} of the search failed; {failed[0]}; see {held.path / 'pairs'}")
    winner, control = found["candidates"][0], found["controls"][0]
    rounds = {pool: rounds for pool, (_, rounds) in found.items()}
    confirmed = None
    if winner is not None and control is not None:
        two = [one for one in everything if one.arm.name in (winner, control)]
        last = replace(
            plan,
            name=f"{winner} or {control}",
            arms=tuple(one.arm for one in two),
            seeds=tuple(range(_FRESH, _FRESH + confirm)),
            controls=(control,),
            settings=None,
        )
        _refuse_second_look(folder / "confirm", winner, control)
        again = {"retry_failed": retry_failed, "changed_code": changed_code}
        confirmed = compared(two, last, folder / "confirm", carrier, **again, quiet=quiet)
    taken = [[Rung(len(one.means), len(one.seeds)) for one in own] for own in rounds.values()]
    spent = {"search": sum(map(price, taken)), "confirm": 2 * confirm if confirmed else 0}
    return _written(Searched(folder, winner, control, rounds, spent, confirmed, runs))


def _refuse_second_look(folder: Path, winner: str, control: str) -> None:
    """Raise where others have been confirmed: the fresh seeds of a search are looked at once.

    Raises:
        StateError: they have.
    """
    if (folder / PLAN).is_file():
        before = [arm.name for arm in read_plan(folder)[0].arms]
        if {*before} != {winner, control}:
            told = " beside ".join(map(quoted, before))
            raise StateError(
                f"{told} was confirmed in {folder}, and now {quoted(winner)} beside {quoted(control)} is ahead: fresh "
                "seeds are looked at once, so name another folder"
            )


def _budget(runs: Any, confirm: Any) -> tuple[int, int]:
    """Return the runs of a search and the seeds of its confirmation as Python's numbers.

    Raises:
        RecipeError: one is no whole number, or the seeds are too few or too many.
    """
    seeds, budget = as_int(confirm), as_int(runs)
    if seeds is None or not _LEAST_SEEDS <= seeds <= 1000:
        raise RecipeError(f"confirm must be {_LEAST_SEEDS} to 1,000 fresh seeds, got {confirm!r}")
    if budget is None:
        raise RecipeError(f"runs must be a whole number, got {runs!r}")
    return budget, seeds


def _rungs(pools: Mapping[str, Sequence[Trained]], runs: int) -> dict[str, tuple[Rung, ...]]:
    """Plan the rounds of each pool.

    Raises:
        RecipeError: there are fewer controls than candidates, or the budget is too small or too large.
    """
    sizes = {pool: len(trained) for pool, trained in pools.items()}
    if sizes["controls"] < sizes["candidates"]:
        raise RecipeError(
            f"{sizes['candidates']} candidates beside {sizes['controls']} controls: controls are to be tuned as often"
        )
    if runs < (least := 2 * max(sizes.values())):
        raise RecipeError(
            f"a search of {sizes['candidates']} candidates and {sizes['controls']} controls takes at least {least} "
            f"runs, half of them for each; got {runs}"
        )
    rungs = {pool: plan_rungs(size, runs // 2) for pool, size in sizes.items()}
    most = max(rung.seeds for pool in rungs.values() for rung in pool)
    if most > _FRESH:
        raise RecipeError(f"{runs:,} runs are {most:,} seeds of a setting: a search has at most {_FRESH:,}")
    return rungs


class _Score:
    """Trains settings, and tells their validation figures.

    Args:
        work: the pairs of the search.
        metric: the figure that decides, where it is named.
        lower: whether lower is better; None for as its name says it.
    """

    def __init__(self, work: Comparing, metric: str | None, lower: bool | None) -> None:
        self._work, self._metric, self._lower = work, metric, lower

    def is_lower_better(self) -> bool:
        """Whether lower is better; of figures that are known."""
        return bool(self._lower)

    def __call__(self, names: Sequence[str], seeds: Sequence[int]) -> dict[str, dict[int, float]]:
        """Train settings on seeds and return the validation figures of those that did not fail.

        Raises:
            DataError: there are no validation figures, no test figures for the confirmation, or several and none is
                named, or the name does not say which way is better.
        """
        wanted = [(name, seed) for seed in seeds for name in names]
        outcomes = self._work.run(pairs=wanted)
        known = {pair: outcomes[pair].figures for pair in wanted}
        first = next((figures for figures in known.values() if figures), None)
        if first is None:
            return {}
        own, self._lower = choose_metric(first.told, self._metric, self._lower)
        found: dict[str, dict[int, float]] = {name: {} for name in names}
        for (name, seed), figures in known.items():
            if figures is None:
                continue
            value, last = (split.get(own, split.get(UNNAMED)) for split in (figures.validation, figures.test))
            if value is not None and last is None:
                raise DataError(
                    "a search confirms on test figures, and train returns none: it returns {'validation': ..., "
                    "'test': ...}"
                )
            if value is not None:
                found[name][seed] = value
        if not any(found.values()):
            raise DataError("a search needs validation figures: train returns {'validation': ..., 'test': ...}")
        return found


def _written(result: Searched) -> Searched:
    """Write what was found beside the search and beside its confirmation, whose page then has the tree."""
    places = (result.folder, *([result.confirmed.folder] if result.confirmed else []))
    for place in places:
        write_text(place / "search.json", json.dumps(result.to_dict(), indent=2) + "\n")
        add_sums(place, [place / "search.json"])
    if result.confirmed and result.confirmed.page:
        write_compare_report(result.confirmed.folder)
    return result


def _pools(
    train: Callable[..., Any] | None, schedule: Schedule | None, candidates: Arms, controls: Mapping[str, Any] | None
) -> dict[str, list[Trained]]:
    """The settings that are searched, and the controls that are tuned as often."""
    asked = [candidates] if isinstance(candidates, Mapping) else candidates
    found = arms_of(train, schedule, asked, "", share=False)
    if not found:
        raise RecipeError("there is no candidate: name arms, or give schedules or functions by name")
    if flat := next((one.arm.name for one in found if one.arm.schedule and not one.arm.masked), None):
        raise RecipeError(
            f"candidate {quoted(flat)} has no mask, which makes it a control, and no gain: give it among the controls, "
            "controls={name: schedule}"
        )
    if controls is None:
        if schedule is None:
            raise RecipeError("without a schedule there are no usual controls: give controls={name: function}")
        controls = tuned_controls(schedule, max(len(found), 3))
    pools = {"candidates": found, "controls": arms_of(train, schedule, [controls], "", share=False)}
    if named := usual_baseline(one.arm.name for pool in pools.values() for one in pool):
        raise RecipeError(f"'{named}' is the name of a baseline, and a search has none: give the arm another name")
    return pools
