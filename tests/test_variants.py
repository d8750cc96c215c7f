"""What the variants of a schedule do beyond what test_schedule.py shows of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense import Decay, Phase, Schedule, variants
from redense.errors import RedenseError, ScheduleError

DSD = Schedule.dsd(dense=12, sparse=7, redense=5, sparsity=0.4, sparse_lr=0.5, redense_lr=0.05, decay=Decay("cosine"))
PATTERN = Schedule((Phase.dense(12), Phase.sparse(7, pattern=(2, 4)), Phase.dense(5, lr=0.1)))


def test_iterated_shares_the_steps_and_lets_sparsity_and_rates_fall():
    schedule = variants.iterated(DSD, cycles=3, falling=0.5)
    assert [(p.name, p.steps, p.sparsity) for p in schedule.phases] == [
        ("dense", 12, None),
        ("sparse-1", 2, 0.4),
        ("redense-1", 1, None),
        ("sparse-2", 2, 0.2),
        ("redense-2", 2, None),
        ("sparse-3", 3, 0.1),
        ("redense-3", 2, None),
    ]
    # each sparse phase goes on at the rate of the re-dense phase before it
    assert [p.lr for p in schedule.phases] == pytest.approx([1, 0.5, 0.05, 0.05, 0.005, 0.005, 0.0005])
    assert all(p.decay == Decay("cosine") for p in schedule.phases)
    assert schedule.total_steps == DSD.total_steps


def test_iterating_once_is_dsd_and_what_is_iterated_stays_as_it_is():
    once = variants.iterated(DSD, cycles=1)
    assert [(p.steps, p.sparsity, p.lr) for p in once.phases] == [(p.steps, p.sparsity, p.lr) for p in DSD.phases]
    twice = variants.iterated(DSD, cycles=2)
    assert variants.iterated(twice, cycles=3) is twice


def test_iterated_at_a_rate_of_zero_keeps_the_rate_of_zero():
    still = Schedule((Phase.dense(2), Phase.sparse(2, 0.5, lr=0.0), Phase.dense(2)))
    assert [p.lr for p in variants.iterated(still).phases] == [1, 0, 0, 0, 0]


def test_a_mapping_of_sparsities_rises_and_falls_as_a_whole():
    mapped = Schedule.dsd(dense=1, sparse=4, redense=4, sparsity={"fc": 0.8, "conv*": 0.4})
    assert [p.sparsity for p in variants.pruned(mapped, rounds=2).phases] == [
        None,
        {"fc": 0.4, "conv*": 0.2},
        {"fc": 0.8, "conv*": 0.4},
        {"fc": 0.8, "conv*": 0.4},
    ]
    assert variants.iterated(mapped).phases[3].sparsity == {"fc": 0.4, "conv*": 0.2}


@pytest.mark.parametrize(
    ("variant", "schedule", "arguments", "says"),
    [
        (variants.pruned, PATTERN, {}, "rising sparsity needs a sparsity, not an N:M pattern"),
        (variants.iterated, PATTERN, {}, "falling sparsity needs a sparsity, not an N:M pattern"),
        (variants.under_surgery, PATTERN, {}, "surgery revises the mask of a sparse phase with a sparsity"),
        (
            variants.iterated,
            DSD,
            {"cycles": 0},
            "cycles must be a whole number in .*, at least one step a phase; got 0",
        ),
        (
            variants.iterated,
            DSD,
            {"cycles": 6},
            "cycles must be a whole number in .*, at least one step a phase; got 6",
        ),
        (
            variants.iterated,
            DSD,
            {"cycles": 1.5},
            "cycles must be a whole number in .*, at least one step a phase; got 1.5",
        ),
        (variants.iterated, DSD, {"falling": 3}, "sparsity of phase 'sparse-2' must be in"),
        (variants.iterated, DSD, {"falling": "half"}, "falling must be a number of at least 0, .*; got 'half'"),
    ],
)
def test_a_variant_that_is_impossible_is_refused(
    variant: Any, schedule: Schedule, arguments: dict[str, Any], says: str
):
    with pytest.raises(RedenseError, match=says):
        variant(schedule, **arguments)


@pytest.mark.parametrize("variant", [variants.restarted, variants.lowered, variants.at_random, variants.from_scratch])
def test_variants_of_a_pattern_keep_it_or_drop_it_whole(variant: Any):
    phases = variant(PATTERN).phases
    masked = variant in (variants.at_random, variants.from_scratch)
    assert any(p.pattern == (2, 4) for p in phases) == masked
    assert sum(p.steps for p in phases) == 24


def test_alternating_refuses_a_pattern_for_it_has_no_common_threshold():
    with pytest.raises(ScheduleError, match="phase 'compressed-1' has the scope 'global', which needs one sparsity"):
        variants.alternating(PATTERN)


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear", "step", "polynomial"])
def test_an_early_cut_leaves_the_rates_of_the_dense_phase_as_they_are(kind: Any):
    """The paper prunes before the network has converged, at the rate it has there: nothing is annealed first."""
    whole = Schedule.dsd(dense=12, sparse=7, redense=5, sparsity=0.4, decay=Decay(kind, floor=0.1, power=2))
    cut = variants.earlier(whole, cut=0.25)
    assert [cut.lr_factor(step) for step in range(3)] == pytest.approx([whole.lr_factor(step) for step in range(3)])
    again = variants.earlier(cut, cut=0.67).phases[0]
    assert again.steps == 2
    assert [again.lr * again.decay.at(step / 2) for step in (0, 1)] == pytest.approx(
        [whole.lr_factor(step) for step in (0, 1)]
    )


def test_a_control_without_a_mask_has_every_step_and_rate_of_what_it_controls():
    for make in (variants.iterated, variants.alternating, variants.earlier, variants.under_surgery, variants.pruned):
        own = make(DSD)
        control = variants.restarted(own)
        assert not any(phase.is_sparse for phase in control.phases)
        assert [control.lr_factor(step) for step in range(24)] == [own.lr_factor(step) for step in range(24)]
        assert [p.steps for p in control.phases] == [p.steps for p in own.phases]


# --- every variant --------------------------------------------------------------------------------------------------

# (name, sparsity, lr, steps) of every phase that DSD's 12, 7 and 5 steps at 1, 0.5 and 0.05 become.
TABLE: dict[Callable[..., Any], list[tuple[str, float | None, float, int]]] = {
    variants.restarted: [("dense", None, 1, 12), ("restart", None, 0.5, 7), ("redense", None, 0.05, 5)],
    variants.lowered: [("dense", None, 1, 12), ("lower-lr", None, 0.1, 12)],
    variants.lengthened: [("longer", None, 1, 24)],
    variants.transplanted: [("dense", None, 1, 12), ("scratch", 0.4, 1, 12)],
    variants.at_random: [("dense", None, 1, 12), ("sparse", 0.4, 0.5, 7), ("redense", None, 0.05, 5)],
    variants.earlier: [("dense", None, 1, 6), ("sparse", 0.4, 0.5, 13), ("redense", None, 0.05, 5)],
    variants.from_scratch: [("scratch", 0.4, 1, 12), ("sparse", 0.4, 0.5, 7), ("sparse-end", 0.4, 0.05, 5)],
    variants.pruned: [
        ("dense", None, 1, 12),
        ("prune-1", 0.133333333333, 0.5, 2),
        ("prune-2", 0.266666666667, 0.5, 2),
        ("prune-3", 0.4, 0.5, 3),
        ("prune-end", 0.4, 0.05, 5),
    ],
    variants.under_surgery: [("dense", None, 1, 12), ("surgery", 0.4, 0.5, 12)],
    variants.alternating: [
        ("dense", None, 1, 12),
        ("compressed-1", 0.4, 0.5, 1),
        ("decompressed-1", None, 0.5, 1),
        ("compressed-2", 0.4, 0.5, 1),
        ("decompressed-2", None, 0.5, 1),
        ("compressed-3", 0.4, 0.5, 1),
        ("decompressed-3", None, 0.5, 1),
        ("compressed-4", 0.4, 0.5, 1),
        ("redense", None, 0.05, 5),
    ],
    variants.iterated: [
        ("dense", None, 1, 12),
        ("sparse-1", 0.4, 0.5, 3),
        ("redense-1", None, 0.05, 2),
        ("sparse-2", 0.2, 0.05, 4),
        ("redense-2", None, 0.005, 3),
    ],
}
every = pytest.mark.parametrize("variant", TABLE, ids=lambda variant: variant.__name__)


@every
def test_the_phases_of_a_variant_are_those_of_the_table(variant: Callable[..., Any]):
    schedule = variant(DSD)
    assert variant(DSD.phases) == schedule.phases  # a tuple of phases gives one
    assert [(p.name, p.sparsity, pytest.approx(p.lr), p.steps) for p in schedule.phases] == TABLE[variant]
    cut = [Decay("cosine", until=0.5)] if variant is variants.earlier else []
    assert [phase.decay for phase in schedule.phases if phase.decay != Decay("cosine")] == cut
    assert schedule.total_steps == DSD.total_steps
    assert Schedule.from_dict(schedule.to_dict()) == schedule
    criteria = {p.criterion for p in schedule.phases if p.is_sparse}
    assert criteria <= ({"random"} if variant is variants.at_random else {"magnitude"})
    scopes = {p.scope for p in schedule.phases if p.is_sparse}
    assert scopes <= ({"global"} if variant is variants.alternating else {"layer"})
    assert [p for p in schedule.phases if p.surgery] == [p for p in schedule.phases if p.name == "surgery"]


def test_every_variant_is_in_the_table():
    public = {f for name, f in vars(variants).items() if not name.startswith("_") and hasattr(f, "__wrapped__")}
    assert public == set(TABLE)


@every
@given(steps=st.tuples(st.integers(2, 50), st.integers(7, 50), st.integers(2, 50)), cycles=st.integers(1, 3))
def test_no_variant_gains_or_loses_a_step(variant: Callable[..., Any], steps: tuple[int, int, int], cycles: int):
    dense, sparse, redense = steps
    single = Schedule.dsd(dense=dense, sparse=sparse, redense=redense, sparsity=0.3)
    several = Schedule.dsd(dense=dense, sparse=sparse, redense=redense, sparsity=[0.3] * cycles)
    for dsd in (single, several):
        assert variant(dsd).total_steps == dsd.total_steps


def test_the_first_phase_of_an_early_variant_keeps_one_step_at_least():
    assert [p.steps for p in variants.earlier(DSD, cut=0.001).phases] == [1, 18, 5]
    for cut in (0, 1, -0.5, 1.5):
        with pytest.raises(ScheduleError, match=rf"cut must be in \(0, 1\).* got {cut}"):
            variants.earlier(DSD, cut=cut)
    short = Schedule.dsd(dense=1, sparse=3, redense=3, sparsity=0.5)
    with pytest.raises(ScheduleError, match="a dense phase of 1 steps is too short to be cut"):
        variants.earlier(short)


@pytest.mark.parametrize(
    ("variant", "name", "most"), [(variants.pruned, "rounds", 7), (variants.alternating, "cycles", 4)]
)
@pytest.mark.parametrize("count", [0, -1, 8, 1.0, True])
def test_a_count_that_does_not_fit_the_steps_is_refused(variant: Callable[..., Any], name: str, most: int, count: Any):
    assert variant(DSD, **{name: most}).total_steps == DSD.total_steps
    with pytest.raises(ScheduleError, match=rf"{name} must be a whole number in \[1, {most}\].* got {count!r}"):
        variant(DSD, **{name: count})


def test_a_list_of_phases_is_taken_and_what_is_none_is_refused():
    restarted: Any = variants.restarted
    assert restarted(list(DSD.phases)) == restarted(DSD).phases
    with pytest.raises(ScheduleError, match="a variant is made of a schedule, or of its phases, got 3"):
        restarted(3)
