"""Try redense with other versions than those of constraints.txt, and write what was seen into docs/compatibility.md.

    python tools/compatibility.py lowest      the lower bounds of pyproject.toml, as uv resolves them
    python tools/compatibility.py newest      the newest releases that pip finds
    python tools/compatibility.py sizes       what redense and redense[lab] bring after torch

Each in an environment of its own, ``build/NAME``, which is kept for the next time. Only what passes is written down.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
EXTRAS = "all,test"
LEARNING = ["torch", "torchvision", "timm", "accelerate", "transformers", "pytorch-lightning", "pytorch_optimizer"]
NUMBERS = ["numpy", "scipy", "joblib", "safetensors", "pydantic", "PyYAML", "plotly", "rich"]
DATA = ["datasets", "pillow", "sacrebleu", "soundfile", "jiwer", "flashlight-text"]
SHOWN = [*LEARNING, *NUMBERS, *DATA, "hypothesis", "pytest"]


def free_environment() -> dict[str, str]:
    """Return the environment without the pins of constraints.txt, which the Makefile sets."""
    return {name: value for name, value in os.environ.items() if name not in ("PIP_CONSTRAINT", "PYTHONPATH")}


def run(*words: object, pinned: bool = False) -> None:
    """Run a command in the checkout, and end with its exit code if it fails."""
    print("$", *words, flush=True)
    environment = {**free_environment(), **({"PIP_CONSTRAINT": str(ROOT / "constraints.txt")} if pinned else {})}
    code = subprocess.run([str(word) for word in words], cwd=ROOT, env=environment, check=False).returncode
    if code:
        raise SystemExit(code)


def make_environment(name: str, *, anew: bool = False) -> Path:
    """Return the Python of ``build/NAME``, made if it is not there."""
    folder = ROOT / "build" / name
    if anew and folder.exists():
        shutil.rmtree(folder)
    python = folder / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", folder)
    return python


def install_lowest(python: Path) -> None:
    """Install the lowest versions that pyproject.toml admits; pip, because uv does not see pip's own places."""
    wanted = ROOT / "build" / "lowest.txt"
    wanted.unlink(missing_ok=True)  # uv would keep to the versions of the last time
    run(python, "-m", "pip", "install", "-q", "uv")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    extras = [word for extra in EXTRAS.split(",") for word in ("--extra", extra)]
    how = ["--quiet", "--no-header", "--resolution", "lowest-direct", "--python-version", version, "-o", wanted]
    run(python, "-m", "uv", "pip", "compile", *how, *extras, "pyproject.toml")
    run(python, "-m", "pip", "install", "-q", "-r", wanted)
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--editable", ".")


def install_newest(python: Path) -> None:
    """Install the newest versions that fit each other."""
    run(python, "-m", "pip", "install", "-q", "--upgrade", "--upgrade-strategy", "eager", "--editable", f".[{EXTRAS}]")


def test(name: str, python: Path, workers: int, more: list[str]) -> str:
    """Run the quick tests; return what the page says of them."""
    log = ROOT / "build" / f"{name}.log"
    words = [python, "-m", "pytest", "--workers", workers, "-p", "no:cacheprovider", "-q", *more]
    print("$", *words, f"> {log.relative_to(ROOT)}", flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=ROOT,
            env={**free_environment(), "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime"))
    lines = log.read_text(encoding="utf-8").splitlines()
    print("\n".join(lines[-30:]))
    if done.returncode:
        raise SystemExit(done.returncode)
    counted = next(line for line in reversed(lines) if re.search(r"\d+ passed", line))
    counts = ", ".join(re.findall(r"\d+ (?:passed|skipped)", counted))
    return f"{counts}, in {spent:,.0f} s of processor time"


def versions(python: Path) -> dict[str, str]:
    """Return the versions of what is installed, by the name that PyPI has."""
    out = subprocess.check_output([str(python), "-m", "pip", "list", "--format", "json"], text=True)
    return {item["name"].lower().replace("-", "_"): item["version"] for item in json.loads(out)}


def section_of_tests(python: Path, said: str) -> str:
    """Return the part of the page about one run."""
    found = versions(python)
    shown = [(name, found.get(name.lower().replace("-", "_"))) for name in SHOWN]
    listed = ", ".join(f"{name} {version}" for name, version in shown if version)
    return f"{_today()}, Python {platform.python_version()}, {_processor()}: **{said}**.\n\n{listed}."


def section_of_sizes() -> str:
    """Install torch, then redense, then redense[lab]; return the part of the page about what each adds."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    torch = next(line for line in pins.splitlines() if line.startswith("torch=="))
    python = make_environment("sizes", anew=True)
    site = next((python.parent.parent / "lib").glob("python*")) / "site-packages"
    rows, before = list[str](), (0, 0.0)
    for what, wanted in ((torch, torch), ("redense", "."), ("redense[lab]", ".[lab]")):
        run(python, "-m", "pip", "install", "-q", wanted, pinned=True)
        now = (len(versions(python)), sum(p.lstat().st_size for p in site.rglob("*") if p.is_file()) / 1e6)
        if wanted != torch:
            rows.append(f"| `pip install '{what}'` | {now[0] - before[0]} | {now[1] - before[1]:,.0f} MB |")
        else:
            before = now
    head = f"{_today()}, Python {platform.python_version()}, {_processor()}, beside {torch} and what that brings:\n\n"
    return head + "| | packages more | size more |\n|---|---|---|\n" + "\n".join(rows)


def write(name: str, text: str) -> None:
    """Put a part of the page in the place of the one before."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, found, rest = page.partition(begin)
    if not found:
        raise SystemExit(f"{PAGE.name} has no {begin.strip()}")
    PAGE.write_text(f"{head}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")
    print(text)


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lowest", "newest", "sizes"))
    parser.add_argument("--workers", type=int, default=2, help="processes that test (default: 2)")
    parser.add_argument("--only-install", action="store_true")
    options, more = parser.parse_known_args()
    (ROOT / "build").mkdir(exist_ok=True)
    if options.what == "sizes":
        write("sizes", section_of_sizes())
        return 0
    python = make_environment(options.what)
    {"lowest": install_lowest, "newest": install_newest}[options.what](python)
    if not options.only_install:
        said = test(options.what, python, options.workers, more)
        if not more:  # else it was a part of the tests
            write(options.what, section_of_tests(python, said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
