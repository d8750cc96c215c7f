"""The examples with the Trainer and Lightning, killed at ten moments each, end with the table of a whole run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMPARING = Path(__file__).parents[3] / "examples" / "comparing"
KILLS, SEEDS = 10, 4  # three arms: one kill in the training after each of the first ten pairs
SCRIPT = """
import importlib, sys, warnings
warnings.simplefilter("ignore")
name, out, seeds, sys.argv[1:] = *sys.argv[1:4], sys.argv[4:]
sys.path.insert(0, {comparing!r})
from redense.optional.torchvision import make_importable
make_importable()
example = importlib.import_module(name)
import redense
schedule = redense.Schedule.dsd(dense=4, sparse=2, redense=2, sparsity=0.3)
redense.compare(example.train, schedule, arms=("dsd", "restart"), seeds=int(seeds), out=out, metric="error")
"""


def mails(folder: Path) -> str:
    """Write mails of random letters, wanted or not: the errors differ by seed and arm."""
    draw = random.Random(0)
    for number in range(60):
        path = folder / ("spam-1", "easy-ham-1")[number % 2] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Subject: none\n\n" + "".join(draw.choices("abcdefgh ", k=200)))
    return str(folder)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "package"), [("spam", "transformers"), ("lightning_module", "pytorch_lightning")])
def test_an_example_that_is_killed_ten_times_ends_with_the_table_of_a_whole_run(
    name: str, package: str, tmp_path: Path
):
    pytest.importorskip(package, reason=f"{package} is not installed")
    script = tmp_path / "compare.py"
    script.write_text(SCRIPT.format(comparing=str(COMPARING)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    given = [mails(tmp_path / "mails")] if name == "spam" else ["--quick"]

    def words(out: str) -> list[str]:
        return [sys.executable, str(script), name, str(tmp_path / out), str(SEEDS), *given]

    for place in range(KILLS):
        child = subprocess.Popen(words("killed"), env=environment, cwd=tmp_path, start_new_session=True)
        while len(list(tmp_path.glob("killed/pairs/*/*/result.json"))) < place + 1 and child.poll() is None:
            time.sleep(0.005)
        time.sleep(0.01 * place)
        assert child.poll() is None, f"it ended before kill {place + 1}"
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for out in ("killed", "whole"):
        subprocess.run(words(out), env=environment, cwd=tmp_path, check=True)
    for table in ("compare.json", "compare.csv"):
        assert (tmp_path / "killed" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()
    figures = [json.loads(path.read_text())["figures"] for path in tmp_path.glob("whole/pairs/*/*/result.json")]
    assert len({json.dumps(figure) for figure in figures}) > 1
