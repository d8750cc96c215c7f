"""Make zoo/ from runs of its recipes: seed 0 of each, from the phase store where the experiments were made.

    python tools/make_zoo.py [--only NAME]

A network that is in the zoo already stays; remove its folder to make it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from redense.lab.zoo import add

ROOT = Path(__file__).parents[1]
# Recipe -> the comparison that its card shows, and whether its weights are kept in half precision.
NETWORKS = {
    "quickstart": ("quickstart", False),
    "fashion-mnist/squeezenet": ("fashion-mnist-squeezenet", False),
    "fashion-mnist/noisy-labels": ("noisy-labels", True),
    "prompts-es/deepspeech": ("prompts-es-deepspeech", True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    only = parser.parse_args().only
    for recipe, (results, half) in NETWORKS.items():
        if (only and recipe != only) or (ROOT / "zoo" / recipe.replace("/", "-")).exists():
            continue
        with tempfile.TemporaryDirectory() as place:
            run = Path(place) / "run"
            subprocess.run([sys.executable, "-m", "redense.cli", "run", recipe, "--out", str(run)], check=True)
            entry = add(run, ROOT / "zoo", half=half, results=ROOT / "results" / results)
        print(f"{entry.name}: {entry.bytes:,} bytes, {entry.figures}")


if __name__ == "__main__":
    main()
