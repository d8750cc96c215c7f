"""Files of weights of others: what is none costs little, and is refused in a line."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from redense.errors import StateError
from redense.tasks.weights import load_weights_, read_weights, verify_answer, verify_file, verify_finite

NAME = b"c" + b"a" * 30_000 + b"\n" + b"b" * 30_000 + b"\n."


@pytest.mark.parametrize("archive", [False, True], ids=["alone", "in an archive"])
def test_a_class_with_a_name_of_thousands_of_characters_is_refused_at_once(archive: bool, tmp_path: Path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"\x80\x02" + NAME)
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("weights/data.pkl", b"\x80\x02" + NAME)
            file.writestr("weights/version", b"3")
    began = time.process_time()
    with pytest.raises(StateError, match="it names a class by 60,001 characters"):
        load_weights_(nn.Linear(2, 2), path)
    assert time.process_time() - began < 2  # PyTorch takes 5 s for 14,000


@pytest.mark.parametrize("archive", [False, True], ids=["as before 1.6", "as today"])
def test_what_torch_saves_is_read(archive: bool, tmp_path: Path):
    state, buffer = nn.Linear(2, 2).state_dict(), io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=archive)
    (tmp_path / "weights.pt").write_bytes(buffer.getvalue())
    found = read_weights(tmp_path / "weights.pt")
    assert all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_by_name_wherever_they_are_loaded(
    value: float, dtype: torch.dtype, tmp_path: Path
):
    state = {name: tensor.to(dtype) for name, tensor in nn.Linear(2, 2).state_dict().items()}
    state["bias"][1] = value
    torch.save(state, path := tmp_path / "weights.pt")
    for take in (verify_file, lambda path: load_weights_(nn.Linear(2, 2), path)):
        with pytest.raises(StateError, match=r"weights.pt holds numbers that are not finite in 'bias'"):
            take(path)


def test_a_mask_of_attention_and_buffers_of_other_kinds_are_finite_enough():
    mask = torch.full((3, 3), -torch.inf).triu(1)
    verify_finite({"mask": mask, "count": torch.tensor(3), "eight": torch.zeros(2).to(torch.float8_e4m3fn)}, "it")
    with pytest.raises(StateError, match="it holds numbers that are not finite in 'mask'"):
        verify_finite({"mask": mask.nan_to_num(nan=1, neginf=-torch.inf) + 1}, "it")


def test_an_answer_that_is_no_number_is_an_error():
    assert verify_answer(torch.tensor([0.5, -torch.inf])).shape == (2,)
    with pytest.raises(StateError, match="answer is no number"):
        verify_answer(torch.tensor([0.5, torch.nan]))
