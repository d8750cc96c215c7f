"""Every example runs, with redense and without its few marked lines, and trains to something when it is let."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist

from redense.optional.torchvision import make_importable

EXAMPLES = Path(__file__).parent.parent / "examples"
DOCS = EXAMPLES.parent / "docs" / "how-to"
NEEDS = {"with_lightning": "pytorch_lightning", "with_transformers": "transformers"}
# The most lines that redense may need in each.
LINES = {"plain_loop": 5, "with_lightning": 6, "with_accelerate": 7, "with_transformers": 4, "ddp": 5, "fsdp2": 7}
TORCHRUN = ("ddp", "fsdp2")
MARK = "  # redense\n"


def lines_of(name: str, *, without_redense: bool) -> list[str]:
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines(keepends=True)
    return [line for line in lines if not (without_redense and line.endswith(MARK))]


def test_every_example_is_here_and_in_the_documentation():
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"common"} == set(LINES)
    text = "".join(page.read_text() for page in DOCS.glob("*.md"))
    for name in LINES:
        assert f'--8<-- "examples/{name}.py:' in text, name
        assert f"{name}.py" in (EXAMPLES / "README.md").read_text()


@pytest.mark.parametrize("name", LINES)
def test_redense_needs_a_few_lines(name: str):
    marked = [line for line in lines_of(name, without_redense=False) if line.endswith(MARK)]
    assert 0 < len(marked) <= LINES[name]
    rest = "".join(lines_of(name, without_redense=True))
    assert "redense" not in re.sub(r"REDENSE|\bredense=|\n\"\"\".*?\"\"\"|^\"\"\".*?\"\"\"", "", rest, flags=re.DOTALL)


DEAR = ("fsdp2", "with_lightning", "with_transformers")
"""The quick tests ask their frameworks in tests/integrations."""


@pytest.mark.filterwarnings("ignore::UserWarning")  # advice of Lightning and transformers
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "without_redense"),
    [
        pytest.param(
            name,
            plain,
            id=f"{name}-{'plain' if plain else 'dsd'}",
            marks=[pytest.mark.slow] if name in DEAR or (plain and name != "plain_loop") else [],
        )
        for name in LINES
        for plain in (False, True)
    ],
)
def test_an_example_runs(
    name: str,
    without_redense: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "common", raising=False)
    if name in TORCHRUN:  # with one rank, in this process
        store = dist.FileStore(str(tmp_path / "meet"), 1)  # pyright: ignore[reportPrivateImportUsage]
        honest = dist.init_process_group
        monkeypatch.setattr(
            dist, "init_process_group", lambda backend: honest(backend, store=store, rank=0, world_size=1)
        )
    source = "".join(lines_of(name, without_redense=without_redense))
    try:
        exec(compile(source, f"{name}.py", "exec"), {"__name__": "__main__"})
    finally:
        sys.modules.pop("common", None)
        if dist.is_initialized():
            dist.destroy_process_group()
    assert re.search(r"test error \d+\.\d\d%|loss on held-out bytes \d", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LINES)
def test_an_example_trains(name: str, tmp_path: Path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if name in TORCHRUN else []
    done = subprocess.run(
        [sys.executable, *start, str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"test error (\d+\.\d+)%|loss on held-out bytes (\d+\.\d+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) < 18 if found[1] else float(found[2]) < 2.6


# --- comparisons of a training of one's own -------------------------------------------------------------------------

COMPARING = {
    "digits": "sklearn",
    "spam": "transformers",
    "fine_tuning": "transformers",
    "lightning_module": "pytorch_lightning",
}


def test_every_comparison_is_here_and_in_the_documentation():
    assert {path.name for path in (EXAMPLES / "comparing").glob("*.*")} == {
        *(f"{name}.py" for name in COMPARING),
        "line.sh",
    }
    text = (DOCS / "compare-your-training.md").read_text() + (EXAMPLES / "README.md").read_text()
    for path in (EXAMPLES / "comparing").glob("*.*"):
        assert f"examples/comparing/{path.name}" in text


@pytest.mark.filterwarnings("ignore::UserWarning")  # advice of Lightning and transformers
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "digits" else [pytest.mark.slow]) for name in COMPARING],
)
def test_a_training_of_ones_own_is_judged(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip(COMPARING[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "common", raising=False)
    path = EXAMPLES / "comparing" / f"{name}.py"
    try:
        exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})
    finally:
        sys.modules.pop("common", None)
    out = capsys.readouterr().out
    assert "dsd: no gain." in out or "dsd: a gain." in out
    page = next(tmp_path.glob("runs/*/report.html")).read_text(encoding="utf-8")
    assert "control without a mask" in page


def test_a_script_of_the_shell_is_judged(redense: Callable[..., tuple[int, str, str]], tmp_path: Path):
    text = (EXAMPLES / "comparing" / "line.sh").read_text()
    shown = text.partition("# redense compare ")[2].partition("\n#\n")[0].partition("\nawk")[0]
    words = shlex.split(shown.replace("\\\n#", " ").replace("examples/comparing/", f"{EXAMPLES}/comparing/"))
    code, out, _ = redense("compare", *words, "--seeds", "3", "--out", "c", "--jobs", "2")
    assert code == 0
    assert "The control is longer, the only one." in out
    assert "average: no gain." in out or "average: a gain." in out


# --- techniques in a loop of one's own ------------------------------------------------------------------------------

METHODS = {"averages": "", "sam": "pytorch_optimizer", "distill": "", "others": "", "with_peft": "peft"}
"""Each with the library that it needs."""


def test_every_technique_is_here_and_in_the_documentation():
    assert {path.stem for path in (EXAMPLES / "methods").glob("*.py")} == set(METHODS)
    text = "".join(page.read_text() for page in DOCS.glob("*.md"))
    for name in METHODS:
        assert f'--8<-- "examples/methods/{name}.py:' in text, name
        assert f"examples/methods/{name}.py" in (EXAMPLES / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::UserWarning")  # advice of peft
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ("sam", "with_peft") else []) for name in METHODS]
)
def test_a_technique_runs_in_a_loop_of_ones_own(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if METHODS[name]:
        make_importable()  # peft imports transformers, and that torchvision
        pytest.importorskip(METHODS[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "common", raising=False)
    path = EXAMPLES / "methods" / f"{name}.py"
    try:
        exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})
    finally:
        sys.modules.pop("common", None)
    out = capsys.readouterr().out
    assert re.search(r"test error (on \w+ )?\d+\.\d\d%", out)
    if name == "averages":  # the average is as sparse as the network
        shares = re.search(r"([\d.]+)% of the network is zero, ([\d.]+)% of its EMA", out)
        assert shares
        assert shares[1] == shares[2] == "50.0"
