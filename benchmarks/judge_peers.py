"""The judge beside its peers on three pairs of arms of ours: what does each say of the same numbers?

    python benchmarks/judge_peers.py --out benchmarks/results      # needs: pip install deepsig rliable 'pandas<3'

scipy has the tests, deep-significance the almost stochastic order (ASO), rliable the probability of improvement
with a bootstrap. None has a control or corrects for a table, and only scipy's paired tests use that seeds are pairs.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import redense

ROOT = Path(__file__).parents[1]
PAIRS = [  # experiment, arm, the arm that it is held against
    ("quickstart", "dsd sparsity=0.3", "restart"),
    ("noisy-labels-early-llr", "dsd", "restart"),
    ("noisy-labels-early-llr", "dsd", "llr"),
]


def figures(experiment: str) -> dict[str, dict[str, float]]:
    """Return the test error of every arm and seed."""
    found: dict[str, dict[str, float]] = {}
    with (ROOT / "results" / experiment / "compare.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["arm"], {})[row["seed"]] = float(row["test_error"])
    return found


def ask(experiment: str, arm: str, other: str) -> dict[str, Any]:
    """Return what each says; ASO and rliable want figures of which more is better."""
    from deepsig import aso  # pyright: ignore[reportMissingImports]  # no dependency of ours
    from rliable import library, metrics  # pyright: ignore[reportMissingImports]

    table = figures(experiment)
    a, b = ([table[name][seed] for seed in table[arm]] for name in (arm, other))
    paired: Any = stats.ttest_rel(a, b)
    wilcoxon: Any = stats.wilcoxon(a, b)
    unpaired: Any = stats.ttest_ind(a, b, equal_var=False)
    flips = stats.permutation_test(
        (np.array(a), np.array(b)), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        n_resamples=99_999, rng=np.random.default_rng(0),
    )  # fmt: skip
    scores = {name: -np.array([values]).T for name, values in (("arm", a), ("other", b))}
    np.random.seed(0)  # noqa: NPY002  # rliable's bootstrap draws from the global state
    means, intervals = library.get_interval_estimates(
        {"pair": (scores["arm"], scores["other"])}, metrics.probability_of_improvement, reps=2_000
    )
    judged = redense.judge(
        {name: table[name] for name in ("baseline", arm, other)}, controls=[other], lower_is_better=True
    ).to_dict()
    ours = next(item for item in judged["comparisons"] if (item["arm"], item["against"]) == (arm, other))
    return {
        "experiment": experiment, "arm": arm, "against": other, "n": len(a), "difference": ours["difference"],
        "redense": {key: ours[key] for key in ("interval", "p_adjusted", "p_flip", "detectable", "verdict")},
        "scipy": {
            "ttest_rel": float(paired.pvalue), "wilcoxon": float(wilcoxon.pvalue),
            "ttest_ind": float(unpaired.pvalue), "permutation": float(flips.pvalue),
        },
        "deepsig": {"aso": float(aso((-np.array(a)).tolist(), (-np.array(b)).tolist(), seed=0, show_progress=False))},
        "rliable": {
            "probability_of_improvement": float(np.ravel(means["pair"])[0]),
            "interval": [float(end) for end in np.ravel(intervals["pair"])],
        },
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the raw result there")
    options = parser.parse_args(arguments)
    result = {
        "versions": {name: version(name) for name in ("numpy", "scipy", "deepsig", "rliable")},
        "pairs": [ask(*pair) for pair in PAIRS],
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if options.out:
        (options.out / "judge_peers.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
