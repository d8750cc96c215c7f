"""`redense.compare`: anybody's training, compared and judged over seeds, with its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redense.errors import RecipeError
from redense.files.visible import visible_line
from redense.lab.folder import given_folder
from redense.lab.judging.judge import Judgement
from redense.lab.judging.results import decide_rows, is_dense
from redense.lab.pairs.carrying import Backend, Carrier, carrier_of_functions
from redense.lab.pairs.functions import Arms, Comparing, Trained, arms_of
from redense.lab.pairs.jobs import name_of
from redense.lab.pairs.keeping import Kept, kept
from redense.lab.pairs.plan import Plan, make_plan
from redense.lab.pairs.progress import ProgressLine
from redense.lab.pairs.results import write_results
from redense.optional.extras import missing_extra
from redense.schedule import Schedule


@dataclass(frozen=True)
class Compared:
    """The result of `redense.compare`. ``str()`` of it is text, a notebook shows a table.

    Attributes:
        folder: where every number, the table and the page lie.
        judgement: the verdicts, as `redense.judge` gives them.
        results: all of ``compare.json``, as plain data.
        page: the page; None where its packages are missing.
    """

    folder: Path
    judgement: Judgement
    results: Mapping[str, Any]
    page: Path | None = None

    @property
    def gains(self) -> tuple[str, ...]:
        """The arms that are a gain: better than the baseline and than every control that decides."""
        return self.judgement.gains

    @property
    def failed(self) -> dict[tuple[str, int], str]:
        """The pairs of arm and seed that failed, and why."""
        return {
            (row["arm"], seed["seed"]): seed["failed"]
            for row in self.results["rows"]
            for seed in row["seeds"]
            if seed.get("failed")
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the verdicts as plain data, as ``redense judge --json`` prints them."""
        return self.judgement.to_dict()

    def to_markdown(self) -> str:
        """Return the table of the arms as Markdown."""
        from .judged import to_markdown

        return to_markdown(self.judgement)

    def to_latex(self) -> str:
        """Return the table of the arms for a paper, in the style of booktabs."""
        from .judged import to_latex

        return to_latex(self.judgement)

    def __str__(self) -> str:
        failed = self._failures
        return "\n".join([str(self.judgement), *(["", *failed] if failed else [])])

    def _repr_html_(self) -> str:
        return self.judgement.html(self._failures)

    @property
    def _failures(self) -> list[str]:
        return [visible_line(f"{arm}, seed {seed} failed: {why}") for (arm, seed), why in self.failed.items()]


def compare(
    train: Callable[..., Any] | None = None,
    schedule: Schedule | None = None,
    *,
    arms: Arms | None = None,
    seeds: int | Iterable[int] = 5,
    out: str | Path | None = None,
    metric: str | None = None,
    lower_is_better: bool | None = None,
    baseline: str | None = None,
    controls: Iterable[str] | None = None,
    margin: float | None = None,
    looks: int = 1,
    share: Literal["dense"] | None = None,
    jobs: int = 1,
    backend: Backend = "loky",
    resources: Mapping[str, float] | None = None,
    threads: int | None = 1,
    retry_failed: bool = False,
    changed_code: bool = False,
    quiet: bool = False,
) -> Compared:
    """Train arms beside each other over several seeds, with a training of your own, and say what is gained.

    ``train(schedule, seed)`` makes a network from the seed, trains it for the steps of the schedule, with `redense.DSD`
    or in any other way, and returns its figures: ``{"validation_error": 0.12, "test_error": 0.13}``, or a number. Each
    pair of arm and seed is kept in ``out`` as it comes: the same call goes on after a kill, and trains only what is new
    when seeds or arms are added.

    Args:
        train: trains the arms that are schedules.
        schedule: DSD's, of which the arms are made by name; None where every arm is a function of its own.
        arms: names, such as ``dsd``, ``restart``, ``llr``, ``longer`` (the default), ``random``, ``acdc``; and
            ``{"mine": own}``, where ``own`` is a `Schedule` or a function ``train(schedule, seed)``. A dict alone is
            added to the default ones. The first phase of the schedule alone is the baseline, if no arm is one.
        seeds: how many, from 0 on; or which.
        out: the folder; None for a new one below ``runs``.
        metric: the figure that decides, where there are several, or the name of one that has none.
        lower_is_better: of it, where a well-known name such as ``error`` or ``accuracy`` does not say it.
        baseline: the arm that the others are compared with.
        controls: the arms without a mask; ``restart``, ``llr`` and ``longer``, if not given. One whose schedule has no
            mask is a control in any case.
        margin: differences within it are of no interest, and called equivalent where that is shown.
        looks: how often it will have been looked at when no more seeds are added.
        share: ``"dense"`` trains the dense phase that arms begin with once for each seed: ``train(schedule, seed,
            start=None)`` then returns its ``"state"`` too, and goes on from ``start`` where that is given.
        jobs: how many pairs at once.
        backend: ``"loky"``, processes of this machine, or ``"ray"``, a cluster.
        resources: what Ray reserves for a job: ``{"num_cpus": 1, "num_gpus": 0.5}``.
        threads: of PyTorch in each job; None leaves them as they are. The last digits depend on it.
        retry_failed: try pairs again that have failed before.
        changed_code: go on with the pairs in ``out`` though the code of ``train`` has changed since they were trained:
            it makes the same numbers.
        quiet: say nothing on the error output.

    Raises:
        RecipeError: an arm, a seed, ``train``, ``threads``, ``jobs`` or ``backend`` cannot be what it is.
        StateError: ``out`` is of another comparison, or of other code, or another process works in it.
        DataError: the figures lack the one that decides, or do not say which way is better; all pairs failed; the
            margin is not above 0, or the looks are below 1.
        MissingExtraError: more than one job needs joblib, Ray needs Ray.
    """
    if share not in (None, "dense"):
        raise RecipeError(f"share must be 'dense' or None, got {share!r}")
    trained = arms_of(train, schedule, arms, baseline, share=share is not None)
    plan = make_plan(
        [one.arm for one in trained],
        form="function",
        name=name_of(train or trained[0].train).rpartition(".")[2].strip("<>"),
        seeds=seeds,
        baseline=baseline,
        controls=controls,
        metric=metric,
        lower_is_better=lower_is_better,
        looks=looks,
        margin=margin,
        share=share is not None,
        threads=threads,
    )
    carrier = carrier_of_functions(jobs, backend, resources)
    again = {"retry_failed": retry_failed, "changed_code": changed_code}
    return compared(trained, plan, None if out is None else given_folder(out), carrier, **again, quiet=quiet)


def compared(
    trained: Sequence[Trained],
    plan: Plan,
    out: Path | None,
    carrier: Carrier,
    *,
    retry_failed: bool,
    changed_code: bool,
    quiet: bool,
) -> Compared:
    """Train what a plan has, or go on with it, and judge it."""
    carrier.join()
    from redense.lab.environment import environment

    with kept(out, plan, environment(threads=plan.threads), changed_code=changed_code) as held:
        order = {arm.name: place for place, arm in enumerate(held.plan.arms)}
        progress = ProgressLine(len(held.plan.pairs), jobs=carrier.jobs, quiet=quiet)
        try:
            run = Comparing(held, sorted(trained, key=lambda one: order[one.arm.name]), carrier, progress)
            outcomes = run.run(retry_failed=retry_failed)
        finally:
            progress.end()
        return finished(held, write_results(held, outcomes), progress)


def finished(held: Kept, results: Mapping[str, Any], progress: ProgressLine) -> Compared:
    """Write the page of a comparison whose results are written, and say what it comes to."""
    page, without = None, ""
    try:
        from .comparisons.page import write_compare_report

        page = write_compare_report(held.path)
    except ModuleNotFoundError as error:
        without = str(missing_extra(error, "the page") or error)
    compared = Compared(held.path, judgement_of(results), results, page)
    for text in results["conclusions"].values():
        progress.say(text)
    if compared.failed:
        progress.say(f"{len(compared.failed):,} of {len(held.plan.pairs):,} pairs failed: see {held.path / 'pairs'}")
    progress.say(str(page) if page else f"{held.path} has no page: {without}")
    return compared


def judgement_of(results: Mapping[str, Any]) -> Judgement:
    """Return the verdicts of results as they were written."""
    metric = results["metric"]
    decision = decide_rows(results["rows"], metric, **results["judged"])
    dense = is_dense(results, decision.baseline)
    return Judgement(decision, split=results["split"], seeds=len(results["seeds"]), dense=dense)
