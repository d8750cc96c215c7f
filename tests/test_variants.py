"""What the variants of a schedule do beyond what test_schedule.py shows of them."""

from __future__ import annotations

from typing import Any

import pytest

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
        (variants.iterated, DSD, {"cycles": 0}, "cycles must be a whole number of at least 1, .* got 0"),
        (variants.iterated, DSD, {"cycles": 6}, "cycles must be a whole number of at least 1, .* got 6"),
        (variants.iterated, DSD, {"cycles": 1.5}, "cycles must be a whole number of at least 1, .* got 1.5"),
        (variants.iterated, DSD, {"falling": 3}, "sparsity of phase 'sparse-2' must be in"),
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
