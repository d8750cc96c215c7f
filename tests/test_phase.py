"""Phases: what is impossible, how the rate falls, plain data there and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense import Decay, Phase, Surgery
from redense.errors import RedenseError, ScheduleError, ScoreError, SparsityError
from redense.phase import ordered

SHARES = st.floats(0, 1)
SPARSITIES = st.floats(0, 1, exclude_max=True)
DECAYS = st.builds(
    Decay,
    kind=st.sampled_from(["constant", "cosine", "linear", "step", "polynomial"]),
    floor=SHARES,
    power=st.floats(0, 10),
    every=st.floats(0.01, 1),
    factor=SHARES,
)
SURGERIES = st.builds(
    Surgery,
    c=st.none() | st.floats(-3, 3),
    band=SPARSITIES,
    gamma=st.floats(0, 10),
    power=st.floats(0, 10),
)
LRS = st.floats(0, 10)
CRITERIA = st.sampled_from(["magnitude", "random", "saliency"])
PHASES = st.one_of(
    st.builds(Phase.dense, st.integers(1, 10**9), lr=LRS, decay=st.none() | DECAYS, name=st.text()),
    st.builds(
        Phase.sparse,
        st.integers(1, 50),
        SPARSITIES | st.dictionaries(st.text(), SPARSITIES, min_size=1),
        lr=LRS,
        decay=DECAYS,
        criterion=CRITERIA,
        surgery=st.none() | SURGERIES,
        name=st.text(),
    ),
    st.builds(Phase.sparse, st.integers(1, 50), SPARSITIES, scope=st.just("global"), criterion=CRITERIA),
    st.builds(Phase.sparse, st.integers(1, 50), pattern=st.sampled_from([(2, 4), (1, 1), (4, 8)]), lr=LRS),
)


@given(PHASES)
def test_a_phase_comes_back_from_json_as_it_was(phase: Phase):
    plain = json.loads(json.dumps(phase.to_dict(), sort_keys=True))
    again = Phase.from_dict(plain)
    assert again == phase
    assert again.to_dict() == phase.to_dict() == plain


@pytest.mark.parametrize(
    ("shares", "kept", "in_keys"),
    [
        ({"mid.*": 0.8, "*.fc1.*": 0.2}, [["mid.*", 0.8], ["*.fc1.*", 0.2]], [["mid.*", 0.8], ["*.fc1.*", 0.2]]),
        ({"mid.*": 0.8, "*": 0.2}, [["mid.*", 0.8], ["*", 0.2]], {"mid.*": 0.8, "*": 0.2}),
        ({"*.fc1.*": 0.2, "mid.*": 0.8}, {"*.fc1.*": 0.2, "mid.*": 0.8}, {"*.fc1.*": 0.2, "mid.*": 0.8}),
        ({"mid": 0.8, "fc": 0.2}, {"mid": 0.8, "fc": 0.2}, {"mid": 0.8, "fc": 0.2}),
    ],
)
def test_the_order_of_patterns_is_a_part_of_plain_data_where_it_matters(
    shares: dict[str, float], kept: Any, in_keys: Any
):
    phase = Phase.sparse(5, shares)
    data = phase.to_dict()
    assert data == {"steps": 5, "sparsity": kept, "name": "sparse"}
    for plain in (data, json.loads(json.dumps(data, sort_keys=True)), {**data, "sparsity": shares}):
        again = Phase.from_dict(plain).sparsity
        assert isinstance(again, dict)
        assert again == shares
        assert isinstance(kept, dict) or list(again) == list(shares)
    # The keys of a store and states that were saved know the mapping.
    assert ordered(data) == ordered({**data, "sparsity": shares}) == {**data, "sparsity": in_keys}
    assert ordered(ordered(data)) == ordered(data)


def test_plain_data_leaves_out_what_has_its_default():
    assert Phase.dense(5).to_dict() == {"steps": 5, "name": "dense"}
    phase = Phase.sparse(5, {"fc.*": 0.5}, decay=Decay("step", every=0.5), surgery=Surgery(band=0.2))
    assert phase.to_dict() == {
        "steps": 5,
        "name": "sparse",
        "sparsity": {"fc.*": 0.5},
        "decay": {"kind": "step", "every": 0.5},
        "surgery": {"band": 0.2},
    }
    assert Phase.sparse(5, 0.5, surgery=Surgery()).to_dict()["surgery"] == {}


@given(DECAYS, st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2).map(sorted))
def test_every_decay_starts_at_one_and_never_rises(decay: Decay, moments: list[float]):
    earlier, later = (decay.at(x) for x in moments)
    assert decay.at(0.0) == pytest.approx(1)
    assert 0 <= later <= earlier + 1e-12 <= 1 + 1e-9
    if decay.kind in ("cosine", "linear", "polynomial"):
        assert later >= decay.floor - 1e-12


def test_decays_are_the_formulas_of_their_docstring():
    assert Decay("cosine").at(0.5) == pytest.approx(0.5)
    assert Decay("cosine", floor=0.2).at(1.0) == pytest.approx(0.2)
    assert Decay("linear", floor=0.1).at(0.25) == pytest.approx(0.1 + 0.9 * 0.75)
    assert Decay("polynomial", power=0.5).at(0.75) == pytest.approx(0.5)
    assert Decay("linear", power=3).at(0.5) == 0.5
    assert Decay("constant", floor=0.3).at(0.9) == 1
    resnet = Decay("step")
    assert [resnet.at(i / 90) for i in (0, 29, 30, 59, 60, 89)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    # 3 * (1/3) and the like are steps in spite of rounding
    assert [Decay("step", every=0.1, factor=0.5).at(i / 10) for i in range(10)] == pytest.approx(
        [0.5**i for i in range(10)]
    )


@pytest.mark.parametrize("bad", [0, -1, 2.0, "5", True, None])
def test_steps_must_be_a_positive_whole_number(bad: Any):
    with pytest.raises(ScheduleError, match=r"steps of phase 'warm' must be a whole number of at least 1 .* got "):
        Phase.dense(bad, name="warm")


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, "0.1", True, None])
def test_a_learning_rate_factor_must_be_a_finite_number(bad: Any):
    with pytest.raises(ScheduleError, match="lr of phase 'dense' must be a factor of at least 0, got "):
        Phase.dense(1, lr=bad)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"sparsity": 1.0}, SparsityError, r"sparsity of phase 'S' must be in \[0, 1\), got 1\.0"),
        ({"sparsity": "30 %"}, SparsityError, "sparsity of phase 'S' must be a number .* got '30 %'"),
        ({"sparsity": {"fc.weight": -1}}, SparsityError, r"sparsity of 'fc\.weight' must be in \[0, 1\), got -1"),
        ({"sparsity": {}}, SparsityError, "phase 'S' maps no parameter to a sparsity"),
        ({"pattern": (4, 2)}, SparsityError, "got 4:2"),
        (
            {"sparsity": 0.5, "pattern": (2, 4)},
            ScheduleError,
            r"phase 'S' has both a sparsity and the pattern \(2, 4\)",
        ),
        (
            {"sparsity": 0.5, "scope": "model"},
            ScheduleError,
            "scope of phase 'S' must be 'layer' or 'global', got 'model'",
        ),
        (
            {"sparsity": {"a": 0.5}, "scope": "global"},
            ScheduleError,
            "phase 'S' has the scope 'global', which needs one",
        ),
        ({"pattern": (2, 4), "scope": "global"}, ScheduleError, "phase 'S' has the scope 'global', which needs one"),
        ({"scope": "global"}, ScheduleError, "phase 'S' has the scope 'global', which needs one"),
        ({"sparsity": 0.5, "criterion": "rnd"}, ScoreError, "unknown criterion 'rnd'"),
        ({"surgery": Surgery()}, ScheduleError, "surgery revises the mask of a sparse phase .* not of phase 'S'"),
        ({"pattern": (2, 4), "surgery": Surgery()}, ScheduleError, "surgery revises the mask of a sparse phase"),
    ],
)
def test_an_impossible_phase_is_refused_by_name(arguments: dict[str, Any], error: type[RedenseError], says: str):
    with pytest.raises(error, match=says):
        Phase(1, name="S", **arguments)


def test_a_sparse_phase_needs_a_sparsity_or_a_pattern():
    with pytest.raises(SparsityError, match=r"phase 'sparse' needs a sparsity, .* or a pattern such as \(2, 4\)"):
        Phase.sparse(1)


def test_a_phase_without_a_name_is_called_by_its_kind():
    assert (Phase(1).name, Phase(1).kind, Phase(1).is_sparse) == ("dense", "dense", False)
    assert (Phase(1, 0.0).name, Phase(1, 0.0).kind, Phase(1, 0.0).is_sparse) == ("sparse", "sparse", True)
    assert Phase.sparse(1, pattern=(2, 4)).is_sparse
    with pytest.raises(ScheduleError, match="steps of a sparse phase"):
        Phase(0, 0.5)


def test_a_phase_keeps_its_own_copy_of_a_mapping():
    sparsities = {"fc": 0.5}
    phase = Phase.sparse(1, sparsities)
    sparsities["fc"] = 2.0
    assert phase.sparsity == {"fc": 0.5}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "cosin"}, "decay must be one of constant, cosine, .* got 'cosin'; did you mean 'cosine'"),
        ({"floor": 1.1}, r"floor of the decay must be in \[0, 1\], got 1\.1"),
        ({"every": 0}, r"every of the decay must be in \(0, 1\], got 0"),
        ({"factor": -1}, r"factor of the decay must be in \[0, 1\], got -1"),
        ({"power": -0.5}, r"power of the decay must be in \[0, inf\], got -0\.5"),
        ({"power": math.nan}, "power of the decay .* got nan"),
        ({"floor": "0"}, "floor of the decay .* got '0'"),
        ({"floor": True}, "floor of the decay .* got True"),
    ],
)
def test_an_impossible_decay_is_refused_by_name(arguments: dict[str, Any], says: str):
    with pytest.raises(ScheduleError, match=says):
        Decay(**arguments)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"steps": 1, "sparisty": 0.3}, "unknown key 'sparisty' in a phase; did you mean 'sparsity'"),
        ({"sparsity": 0.3}, "a phase needs its number of 'steps', got {'sparsity': 0.3}"),
        ({"steps": 1, "decay": {"knd": "cosine"}}, "unknown key 'knd' in a decay; did you mean 'kind'"),
        ({"steps": 1, "decay": ["cosine"]}, "decay is a mapping of its settings, got .*cosine"),
        ({"steps": 1, "sparsity": 0.5, "surgery": {"bend": 1}}, "unknown key 'bend' in a surgery; did you mean 'band'"),
        ("steps: 1", "a phase is a mapping such as .* got 'steps: 1'"),
        (None, "a phase is a mapping such as .* got None"),
    ],
)
def test_plain_data_that_is_no_phase_is_refused_with_its_key(data: Any, says: str):
    with pytest.raises(ScheduleError, match=says):
        Phase.from_dict(data)


def test_a_phase_of_a_sparsity_by_name_is_told_by_its_values_and_keeps_a_place_in_a_set():
    one, same, other = (Phase.sparse(3, s) for s in ({"a": 0.5, "b": 0.25}, {"b": 0.25, "a": 0.5}, {"a": 0.5}))
    assert {one, same, other} == {one, other}
    assert len({one, same, other}) == 2
