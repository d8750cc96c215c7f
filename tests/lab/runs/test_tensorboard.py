"""TensorBoard reads what redense writes for it, after a resume too."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from redense.lab.runs import tensorboard
from redense.lab.runs.tensorboard import Board


def test_tensorboard_reads_every_point_and_forgets_what_a_later_start_purges(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Board(tmp_path, purge_step=1)
    for step in range(1, 301):
        first.add_scalar("train/loss", 1 / step, step)
    first.add_scalar("validation/größer", math.inf, 150)
    first.close()
    second = Board(tmp_path, purge_step=200)
    second.add_scalar("train/loss", 9.0, 200)
    second.close()
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    loss = read.Scalars("train/loss")
    assert [point.step for point in loss] == list(range(1, 201))
    assert [point.value for point in loss] == pytest.approx([*(1 / step for step in range(1, 200)), 9.0])
    assert [(point.step, point.value) for point in read.Scalars("validation/größer")] == [(150, math.inf)]


def test_files_of_one_second_are_read_in_the_order_in_which_they_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    moments = [5_012_345_678, 5_987_654_321, 12_000_000_001]
    for number, moment in enumerate(moments):
        monkeypatch.setattr(tensorboard.time, "time_ns", lambda moment=moment: moment)
        # Numbers of processes wrap around.
        monkeypatch.setattr(tensorboard.os, "getpid", lambda number=number: 900 - number)
        Board(tmp_path, purge_step=number).close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split(".")[3:5] for name in names] == [
        ["0000000005", "012345678"],
        ["0000000005", "987654321"],
        ["0000000012", "000000001"],
    ]


def test_a_full_disk_is_an_error():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    writer = Board.__new__(Board)
    writer._file = full.open("wb", buffering=0)
    with pytest.raises(OSError, match="No space left"):
        writer.add_scalar("train/loss", 1.0, 1)
    writer.close()
