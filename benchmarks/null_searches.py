"""How often a search confirms a gain where there is none: simulated figures of eight candidates and eight controls.

    python benchmarks/null_searches.py [--check] [--searches 1000] --out benchmarks/results

Each search halves both on 40 validation runs, as `redense.search` does, and judges the winner against the strongest
control on ten fresh seeds. A tenth of the figures has three times the spread. The bar: at most 5 % confirm a gain, for
every kind of figure. With `--gain` one candidate is better by so many standard deviations: how often that is found.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from redense.lab.judging.figures import ArmFigures
from redense.lab.judging.verdicts import decide
from redense.lab.search.halving import halve, plan_rungs

AT_MOST = 0.05
Draw = Callable[[random.Random], float]
KINDS: dict[str, Draw] = {
    "normal, heavy tails": lambda draw: draw.gauss(0, 1) * (3 if draw.random() < 0.1 else 1),
    "normal": lambda draw: draw.gauss(0, 1),
    "skewed": lambda draw: draw.lognormvariate(0, 1),
    "ties": lambda draw: float(draw.randrange(3)),
}


def confirmed(draw: random.Random, noise: Draw, gain: float = 0.0) -> bool:
    """Search among eight candidates, the third better by ``gain``, and eight controls; confirm the best."""
    names = [f"{kind}{place}" for kind in ("new", "control") for place in range(8)]
    shared = {seed: draw.gauss(0, 2) for seed in range(30)}

    def figure(name: str, seed: int) -> float:
        return shared[seed] + noise(draw) - gain * (name == "new2")

    def score(settings: Sequence[str], seeds: Sequence[int]) -> Mapping[str, Mapping[int, float]]:
        return {name: {seed: figure(name, seed) for seed in seeds} for name in settings}

    rungs = plan_rungs(8, 40)
    winners = [halve(names[i : i + 8], rungs, range(20), score, is_lower_better=lambda: True)[0] for i in (0, 8)]
    new, control = (str(name) for name in winners)
    fresh = {name: ArmFigures({str(seed): figure(name, seed) for seed in range(20, 30)}) for name in (new, control)}
    return decide(fresh, lower_is_better=True, baseline="", controls=[control]).conclusions[new].gain


def main(arguments: list[str] | None = None) -> int:
    """Simulate, print, store; return the exit status."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--searches", type=int, default=1000, help="of each kind of figure (default: 1000)")
    options.add_argument("--gain", type=float, default=0.0, help="of one candidate; 0: none is better")
    options.add_argument("--check", action="store_true", help="exit with 1 if the bar is missed")
    options.add_argument("--out", type=Path, metavar="DIR", help="write the raw result there")
    given = options.parse_args(arguments)
    found: dict[str, list[int]] = {}
    for kind, noise in KINDS.items():
        draw = random.Random(f"{kind} {given.gain}")
        found[kind] = [number for number in range(given.searches) if confirmed(draw, noise, given.gain)]
        print(f"{kind}: {len(found[kind])} of {given.searches} searches confirm a gain")
    met = all(len(searches) <= AT_MOST * given.searches for searches in found.values())
    settings = {"searches": given.searches, "gain": given.gain, "settings": 8, "runs": 40, "confirm": 10}
    if given.out:
        result = {
            "benchmark": "null_searches",
            "settings": settings,
            "at_most": AT_MOST,
            "met": met,
            "confirmed": found,
        }
        (given.out / "null_searches.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    return int(given.check and not met)


if __name__ == "__main__":
    sys.exit(main())
