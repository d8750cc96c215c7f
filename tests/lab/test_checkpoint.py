"""Checkpoints: what is saved comes back as it was, damage is always noticed, and a failed write harms nothing."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from redense.errors import CheckpointError
from redense.files.writing import write_bytes, write_text
from redense.lab.checkpoint import load_tree, save_tree

DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)


def same(a: Any, b: Any) -> bool:
    """Whether two trees are the same: types, key order and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, dict):
        return (
            list(a) == list(b) and all(same(a[key], b[key]) for key in a) and list(map(type, a)) == list(map(type, b))
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a.hex() == b.hex()  # tells -0.0 from 0.0, and NaN is NaN
    return a == b


def a_tree() -> dict[str, Any]:
    """A little of all that a snapshot holds."""
    random = torch.Generator().manual_seed(0)
    return {
        "model": {"w": torch.randn(3, 4, generator=random), "b": torch.zeros(4), "n": torch.tensor(3)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(7.0), "m": torch.randn(3, 4, generator=random).bfloat16()}, 1: {}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "fused": None, "nesterov": False, "params": [0, 1]}],
        },
        "position": {
            "phase": 1,
            "step": 12,
            "loss": 0.1 + 0.2,
            "best": None,
            "odd": [math.inf, -math.inf, math.nan, -0.0],
        },
        "masks": {"w": {"shape": [3, 4], "bits": torch.tensor([255, 7], dtype=torch.uint8)}},
        "empty": [torch.zeros(0), torch.zeros(2, 0, dtype=torch.bool), {}, [], ()],
        "text": 'quotes " and \\ and \n and ü and 漢 and \0',
    }


# --- round trip -----------------------------------------------------------------------------------------------------


def test_a_tree_comes_back_as_it_was(tmp_path: Path):
    save_tree(tmp_path / "a", a_tree())
    back = load_tree(tmp_path / "a")
    assert same(back, a_tree())


def test_the_comparison_of_these_tests_sees_every_difference():
    for change in (
        lambda t: t["model"]["w"].view(-1)[5].add_(1e-7),
        lambda t: t["optimizer"]["state"].update({"0": t["optimizer"]["state"].pop(0)}),
        lambda t: t["optimizer"]["param_groups"][0].update(betas=[0.9, 0.999]),
        lambda t: t["position"]["odd"].__setitem__(3, 0.0),
        lambda t: t["position"].update(step=12.0),
        lambda t: t["model"].update(w=t["model"].pop("w")),
        lambda t: t["empty"].__setitem__(0, torch.zeros(0, 1)),
    ):
        changed = a_tree()
        change(changed)
        assert not same(changed, a_tree())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 0, 3), (2, 3, 4, 5)], ids=str)
def test_a_tensor_of_any_type_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1)).mul(50).to(dtype)
    save_tree(tmp_path / "a", tensor)
    assert same(load_tree(tmp_path / "a"), tensor)


def test_special_values_keep_their_bits(tmp_path: Path):
    quiet_nan_with_payload = torch.tensor([0x7FC12345, -1, 1], dtype=torch.int32).view(torch.float32)
    tree = {"a": torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45]), "b": quiet_nan_with_payload}
    save_tree(tmp_path / "a", tree)
    assert same(load_tree(tmp_path / "a"), tree)


def test_tied_tensors_are_stored_once_and_views_come_back_right(tmp_path: Path):
    base = torch.arange(200_000, dtype=torch.float32).reshape(400, 500)
    save_tree(tmp_path / "one", {"a": base})
    save_tree(tmp_path / "tied", {"a": base, "b": base, "c": torch.nn.Parameter(base)})
    assert (tmp_path / "tied").stat().st_size < 1.01 * (tmp_path / "one").stat().st_size
    views = {"all": base, "t": base.t(), "row": base[3], "step": base[::2, 1::3], "cl": base.view(2, 200, 5, 100)}
    views["cl"] = views["cl"].to(memory_format=torch.channels_last)
    views |= {"square": base[:, :400], "and its transpose": base[:, :400].t()}
    views["as int"] = base.view(torch.int32)
    views["wide"] = base[:1].expand(7, 500)
    save_tree(tmp_path / "views", views)
    assert same(load_tree(tmp_path / "views"), views)


def test_empty_tensors_of_one_address_are_not_mixed_up(tmp_path: Path):
    tree = [torch.zeros(0), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(3, 0)]
    save_tree(tmp_path / "a", tree)
    assert same(load_tree(tmp_path / "a"), tree)


def test_what_is_loaded_can_be_changed_without_changing_the_file(tmp_path: Path):
    save_tree(tmp_path / "a", {"w": torch.ones(5)})
    load_tree(tmp_path / "a")["w"].zero_()
    assert same(load_tree(tmp_path / "a"), {"w": torch.ones(5)})


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.text() | st.integers() | st.booleans() | st.none()
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@given(TREES)
def test_any_tree_of_plain_values_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: Any):
    path = tmp_path_factory.getbasetemp() / "any-tree"
    save_tree(path, tree)
    assert same(load_tree(path), tree)


@pytest.mark.parametrize(
    "tree",
    [{"a": object()}, {"a": {1, 2}}, [b"bytes"], lambda: 0, {(1, 2): 3}, {torch.zeros(1): 3}, {1.5: 2, b"x": 3}],
    ids=["object", "set", "bytes", "function", "tuple key", "tensor key", "number and bytes keys"],
)
def test_what_is_neither_tensor_nor_plain_is_refused_and_nothing_is_written(tmp_path: Path, tree: Any):
    with pytest.raises(CheckpointError, match="holds tensors and plain values, not"):
        save_tree(tmp_path / "a", tree)
    assert list(tmp_path.iterdir()) == []


def test_equal_trees_are_equal_files(tmp_path: Path):
    for name in ("a", "b", "c"):
        save_tree(tmp_path / name, a_tree())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


# --- damage ---------------------------------------------------------------------------------------------------------


def loads_right_or_not_at_all(path: Path, data: bytes, tree: Any) -> bool:
    """Whether damaged ``data`` is refused; if it is not, it must still be the right tree."""
    path.write_bytes(data)
    problem = ""
    try:
        back = load_tree(path)
    except CheckpointError as error:
        problem = str(error)
    else:
        assert same(back, tree)
    assert "\n" not in problem
    return bool(problem)


def check_flips(tmp_path: Path, bits: Callable[[int], list[int]]) -> None:
    tree = {"w": torch.arange(6.0).bfloat16(), "e": torch.zeros(0), "s": [1, None, (0.5, "x")], 3: torch.tensor(True)}
    save_tree(tmp_path / "whole", tree)
    whole = (tmp_path / "whole").read_bytes()
    for i in range(len(whole)):
        for bit in bits(i):
            damaged = bytearray(whole)
            damaged[i] ^= 1 << bit
            assert loads_right_or_not_at_all(tmp_path / "damaged", bytes(damaged), tree), (i, bit)


def test_a_flipped_bit_in_any_byte_is_noticed(tmp_path: Path):
    check_flips(tmp_path, lambda i: [i % 8])


@pytest.mark.slow
def test_any_flipped_bit_is_noticed(tmp_path: Path):
    check_flips(tmp_path, lambda i: list(range(8)))


def test_a_file_cut_off_anywhere_is_noticed(tmp_path: Path):
    save_tree(tmp_path / "whole", a_tree())
    whole = (tmp_path / "whole").read_bytes()
    for length in range(0, len(whole), 13):
        assert loads_right_or_not_at_all(tmp_path / "damaged", whole[:length], a_tree()), length
    assert loads_right_or_not_at_all(tmp_path / "damaged", whole[:-1], a_tree())
    assert loads_right_or_not_at_all(tmp_path / "damaged", whole + b"\0", a_tree())
    assert loads_right_or_not_at_all(tmp_path / "damaged", whole[8:], a_tree())


@given(st.data())
def test_a_file_with_any_bytes_overwritten_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.getbasetemp()
    save_tree(folder / "whole", a_tree())
    damaged = bytearray((folder / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        new = data.draw(st.binary(min_size=1, max_size=64))
        damaged[start : start + len(new)] = new
    loads_right_or_not_at_all(folder / "damaged", bytes(damaged), a_tree())


@given(st.binary(max_size=300))
def test_garbage_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    assert loads_right_or_not_at_all(tmp_path_factory.getbasetemp() / "garbage", data, None)


def forged(path: Path, tensors: dict[str, Tensor], skeleton: str) -> None:
    """Write a file whose digest is right, as someone could who wants to."""
    from redense.lab import checkpoint

    digest = checkpoint._digest(skeleton, tensors)  # pyright: ignore[reportPrivateUsage]
    save_tree(path, None)
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    entry = json.loads(header["__metadata__"]["redense"]) | {"digest": digest, "tree": skeleton}
    save_file(tensors, path, metadata={"redense": json.dumps(entry)})


FORGED = (
    *("", "{", "{}", '{"tensor": "t9"}', '{"dict": 3}', '{"dict": [[[], 1]]}', '{"list": null}', '{"a": 1, "b": 2}'),
    *('{"code": "import os"}', "[" * 100_000),
)


@pytest.mark.parametrize("skeleton", FORGED, ids=lambda text: text[:20])
def test_a_forged_file_is_refused(tmp_path: Path, skeleton: str):
    forged(tmp_path / "a", {"t0": torch.zeros(2)}, '{"tensor": "t0"}')
    assert same(load_tree(tmp_path / "a"), torch.zeros(2))
    forged(tmp_path / "a", {"t0": torch.zeros(2)}, skeleton)
    with pytest.raises(CheckpointError, match="damaged"):
        load_tree(tmp_path / "a")


def test_a_pickled_checkpoint_is_refused(tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"trap": Trap(), "w": torch.zeros(3)}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load_tree(tmp_path / "a")
    assert not (tmp_path / "sprung").exists()


def test_files_that_redense_did_not_write_are_told_apart(tmp_path: Path):
    save_file({"w": torch.zeros(3)}, tmp_path / "plain")
    save_file(
        {"w": torch.zeros(3)},
        tmp_path / "other",
        metadata={"redense": json.dumps({"format": 99, "tree": "", "digest": ""})},
    )
    with pytest.raises(CheckpointError, match="no checkpoint of redense"):
        load_tree(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="format 99"):
        load_tree(tmp_path / "other")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_tree(tmp_path / "none")
    with pytest.raises(CheckpointError):
        load_tree(tmp_path)


# --- writing --------------------------------------------------------------------------------------------------------


def no_space(*arguments: object, **options: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def unwritable(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "sync":
        monkeypatch.setattr(os, "fsync", no_space)
    elif where == "rename":
        monkeypatch.setattr(Path, "replace", no_space)
    elif where == "open":
        monkeypatch.setattr(Path, "open", no_space)


@pytest.mark.parametrize("where", ["open", "sync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    path = tmp_path / "a"
    save_tree(path, a_tree())
    with monkeypatch.context() as patch:
        unwritable(patch, where)
        with pytest.raises(CheckpointError, match=r"cannot write .*No space left on device"):
            save_tree(path, {"other": torch.ones(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert same(load_tree(path), a_tree())


def test_an_error_without_a_text_of_the_system_is_still_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match="on fire"):
        write_text(tmp_path / "a", "x")


def test_a_disk_that_fills_up_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a"
    write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the kernel stops the write half way, as a full disk
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*[Ff]ile too large"):
            write_bytes(path, bytes(10_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_device_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = Path.open
    full = Path("/dev/full")  # in the place of what is written, and of nothing that is read: it never ends
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: real(full if tmp_path in self.parents else self, *a, **k))
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_bytes(tmp_path / "a", b"x" * 100_000)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path):
    write_bytes(tmp_path / "a", b"old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            write_bytes(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    finally:
        tmp_path.chmod(0o700)


def test_an_interrupt_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_new_file_is_on_disk_before_it_takes_the_place_of_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append(f"sync {Path(f'/proc/self/fd/{fd}').resolve().name}"), sync(fd))
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), replace(self, to)))
    write_bytes(tmp_path / "a", b"x")
    assert order[0].startswith("sync .a.")
    assert order[1:] == ["rename", f"sync {tmp_path.name}"]
