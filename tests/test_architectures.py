"""An expert agrees with what is pruned, on the architectures of timm, torchvision and transformers."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from architectures import (  # noqa: E402  # pyright: ignore[reportMissingImports]  # tools/ is no package
    BEGIN,
    END,
    LIBRARIES,
    PAGE,
    RESULTS,
    Architecture,
    architectures,
    tables,
    told,
)

STORED = json.loads(RESULTS.read_text())
KNOWN = {(one["library"], one["name"]): Architecture(**one) for one in STORED["found"]}

# What reads the input, where shapes tell otherwise than a forward.
OTHER_STEMS = {
    "raft_large": "the flow of the step before has two channels, and is taken for an input",
    "csatv2": "the cosine transform's three planes are read by a convolution each",
}

# Seen in a forward to multiply what comes in, and left dense all the same: by the words of the reason.
LEFT_DENSE = {
    "an embedding": "relative positions, tokens and queries that go straight into a projection",
    "a normalisation": "a token that is normalised before it goes into a projection",
    "a bias": "a table of relative positions",
    "standardised by": "weight-standardised convolutions, which undo zeros",
}


def test_the_page_has_the_tables_of_the_stored_results():
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == tables(list(KNOWN.values()), STORED["failed"], STORED["versions"], STORED["listed"])


def test_what_could_not_be_built_is_told_without_the_paths_of_a_machine():
    error = ValueError("no Model in <module 'a.b' from '/some/where/lib/a/b.py'>\nand more")
    assert told(error) == "ValueError: no Model in <module 'a.b' from 'b.py'>"
    assert not [why for *_, why in STORED["failed"] if re.search(r"(?:^|[\s'\"(])/\w", why)]


def test_where_much_stays_dense_for_want_of_a_rule_a_user_is_told():
    counts = Counter(one.library for one in KNOWN.values())
    assert counts["timm"] > 600
    assert counts["torchvision"] > 100
    assert counts["transformers"] > 300
    for one in KNOWN.values():
        unruled = sum(weights for reason, weights in one.left.items() if "no rule covers" in reason)
        assert one.warned or unruled <= 0.02 * one.weights, one.name


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_pruned_of_every_architecture_is_what_is_stored(library: str):
    same = STORED["versions"][library] == importlib.metadata.version(library)
    for one in architectures(library):
        if isinstance(one, Architecture):
            kept = KNOWN.get((library, one.name)) if same else None
            if kept is not None:
                assert (one.weights, one.warned) == (kept.weights, kept.warned), one.name
                assert one.prunable == pytest.approx(kept.prunable, rel=0.01), one.name
            unruled = sum(weights for reason, weights in one.left.items() if "no rule covers" in reason)
            assert one.warned or unruled <= 0.02 * one.weights, one.name


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_forward_multiplies_with_is_what_is_pruned(library: str):
    followed = 0
    for one in architectures(library, trace=True, one_per_family=True):
        if not isinstance(one, Architecture) or one.traced is None:
            continue
        followed += 1
        missed = [entry for entry in one.traced["missed"] if not any(why in entry for why in LEFT_DENSE)]
        assert missed == [] or one.warned, (one.name, missed)
        if library != "transformers":  # its text models read the input in an embedding
            same = one.traced.get("first", one.first) == one.first
            assert same or one.warned or one.name in OTHER_STEMS, (one.name, one.traced)
    assert followed > 20
