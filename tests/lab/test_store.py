"""The phase store: keys cover what determines a phase and nothing else; nothing is half-written or trained twice."""

from __future__ import annotations

import dataclasses
import json
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import torch

from redense.errors import CheckpointError, StateError
from redense.lab import keys as key_module
from redense.lab.comparison import jobs
from redense.lab.comparison.comparison import Comparison
from redense.lab.comparison.grid import Grid
from redense.lab.keys import phase_keys
from redense.lab.recipe.recipe import Recipe
from redense.lab.store import PhaseStore, default_store
from redense.lab.training.plan import PlannedPhase, plan
from redense.methods.dropconnect import DropConnect

Tiny = Callable[..., Recipe]

KEY = "0123456789abcdef" * 2
STATE = {"model": {"w": torch.arange(3.0)}, "position": {"phase": 1, "step": 0}}
STORED_KEYS = [
    "bdd003e2fbeadd46e888ca50cbc6ff47",
    "8385a168999191ca5883f33a711fedad",
    "f65bea9f6702f61cdfa4fdb0260c67b2",
    "69b3075fb4aaf0ba89f21978ce0c1ec9",
    "98d3111dc1c891bcddf2d2c0c2fac7f3",
    "da0b267c9b5a241e3825eab613bfbc38",
]
RECORDS = [{"kind": "step", "loss": 0.25}, {"kind": "epoch", "loss": 0.5}]


@pytest.fixture
def own(tmp_path: Path) -> PhaseStore:
    return PhaseStore(tmp_path / "store")


# --- keys -----------------------------------------------------------------------------------------------------------


def keys(recipe: Recipe, data: str = "data", phases: tuple[PlannedPhase, ...] | None = None) -> list[str]:
    return phase_keys(recipe, data, plan(recipe, 11) if phases is None else phases)


def test_keys_are_folder_names_one_a_phase_and_the_same_every_time(tiny: Tiny):
    found = keys(tiny())
    assert len(set(found)) == 3
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in found)
    assert keys(tiny()) == found


def test_another_rule_of_keep_best_makes_other_keys_of_keep_best_alone(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    last, best = keys(tiny()), keys(tiny(training={"keep": "best"}))
    assert not set(keys(tiny(training={"keep": "best", "keep_by": "loss"}))) & set(best)
    monkeypatch.setattr(key_module, "KEEP_VERSION", key_module.KEEP_VERSION + 1)
    assert keys(tiny()) == last
    assert not set(keys(tiny(training={"keep": "best"}))) & set(best)


def test_keys_are_those_of_phases_that_older_versions_have_stored(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    """What was trained and kept before keys covered plugins, defaults of techniques and libraries is still found."""
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(key_module, "device_name", lambda: "cpu")
    phases = plan(tiny(), 11)
    found = keys(tiny())
    for method, options in (("average", {"kind": "ema"}), ("distill", {}), ("release", {"start": "fresh"})):
        way = PlannedPhase(phases[1].phase, method, options)
        found.append(keys(tiny(), phases=(phases[0], way))[1])
    assert found == STORED_KEYS


def test_another_torchvision_or_timm_makes_other_keys_of_what_it_computes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    models = {"mlp": (), "resnet20": ("torchvision",), "vgg-small": ("torchvision",), "timm/resnet18": ("timm",)}
    recipes = {name: tiny(model={"name": name, "widths": None, "dropout": None}) for name in models}
    recipes["cut to a size"], models["cut to a size"] = tiny(data={"size": 8}), ("torchvision",)
    before = {name: keys(recipe) for name, recipe in recipes.items()}
    for library in ("torchvision", "timm"):
        monkeypatch.setattr(
            key_module, "version_of", lambda name, other=library: "another" if name == other else "same"
        )
        changed = {name for name, recipe in recipes.items() if keys(recipe)[0] != _with_same(recipe, monkeypatch)[0]}
        assert changed == {name for name, used in models.items() if library in used}
    assert keys(recipes["mlp"]) == before["mlp"]


def _with_same(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with monkeypatch.context() as patch:
        patch.setattr(key_module, "version_of", lambda name: "same")
        return keys(recipe)


def test_a_default_of_a_technique_that_changes_makes_other_keys(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    phases = plan(tiny(), 11)

    def found(**options: Any) -> str:
        return keys(tiny(), phases=(PlannedPhase(phases[0].phase, "dropconnect", options),))[0]

    before, given = found(), found(rate=0.5)
    monkeypatch.setattr(DropConnect, "defaults", {"rate": 0.4})
    assert found() != before
    assert found(rate=0.5) == given


EVERY_PHASE: list[dict[str, Any]] = [
    {"seed": 1},
    {"model": {"widths": [9]}},
    {"model": {"dropout": 0.3}},
    {"data": {"flip": True}},
    {"data": {"crop": 1}},
    {"data": {"validation": 0.2}},
    {"training": {"batch_size": 31}},
    {"training": {"label_smoothing": 0.1}},
    {"training": {"keep": "best"}},
    {"training": {"precision": "bf16"}},
    {"training": {"accumulate": 2}},
    {"training": {"clip_norm": 1.0}},
    {"training": {"channels_last": True}},
    {"training": {"optimizer": {"lr": 0.2}}},
    {"training": {"optimizer": {"weight_decay": 0.1}}},
    {"training": {"decay": {"kind": "linear"}}},
    {"dense": {"epochs": 2}},
]


@pytest.mark.parametrize("changes", EVERY_PHASE, ids=str)
def test_every_key_changes_with_what_determines_all_phases(changes: dict[str, Any], tiny: Tiny):
    assert not set(keys(tiny())) & set(keys(tiny(**changes)))


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"sparse": {"sparsity": 0.4}}, 1),
        ({"prune": {"exclude": ["fc2.weight"]}}, 1),
        ({"prune": {"allocation": "erk"}}, 1),
        ({"sparse": {"criterion": "random"}}, 1),
        ({"sparse": {"epochs": 2}}, 1),
        ({"redense": {"epochs": 2}}, 2),
        ({"redense": {"lr": 0.05}}, 2),
        ({"redense": {"decay": {"kind": "step"}}}, 2),
        ({"cycles": [{"sparse": {"epochs": 1}, "redense": {"epochs": 1}}]}, 3),
    ],
    ids=str,
)
def test_keys_of_the_phases_before_a_change_stay_and_all_after_it_change(
    changes: dict[str, Any], shared: int, tiny: Tiny
):
    before, after = keys(tiny()), keys(tiny(**changes))
    assert after[:shared] == before[:shared]
    assert not set(before) & set(after[shared:])


def test_another_order_of_patterns_that_overlap_makes_other_keys(tiny: Tiny):
    shares = {"2*": 0.5, "*weight": 0.3, "0*": 0.1}
    first = keys(tiny(sparse={"sparsity": shares}))
    assert keys(tiny(sparse={"sparsity": dict(sorted(shares.items()))}))[1] != first[1]
    exact = {"2.weight": 0.5, "0.weight": 0.3}  # whose order says nothing
    there, back = (keys(tiny(sparse={"sparsity": dict(own)})) for own in (exact.items(), reversed(exact.items())))
    assert there == back


def test_patterns_beside_include_have_other_keys_than_those_that_left_what_it_names_dense(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
):
    hashed: list[Any] = []
    monkeypatch.setattr(key_module, "ordered", lambda data: hashed.append(data) or data)
    named: dict[str, Any] = {"sparse": {"sparsity": {"*": 0.5}}}
    for changes in (named, {"prune": {"include": ["*"]}}, {**named, "prune": {"include": ["*"]}}):
        keys(tiny(**changes))
    keys(tiny(**named, prune={"first_layer": True}))
    among = [each["phase"].get("among") for each in hashed]
    assert among == [None] * 7 + ["included"] + [None] * 2 + ["included"] + [None]


def test_keys_do_not_depend_on_names_or_on_where_and_how_the_data_is_read(tiny: Tiny, image_folder: Path):
    found = keys(tiny())
    assert keys(tiny(name="other", about="something else")) == found
    assert keys(tiny(data={"source": "elsewhere", "workers": 2, "cache_gb": 1})) == found
    renamed = tuple(
        dataclasses.replace(planned, phase=dataclasses.replace(planned.phase, name=f"p{i}"))
        for i, planned in enumerate(plan(tiny(), 11))
    )
    assert keys(tiny(), phases=renamed) == found


def test_keys_depend_on_the_data_the_threads_and_the_versions(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    found = {keys(tiny())[0], keys(tiny(), data="other data")[0]}
    for owner, name, value in (
        (key_module, "ENGINE_VERSION", key_module.ENGINE_VERSION + 1),
        (torch, "__version__", "0.0"),
        (torch, "get_num_threads", lambda: 77),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            found.add(keys(tiny())[0])
    assert len(found) == 5


def test_keys_depend_on_the_technique_and_its_options(tiny: Tiny):
    phases = plan(tiny(), 11)
    options = [(None, {}), ("sam", {}), ("sam", {"rho": 0.1}), ("distill", {"mix": 0.1}), ("distill", {"mix": 0.2})]
    ways = [PlannedPhase(phases[0].phase, method, own) for method, own in options]
    found = [keys(tiny(), phases=(way, *phases[1:])) for way in ways]
    assert len({key for row in found for key in row}) == 5 * 3


# --- keeping and finding --------------------------------------------------------------------------------------------


def test_what_was_put_is_there_whole(own: PhaseStore):
    assert not own.has(KEY)
    assert own.records(KEY) == []
    assert own.done(KEY) == 0.0
    own.put(KEY, STATE, RECORDS)
    assert own.has(KEY)
    assert torch.equal(own.state(KEY)["model"]["w"], STATE["model"]["w"])
    assert own.state(KEY)["position"] == STATE["position"]
    assert own.records(KEY) == RECORDS
    assert own.done(KEY) == 1.0
    assert own.phases() == [own.folder(KEY)]
    assert own.size() == sum(path.stat().st_size for path in own.folder(KEY).iterdir())


def test_a_phase_that_is_not_there_or_is_damaged_is_an_error_that_says_so(own: PhaseStore):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        own.state(KEY)
    own.put(KEY, STATE, RECORDS)
    path = own.folder(KEY) / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        own.state(KEY)


def test_a_partial_phase_is_no_phase_and_goes_when_the_whole_one_comes(own: PhaseStore):
    assert own.partial(KEY) is None
    own.put_partial(KEY, STATE, RECORDS[:1])
    own.progress(KEY, 5, 20)
    assert not own.has(KEY)
    assert own.done(KEY) == 0.25
    assert own.phases() == []
    found = own.partial(KEY)
    assert found is not None
    assert torch.equal(found[0]["model"]["w"], STATE["model"]["w"])
    assert found[1] == RECORDS[:1]
    own.put(KEY, STATE, RECORDS)
    assert own.partial(KEY) is None
    assert {path.name for path in own.folder(KEY).iterdir()} == {"state.safetensors", "metrics.jsonl", "SHA256SUMS"}


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage"])
def test_a_damaged_partial_phase_or_progress_is_as_none(damage: str, own: PhaseStore):
    own.put_partial(KEY, STATE, RECORDS)
    path = own.folder(KEY) / "partial.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": data[:-9], "flip": data, "empty": b"", "garbage": b"x" * 999}[damage])
    assert own.partial(KEY) is None
    (own.folder(KEY) / "progress.json").write_text("[5")
    assert own.done(KEY) == 0.0


def test_outcomes_are_kept_a_split_each(own: PhaseStore):
    assert own.outcome(KEY, "test") is None
    outcome = {"rank": torch.arange(6).view(2, 3).T, "loss": torch.rand(3)}  # not contiguous
    own.put_outcome(KEY, "test", outcome)
    found = own.outcome(KEY, "test")
    assert found is not None
    assert found.keys() == outcome.keys()
    assert all(torch.equal(found[name], outcome[name]) for name in outcome)
    assert own.outcome(KEY, "validation") is None


def test_a_store_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StateError, match=r"cannot write to the phase store .*file: it is a file"):
        PhaseStore(tmp_path / "file")  # before there is a run folder
    with pytest.raises(StateError, match=r"cannot write to the phase store .*below"):
        PhaseStore(tmp_path / "file" / "below").put(KEY, STATE, RECORDS)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_store_that_is_used_is_not_cleared(own: PhaseStore):
    pytest.importorskip("fcntl")
    own.put(KEY, STATE, RECORDS)
    with own.used(), PhaseStore(own.root).used(), pytest.raises(StateError, match="another process is training with"):
        own.clear()
    assert own.has(KEY)
    own.clear()
    assert not own.has(KEY)


@pytest.mark.parametrize("name", ["metrics.jsonl", "SHA256SUMS", "facts.json"])
@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_what_is_damaged_of_a_phase_is_dropped_and_what_is_whole_stays(name: str, how: str, own: PhaseStore):
    own.put(KEY, STATE, RECORDS)
    own.put_text(KEY, "facts.json", '{"a": 1}')
    assert own.mend(KEY) == []
    path = own.folder(KEY) / name
    data = path.read_bytes()
    path.unlink()
    if how != "delete":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + (bytes([data[middle] ^ 1]) + data[middle + 1 :] if how == "flip" else b""))
    with own.locked(KEY):
        assert own.mend(KEY) == []  # whoever holds it sees to it
        found = own.mend(KEY, held=True)
    if (name, how) == ("SHA256SUMS", "delete"):  # of an older redense
        assert own.records(KEY) == RECORDS
        return
    assert found
    assert own.has(KEY) == (name == "facts.json")
    assert own.mend(KEY) == []
    with pytest.raises(CheckpointError, match="not there"):
        own.facts(KEY)


def test_clear_removes_phases_whole_or_not_and_nothing_else(own: PhaseStore):
    own.clear()  # of a store that is not there
    own.put(KEY, STATE, RECORDS)
    own.put_partial("f" * 32, STATE, RECORDS)
    others = ["notes.txt", "01/notes.txt", "ab/mine/photo.jpg", f"aa/{KEY}/not-of-this-key.txt"]
    for other in others:
        path = own.root / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
    own.clear()
    assert not own.has(KEY)
    assert own.partial("f" * 32) is None
    assert sorted(str(p.relative_to(own.root)) for p in own.root.rglob("*") if p.is_file()) == sorted(
        [".lock", *others]
    )
    assert not (own.root / "ff").exists()


def test_the_default_store_is_the_variables(monkeypatch: pytest.MonkeyPatch):
    assert default_store() is None  # as tests/conftest.py sets it
    monkeypatch.setenv("REDENSE_STORE", "/somewhere")
    assert default_store() == Path("/somewhere")
    monkeypatch.setenv("REDENSE_STORE", "~/kept")  # as in an environment file, which no shell reads
    assert default_store() == Path.home() / "kept"
    monkeypatch.delenv("REDENSE_STORE")
    assert default_store() == Path("runs/store")


# --- two processes --------------------------------------------------------------------------------------------------

TRAIN = """
import json, sys, time
from pathlib import Path
from redense.lab import store
from redense.lab.comparison import jobs

go, job = Path(sys.argv[1]), jobs.Job(**json.loads(sys.argv[2]))
put = store.PhaseStore.put

def slowly(self, *what):
    print("holding", flush=True)
    while not go.exists():
        time.sleep(0.01)
    put(self, *what)

store.PhaseStore.put = slowly
print("asking", flush=True)
print("trained" if jobs.do(job) else "taken", flush=True)
"""


def start(go: Path, job: jobs.Job) -> forked.Started:
    return forked.start("-c", TRAIN, go, json.dumps({**vars(job), "main": 0}))


def line(child: forked.Started) -> str:
    return child.stdout.readline().strip()


def test_of_two_processes_that_want_one_phase_the_second_waits_and_takes_it(tiny: Tiny, tmp_path: Path):
    comparison = Comparison(tiny(), (), (0,), {})
    ours = Grid(comparison, PhaseStore(tmp_path / "store"), tmp_path)
    (job,) = next(ours.jobs())
    go = tmp_path / "go"
    first, second = start(go, job), start(go, job)
    try:
        assert (line(first), line(second)) == ("asking", "asking")
        # One of them trains and is held before it writes; the other must not get so far.
        ready, _, _ = select.select([first.stdout, second.stdout], [], [], 60)
        assert [line(child) for child in (first, second) if child.stdout in ready] == ["holding"]
        time.sleep(0.5)
        assert (first.poll(), second.poll()) == (None, None)
        assert not ours.store.has(job.keys[0])
        go.touch()
        (out_1, err_1), (out_2, err_2) = first.communicate(timeout=60), second.communicate(timeout=60)
    finally:
        first.kill()
        second.kill()
    assert (err_1, err_2) == ("", "")
    assert sorted([out_1.split(), out_2.split()]) == [["taken"], ["trained"]]
    assert ours.store.has(job.keys[0])


def test_the_lock_of_a_phase_goes_with_the_process_that_held_it(own: PhaseStore):
    code = "import time; from pathlib import Path; from redense.lab.store import PhaseStore\n"
    code += f"with PhaseStore(Path({str(own.root)!r})).locked({KEY!r}): print('held', flush=True); time.sleep(600)"
    child = forked.start("-c", code)
    try:
        assert line(child) == "held"
    finally:
        child.kill()
        child.communicate()
    with own.locked(KEY):
        pass
