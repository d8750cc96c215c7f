"""Masks on weights, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_samples import bits_of, lay_out, masks_with_tensors, patched
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from redense import masks, summary
from redense.errors import ParameterError
from redense.holding.watching import flat
from redense.masks import applying, blocks


@given(
    st.lists(masks_with_tensors(), max_size=4),
    st.sampled_from([1, 8, 12, 1 << 17]),
    st.booleans(),
    st.sampled_from([0, 20, 1 << 22]),
    st.sampled_from([20, 1 << 24]),
)
def test_applying_zeroes_exactly_the_masked_and_no_bit_else(
    cases: list[tuple[Tensor, list[Tensor]]], block: int, as_on_a_gpu: bool, alone: int, together: int
):
    before = [[bits_of(tensor).clone() for tensor in tensors] for _, tensors in cases]
    strides = [[tensor.stride() for tensor in tensors] for _, tensors in cases]
    patch = patched({"_BLOCK": block, "_ALONE": alone, "_TOGETHER": together})
    if as_on_a_gpu:
        patch.setattr(applying, "_multiply_by_blocks", applying._multiply_together)  # pyright: ignore[reportPrivateUsage]
    try:
        masks.apply_all_(cases)
    finally:
        patch.undo()
    for (mask, tensors), old, stride in zip(cases, before, strides, strict=True):
        assert [tensor.stride() for tensor in tensors] == stride
        for tensor, bits in zip(tensors, old, strict=True):
            assert torch.equal(bits_of(tensor), torch.where(mask, bits, 0))


def test_weights_and_states_of_one_layout_are_multiplied_together_once_a_dtype(monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[torch.dtype, list[int]]] = []
    multiply = applying._multiply_by_blocks  # pyright: ignore[reportPrivateUsage]

    def noting(work: list[tuple[Tensor, list[Tensor]]], integer: torch.dtype) -> None:
        calls.append((integer, [len(patterns) for _, patterns in work]))
        multiply(work, integer)

    monkeypatch.setattr(applying, "_multiply_by_blocks", noting)
    for shape in [(4, 3, 2, 2), (1, 3, 1, 5), (6, 1), (7,)]:
        for layout in ("contiguous", "transposed", "channels_last"):
            mask = lay_out(torch.rand(shape) < 0.5, layout)
            full, half = (torch.float32, torch.int32), (torch.bfloat16,)
            tensors = [lay_out(torch.ones(shape, dtype=dtype), layout) for dtype in (*full, *half)]
            masks.apply_all_([(mask, tensors), (mask, tensors[:1])])
            assert calls == [(torch.int32, [2, 1]), (torch.int16, [1])], (shape, layout)
            calls.clear()
    masks.apply_(torch.ones(4, 3) > 0, torch.ones(4, 6)[:, ::2], torch.ones(3, 4).T)
    assert not calls


class Calls(TorchDispatchMode):
    """Counts the operators that touch values: on a GPU each is a kernel or, for a list of tensors, a few."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(word in func.name() for word in ("mul_", "copy_", "fill_")):
            self.names.append(func.name())
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("layers", [1, 2, 200])
def test_a_gpu_multiplies_however_many_masks_in_as_many_calls(layers: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(applying, "_multiply_by_blocks", applying._multiply_together)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(applying, "_ALONE", 1000)
    masked = [(torch.rand(10, 10) < 0.5, [torch.randn(10, 10), torch.randn(10, 10)]) for _ in range(layers)]
    large = torch.rand(1001) < 0.5, [torch.randn(1001)]
    with Calls() as calls:
        masks.apply_all_([*masked, large])
    assert calls.names == ["aten::mul_.Tensor", "aten::_foreach_copy_", "aten::_foreach_mul_.List"]


def test_a_gpu_asks_for_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(applying, "_multiply_by_blocks", applying._multiply_together)  # pyright: ignore[reportPrivateUsage]
    for room, calls_each in [(250, 5), (200, 5), (199, 10), (100, 10), (1000, 1)]:
        monkeypatch.setattr(applying, "_TOGETHER", room)
        monkeypatch.setattr(applying, "_ALONE", 100)  # up to it
        with Calls() as calls:
            masks.apply_all_([(torch.rand(100) < 0.5, [torch.randn(100)]) for _ in range(10)])
        assert calls.names == ["aten::_foreach_copy_", "aten::_foreach_mul_.List"] * calls_each


def test_masks_of_many_sizes_are_applied_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "_BLOCK", 20)
    masked = [(torch.arange(size) % 3 > 0, [torch.ones(size)]) for size in (7, 50, 1, 19, 20, 21)]
    masks.apply_all_(masked)
    for mask, (tensor,) in masked:
        assert torch.equal(tensor, mask.float())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.bool, torch.uint8])
def test_applying_works_on_dtypes_of_every_size(dtype: torch.dtype):
    tensor = torch.ones(2, 3, dtype=dtype)
    if dtype.is_complex:
        tensor[0, 1] = math.nan
    masks.apply_(torch.tensor([[True, False, True], [False, True, True]]), tensor)
    assert tensor.to(torch.complex128).real.tolist() == [[1, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("mask", [torch.tensor([255, 0, 1], dtype=torch.uint8), torch.ones(3), torch.ones(2) > 0])
def test_what_is_no_mask_of_a_tensor_is_refused(mask: Tensor):
    with pytest.raises(ParameterError, match=r"a mask must be of booleans.* \(\(3,\)\): got torch\."):
        masks.apply_(mask, torch.ones(3))


def test_applying_to_a_view_leaves_its_neighbours_alone():
    whole = torch.full((4, 6), math.nan)
    masks.apply_(torch.zeros(4, 3, dtype=torch.bool), whole[:, 1:4])
    assert (whole[:, 1:4] == 0).all()
    assert whole[:, 0].isnan().all()
    assert whole[:, 4:].isnan().all()


def test_applying_to_weights_with_gaps_in_memory_fills_no_gap():
    whole, mask = torch.ones(4, 6), torch.zeros(4, 6, dtype=torch.bool)
    masks.apply_(mask[:, ::2], whole[:, ::2])
    assert whole.tolist() == [[0.0, 1.0] * 3] * 4


def test_elements_that_share_memory_are_refused():
    shared = torch.ones(3).expand(2, 3)
    with pytest.raises(ParameterError, match=r"elements share memory, .* strides \(0, 1\)\): give a copy, clone\(\)"):
        masks.apply_(torch.tensor([[True, False, True], [True, True, True]]), shared)
    assert bool(shared.all())
    masks.apply_(torch.ones(2, 0, dtype=torch.bool), torch.empty(0).expand(2, 0))  # of nothing strides may be anything


def test_applying_to_a_leaf_that_needs_gradients_is_allowed():
    weight = torch.nn.Parameter(torch.ones(3))
    masks.apply_(torch.tensor([True, False, True]), weight)
    assert weight.tolist() == [1.0, 0.0, 1.0]
    assert weight.grad_fn is None


def test_like_gives_the_mask_the_layout_of_the_weight():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    mask = weight.contiguous() > 0
    laid_out = masks.like(mask, weight)
    assert laid_out.stride() == weight.stride()
    assert laid_out.dtype == torch.bool
    assert torch.equal(laid_out, mask)
    assert masks.like(laid_out, weight) is laid_out


def test_sparsity_counts_exact_zeros_of_either_sign_over_all_tensors():
    assert masks.sparsity_of(torch.tensor([0.0, -0.0, 1e-45]), torch.ones(5)) == 0.25
    assert masks.sparsity_of() == 0.0


@pytest.mark.parametrize(
    ("dtype", "sparsity"),
    [
        (torch.float8_e4m3fn, 0.5),
        (torch.float8_e5m2fnuz, 0.5),
        (torch.uint16, 0.5),
        (torch.bool, 0.5),
        (torch.complex64, 0.5),
        (torch.bits4x2, 0.0),
        (torch.bits8, 0.0),
        (torch.qint8, 0.5),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_sparsity_is_told_of_whatever_a_frozen_weight_is_kept_in(dtype: torch.dtype, sparsity: float):
    values = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    if dtype == torch.qint8:
        weight = torch.quantize_per_tensor(values, 0.1, 0, dtype)
    else:
        unread = dtype in (torch.bits4x2, torch.bits8)
        weight = values.to(torch.uint8).view(dtype) if unread else values.to(dtype)
    assert masks.sparsity_of(weight) == masks.sparsity_of(weight.t()) == sparsity
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight = nn.Parameter(weight, requires_grad=False)
    row = summary(model).rows[0]
    assert (row.prunable, row.sparsity) == (False, sparsity)


def test_off_the_cpu_the_patterns_are_multiplied_together(monkeypatch: pytest.MonkeyPatch):
    class Elsewhere(torch.Tensor):
        device = property(lambda self: torch.device("meta"))  # pyright: ignore[reportAssignmentType]

    calls: list[int] = []
    monkeypatch.setattr(applying, "_multiply_together", lambda work, integer: calls.append(len(work)))
    mask = torch.tensor([True, False, True]).as_subclass(Elsewhere)
    masks.apply_all_([(mask, [torch.ones(3)]), (mask, [torch.ones(3)]), (mask[:2].clone(), [torch.ones(2)])])
    assert calls == [3]


@pytest.mark.parametrize("form", ["contiguous", "transposed", "gaps", "gaps, transposed"])
def test_a_mask_lies_in_memory_as_its_weight_is_read(form: str):
    large = torch.randn(6, 8)
    weight = {"contiguous": large, "transposed": large.t(), "gaps": large[:, :5], "gaps, transposed": large[:, :5].t()}[
        form
    ]
    mask = weight > 0
    made = masks.like(mask.clone(memory_format=torch.contiguous_format), weight)
    assert torch.equal(made, mask)
    assert torch.equal(flat(made), flat(weight) > 0)
    assert made.stride() == (weight.stride() if "gaps" not in form else mask.contiguous().stride())
    assert masks.like(made, weight) is made
    assert masks.like(mask.t().contiguous().t(), weight).stride() == made.stride()
