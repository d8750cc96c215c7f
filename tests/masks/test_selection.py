"""Selection against a stable sort."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_samples import FLOATS, SPARSITIES, patched, prune_by_sorting, score_tensors, search_sizes
from torch import Tensor

from redense import masks
from redense.errors import ParameterError, ScoreError, SparsityError


@given(score_tensors(), SPARSITIES, search_sizes())
def test_selection_is_a_stable_sort(scores: Tensor, sparsity: float, sizes: dict[str, int]):
    patch = patched(sizes)
    try:
        mask = masks.select(scores, sparsity)
        by_magnitude = masks.select(scores, sparsity, absolute=True)
    finally:
        patch.undo()
    assert mask.dtype == torch.bool
    assert mask.shape == scores.shape
    assert torch.equal(mask, prune_by_sorting({"w": scores}, sparsity)["w"])
    assert torch.equal(by_magnitude, prune_by_sorting({"w": scores.abs()}, sparsity)["w"])


@given(st.lists(score_tensors(), min_size=0, max_size=4), SPARSITIES, search_sizes())
def test_global_selection_is_one_stable_sort_over_all_tensors(
    tensors: list[Tensor], sparsity: float, sizes: dict[str, int]
):
    scores = {f"w{i}": values for i, values in enumerate(tensors)}
    expected = prune_by_sorting(scores, sparsity) if scores else {}
    patch = patched(sizes)
    try:
        chosen = masks.select_global(scores, sparsity)
    finally:
        patch.undo()
    assert list(chosen) == list(scores)
    for name, mask in chosen.items():
        assert torch.equal(mask, expected[name]), name


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(kind, dtype, marks=[] if dtype == torch.float32 or kind == "rounded" else [pytest.mark.slow])
        for kind in ("normal", "rounded", "equal", "two values", "mostly zero")
        for dtype in FLOATS
    ],
)
def test_selection_by_sampling_is_a_stable_sort_at_its_real_sizes(kind: str, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(300_001, generator=generator)
    scores = {
        "normal": normal,
        "rounded": normal.mul(4).round(),
        "equal": torch.full_like(normal, 0.5),
        "two values": (normal > 0.3).float(),
        "mostly zero": normal * (normal > 1.5),
    }[kind].to(dtype)
    for sparsity in (0.001, 0.3, 0.617, 0.9999):
        assert torch.equal(masks.select(scores, sparsity), prune_by_sorting({"w": scores}, sparsity)["w"])


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_negative_scores_go_first_and_both_zeros_are_equal(dtype: torch.dtype):
    scores = torch.tensor([0.25, 0.0, -0.0, -0.5, 0.0], dtype=dtype)
    assert masks.select(scores, 0.2).tolist() == [True, True, True, False, True]
    assert masks.select(scores, 0.4).tolist() == [True, False, True, False, True]
    assert masks.select(scores[:3], 0.34).tolist() == [True, False, True]
    assert masks.select_pattern(scores[None, 1:], (3, 4)).tolist() == [[True, True, False, True]]
    assert masks.select_pattern(scores[None, :3], (2, 3)).tolist() == [[True, False, True]]


def test_a_pattern_compares_tiny_scores_too():
    tiny = torch.tensor([[4e-30, 3e-30, 2e-30, 1e-30]])
    mask = masks.select_pattern(tiny, (2, 4))
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True, True, False, False]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1000, 300_001])
def test_a_gpu_chooses_and_holds_as_the_cpu_does(dtype: torch.dtype, size: int):
    scores = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[::7] = 0.0
    scores[1::7] = -0.0
    for sparsity in (0.2, 0.5, 0.9):
        mask = masks.select(scores.cuda(), sparsity, absolute=True)
        assert mask.is_cuda
        assert torch.equal(mask.cpu(), masks.select(scores, sparsity, absolute=True))
        weight = scores.cuda()
        masks.apply_(mask, weight)
        assert int((weight[~mask] != 0).sum()) == 0
    groups = scores[: size // 4 * 4].view(1, -1)
    assert torch.equal(masks.select_pattern(groups.cuda(), (2, 4)).cpu(), masks.select_pattern(groups, (2, 4)))


def test_selection_compares_float8_by_value():
    scores = torch.tensor([1.0, -2.0, 0.5, 0.5]).to(torch.float8_e4m3fn)
    assert masks.select(scores, 0.5).tolist() == [True, False, False, True]


def test_selection_leaves_the_scores_alone_and_needs_no_gradient():
    scores = torch.tensor([-1.0, -0.0, 2.0], requires_grad=True)
    mask = masks.select(scores, 0.34)
    assert not mask.requires_grad
    assert scores.tolist() == [-1.0, -0.0, 2.0]
    assert math.copysign(1, scores[1].item()) == -1


@pytest.mark.parametrize(
    ("numel", "equal"),
    [(20_000_003, True), *(pytest.param(100_000_007, equal, marks=pytest.mark.slow) for equal in (False, True))],
)
def test_more_weights_than_float32_can_count_are_pruned_exactly(numel: int, equal: bool):
    sparsity = 0.3
    weight = torch.full((numel,), 0.25) if equal else torch.randn(numel, generator=torch.Generator().manual_seed(0))
    mask = masks.select(weight, sparsity, absolute=True)
    pruned = round(sparsity * numel)
    assert numel - int(mask.count_nonzero()) == pruned
    if equal:
        assert int(mask[:pruned].count_nonzero()) == 0
    else:
        weight.abs_()
        assert weight[~mask].max() <= weight[mask].min()


@given(score_tensors(), st.sampled_from([(1, 1), (1, 2), (2, 4), (3, 4), (4, 4), (1, 3)]))
def test_pattern_keeps_the_highest_n_of_every_m_inputs(scores: Tensor, pattern: tuple[int, int]):
    n, m = pattern
    if scores.dim() < 2 or scores.shape[1] % m:
        with pytest.raises(ParameterError, match="'fc' of shape"):
            masks.select_pattern(scores, pattern, name="fc")
        return
    mask = masks.select_pattern(scores, pattern)
    assert mask.shape == scores.shape
    lines = scores.movedim(1, -1).reshape(-1, scores.shape[1]) if scores.numel() else scores.new_empty(0, m)
    kept = mask.movedim(1, -1).reshape(-1, scores.shape[1]) if scores.numel() else lines.bool()
    for values, keep in zip(lines, kept, strict=True):
        for group, chosen in zip(values.split(m), keep.split(m), strict=True):
            expected = prune_by_sorting({"w": group}, (m - n) / m)["w"]
            assert chosen.tolist() == expected.tolist()


@pytest.mark.parametrize("shape", [(0,), (0, 8), (4, 0), (2, 8, 0, 3)])
def test_empty_tensors_have_empty_masks(shape: tuple[int, ...]):
    empty = torch.empty(shape)
    assert masks.select(empty, 0.5).shape == shape
    masks.apply_(masks.select(empty, 0.5), empty)
    assert masks.unpack(masks.pack(masks.select(empty, 0.5)), shape).shape == shape
    assert masks.sparsity_of(empty) == 0.0
    if len(shape) > 1:
        assert masks.select_pattern(empty, (2, 4)).shape == shape


def test_a_tensor_of_one_element_is_pruned_when_its_share_rounds_to_one():
    for shape in [(), (1,), (1, 1, 1, 1)]:
        assert masks.select(torch.ones(shape), 0.5).tolist() == torch.ones(shape).bool().tolist()  # round(0.5) is 0
        assert not masks.select(torch.ones(shape), 0.51).any()


@pytest.mark.parametrize("bad", [1.0, 1, -0.1, 1.3, math.nan, math.inf, 30, -math.inf])
def test_a_sparsity_outside_its_range_is_refused_with_its_name_and_value(bad: float):
    with pytest.raises(SparsityError, match=r"sparsity of 'fc\.weight' must be in \[0, 1\), got ") as caught:
        masks.select(torch.ones(4), bad, name="fc.weight")
    assert str(bad) in str(caught.value)


@pytest.mark.parametrize("bad", ["30 %", "0.3", None, True, [0.3], torch.tensor([0.3])])
def test_a_sparsity_that_is_no_number_is_refused_with_what_to_write(bad: object):
    with pytest.raises(SparsityError, match=r"sparsity of 'fc' must be a number .* write 30 % as 0\.3"):
        masks.check_sparsity(bad, "'fc'")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_score_without_an_order_is_an_error_that_names_the_parameter(bad: float, dtype: torch.dtype, absolute: bool):
    scores = torch.ones(50, 8, dtype=dtype)
    scores[49, 7] = bad
    scores[3, 1] = math.nan
    message = "2 of the 400 scores of 'lstm.weight' are NaN or infinite"
    with pytest.raises(ScoreError, match=message):
        masks.select(scores, 0.0, name="lstm.weight", absolute=absolute)
    with pytest.raises(ScoreError, match=message):
        masks.select_global({"a": torch.ones(3), "lstm.weight": scores}, 0.5)
    with pytest.raises(ScoreError, match=message):
        masks.select_pattern(scores, (2, 4), name="lstm.weight")
    scores[3, 1] = 1
    with pytest.raises(ScoreError, match="1 of the 400 scores of 'weight' are NaN or infinite"):
        masks.select(scores, 0.5, absolute=absolute)
    with pytest.raises(ScoreError, match="1 of the 400 scores of 'weight' are NaN or infinite"):
        masks.select_pattern(scores, (2, 4))


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["normal", "equal", "narrow"])
def test_one_score_without_an_order_among_many_is_found(bad: float, dtype: torch.dtype, kind: str):
    normal = torch.randn(300_001, generator=torch.Generator().manual_seed(3))
    scores = {"normal": normal, "equal": torch.ones_like(normal), "narrow": 1 + normal.abs() / 1e4}[kind].to(dtype)
    for place in (0, 200_000, 300_000):
        wrong = scores.clone()
        wrong[place] = bad
        for absolute in (True, False):
            with pytest.raises(ScoreError, match="1 of the 300001 scores of 'fc' are NaN or infinite"):
                masks.select_global({"a": scores, "fc": wrong}, 0.3, absolute=absolute)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (torch.empty(4, 4, device="meta"), "'fc' is on the meta device"),
        (torch.ones(4, 4, dtype=torch.int32), r"scores of 'fc' must have a floating-point dtype, got torch\.int32"),
        (
            torch.ones(4, 4, dtype=torch.complex64),
            r"scores of 'fc' must have a floating-point dtype, got torch\.complex64",
        ),
    ],
)
def test_a_tensor_that_cannot_be_pruned_is_refused_by_name(bad: Tensor, says: str):
    with pytest.raises(ParameterError, match=says):
        masks.select(bad, 0.5, name="fc")
    with pytest.raises(ParameterError, match=says):
        masks.select_pattern(bad, (2, 4), name="fc")


def test_sharded_scores_are_sent_to_the_distributed_selection():
    class DTensor(torch.Tensor):
        pass

    with pytest.raises(
        ParameterError, match=r"the scores of 'fc' are a DTensor: choose with redense\.masks\.sharded\.select"
    ):
        masks.select(torch.ones(3).as_subclass(DTensor), 0.5, name="fc")


@pytest.mark.parametrize("bad", [(2,), (2, 4, 8), "24", 4, (2.0, 4), (True, 4), (0, 4), (5, 4), (-1, 4), None])
def test_a_pattern_that_is_no_n_of_m_is_refused(bad: object):
    with pytest.raises(SparsityError, match="pattern must"):
        masks.check_pattern(bad)  # pyright: ignore[reportArgumentType]


def test_a_sparsity_of_several_weights_is_refused_for_all_of_them():
    with pytest.raises(SparsityError, match=r"sparsity of all weights together must be in \[0, 1\), got 1\.5"):
        masks.select_global({"a": torch.ones(3), "b": torch.ones(3)}, 1.5)


@pytest.mark.parametrize(("shape", "divided"), [((4, 6), 6), ((4,), 1), ((), 1)])
def test_a_pattern_that_does_not_fit_says_what_it_must_divide(shape: tuple[int, ...], divided: int):
    with pytest.raises(ParameterError, match=rf"'fc' of shape .* has no groups of 4 .* divides {divided}$"):
        masks.select_pattern(torch.ones(shape), (2, 4), name="fc")


def test_sharded_scores_have_no_pattern_here_either():
    class DTensor(torch.Tensor):
        pass

    with pytest.raises(ParameterError, match="the scores of 'fc' are a DTensor"):
        masks.select_pattern(torch.ones(2, 4).as_subclass(DTensor), (2, 4), name="fc")


def test_scores_of_whole_numbers_are_refused_as_scores():
    with pytest.raises(ParameterError, match=r"the scores of 'fc' must have a floating-point dtype, got torch\.int64"):
        masks.select(torch.arange(4), 0.5, name="fc")
    with pytest.raises(ParameterError, match=r"^'fc' must have a floating-point dtype to be pruned, got torch\.int64"):
        masks.select(torch.arange(4), 0.5, name="fc", absolute=True)
