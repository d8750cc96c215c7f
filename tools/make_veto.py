"""Make the table of the sign-flip veto, ``src/redense/lab/judging/veto.json``, that `redense.lab.judging.power` reads.

A verdict needs the paired t-test and the sign-flip test. The power of the first has a formula, what the second takes
away has none, and is simulated here: for n pairs of normal differences whose true mean is ``shift / sqrt(n)`` standard
deviations, the share of experiments with a one-sided t beyond its limit that the sign-flip test vetoes all the same.
It depends on n, the shift and the level of the t-test alone. The seed is fixed: the same table each time.

    python tools/make_veto.py        # some minutes on one core
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import special

OUT = Path(__file__).parents[1] / "src/redense/lab/judging/veto.json"
PAIRS = range(5, 17)  # with fewer no t beyond its limit has a sign-flip p above the veto's; with more it is below 0.005
SHIFTS = [round(0.25 * step, 2) for step in range(49)]
DIVISORS = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20]  # the t-test's levels: 0.05 / divisor
EXPERIMENTS = 40_000
LEVEL = 0.05


def vetoed(normal: np.ndarray, shift: float) -> list[float]:
    """Return for each level the share of experiments that the t-test passes and the sign-flip test does not."""
    experiments, n = normal.shape
    differences = normal + shift / np.sqrt(n)
    t = differences.mean(1) / differences.std(1, ddof=1) * np.sqrt(n)
    limits = -special.stdtrit(n - 1, LEVEL / np.array(DIVISORS) / 2)
    # A sum that is 3.2 of its standard deviations under flips from zero is in no danger: its p is below 0.01.
    danger = (t >= limits[0]) & (differences.sum(1) < 3.2 * np.sqrt((differences**2).sum(1)))
    differences, t = differences[danger].astype(np.float32), t[danger]
    signs = (1.0 - 2.0 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)).astype(np.float32)
    p = np.empty(len(t))
    for start in range(0, len(t), 500):
        chunk = differences[start : start + 500]
        reached = chunk.sum(1) * (1 - 1e-5)
        p[start : start + 500] = (np.abs(chunk @ signs.T) >= reached[:, None]).mean(1)
    veto = p > max(LEVEL, 2.0 ** (1 - n))
    return [float(np.round((veto & (t >= limit)).sum() / experiments, 4)) for limit in limits]


def main() -> None:
    table: dict[str, list[list[float]]] = {}
    for n in PAIRS:
        normal = np.random.default_rng([2017, n]).normal(size=(EXPERIMENTS, n))
        table[str(n)] = [vetoed(normal, shift) for shift in SHIFTS]
        print(n, "pairs: at most", [max(column) for column in zip(*table[str(n)], strict=True)], flush=True)
    text = json.dumps({"shifts": SHIFTS, "divisors": DIVISORS, "vetoed": table}, separators=(",", ":"))
    OUT.write_text(text.replace('"vetoed":', '\n"vetoed":').replace("]],", "]],\n").replace("],[", "],\n[") + "\n")


if __name__ == "__main__":
    main()
