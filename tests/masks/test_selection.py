"""Selection against a stable sort, application bit for bit, packing there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from redense.errors import ParameterError, ScoreError, SparsityError
from redense.masks import selection as masks

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGER_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def prune_by_sorting(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Rule 1 as it is written: the first round(s N) of a stable ascending sort go; float64 holds all dtypes."""
    flat = torch.cat([values.detach().double().reshape(-1) for values in scores.values()]) + 0.0
    kept = torch.ones(flat.shape, dtype=torch.bool)
    kept[flat.sort(stable=True).indices[: round(sparsity * flat.numel())]] = False
    parts = kept.split([values.numel() for values in scores.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "transposed":
        return tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor
    if layout == "channels_last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        wide = torch.zeros(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype)
        wide[..., ::2] = tensor
        return wide[..., ::2]
    return tensor.contiguous()


LAYOUTS = st.sampled_from(["contiguous", "transposed", "channels_last", "strided"])
SHAPES = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)
SPARSITIES = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.999, 1 - 2**-53]))


@st.composite
def score_tensors(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = FLOATS) -> Tensor:
    """Scores with what makes a selection hard: ties, both zeros, subnormals, extremes, negatives, odd layouts."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(SHAPES)
    info = torch.finfo(dtype)
    special = [0.0, -0.0, info.tiny / 4, -info.tiny / 4, info.max, info.min, info.tiny, 1.0, -1.0]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    numel = math.prod(shape)
    kind = draw(st.sampled_from(["normal", "few values", "special", "equal", "mixed"]))
    normal = torch.randn(numel, generator=generator, dtype=torch.float64)
    few = torch.randint(-2, 3, (numel,), generator=generator).double()
    odd = torch.tensor(special, dtype=torch.float64)[torch.randint(len(special), (numel,), generator=generator)]
    values = {
        "normal": normal,
        "few values": few,
        "special": odd,
        "equal": torch.full((numel,), draw(st.sampled_from(special)), dtype=torch.float64),
        "mixed": torch.where(torch.rand(numel, generator=generator) < 0.5, normal, odd),
    }[kind]
    if draw(st.booleans()):
        values = values.abs()
    values = values.clamp(info.min, info.max).to(dtype)
    return lay_out(values.view(shape), draw(LAYOUTS))


@st.composite
def search_sizes(draw: st.DrawFn) -> dict[str, int]:
    """Sizes that send small tensors through sampling, blocks and the collection of ties."""
    return {
        "_PARTITION_BELOW": draw(st.sampled_from([0, 4, 1 << 17])),
        "_SAMPLE": draw(st.sampled_from([1, 8, 64])),
        "_BLOCK": draw(st.sampled_from([1, 8, 12, 64, 1 << 17])),
        "_ROW": draw(st.sampled_from([4, 1 << 14])),
    }


def patched(sizes: Mapping[str, int]) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    for name, value in sizes.items():
        patch.setattr(masks, name, value)
    return patch


# --- selection ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["normal", "rounded", "equal", "two values", "mostly zero"])
def test_selection_by_sampling_is_a_stable_sort_at_its_real_sizes(dtype: torch.dtype, kind: str):
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


@pytest.mark.parametrize("kind", ["normal", "narrow", "equal", "two values", "mostly zero", "mostly one"])
@pytest.mark.parametrize("sparsity", [0.00001, 0.3, 0.99999])
@pytest.mark.parametrize("absolute", [True, False])
def test_of_a_large_selection_little_is_looked_at_twice(
    kind: str, sparsity: float, absolute: bool, monkeypatch: pytest.MonkeyPatch
):
    normal = torch.randn(300_001, generator=torch.Generator().manual_seed(3))
    scores = {
        "normal": normal,
        "narrow": 1 + normal.abs() / 1e4,  # the upper halves of the bits are all the same
        "equal": torch.full_like(normal, 0.5),
        "two values": (normal > 0.3).float(),
        "mostly zero": normal * (normal.abs() > 1.5),
        "mostly one": torch.where(normal.abs() > 1.9, normal, 1.0),
    }[kind]
    keep, sizes = masks._keep_highest, list[int]()  # pyright: ignore[reportPrivateUsage]

    def noting(keys: Sequence[Tensor], count: int) -> Sequence[Tensor]:
        sizes.append(sum(part.numel() for part in keys))
        return keep(keys, count)

    monkeypatch.setattr(masks, "_keep_highest", noting)
    mask = masks.select(scores, sparsity, absolute=absolute)
    rule = scores.abs() if absolute else scores
    assert torch.equal(mask, prune_by_sorting({"w": rule}, sparsity)["w"])
    assert sum(sizes) < 0.05 * scores.numel()


def test_a_magnitude_is_looked_at_by_half_its_bits_where_that_tells(monkeypatch: pytest.MonkeyPatch):
    outside, looks = masks._prune_outside, list[object]()  # pyright: ignore[reportPrivateUsage]

    def noting(*given: Any) -> bool:
        looks.append(given[4])
        return outside(*given)

    monkeypatch.setattr(masks, "_prune_outside", noting)
    normal = torch.randn(300_001, generator=torch.Generator().manual_seed(3))
    upper, bits = masks._upper_bits, masks.magnitude_bits  # pyright: ignore[reportPrivateUsage]
    for scores, look in [
        (normal, upper),
        (1 + normal.abs() / 1e4, bits),
        (normal.double(), bits),
        (normal.half(), bits),
    ]:
        masks.select(scores, 0.3, absolute=True)
        masks.select(scores.abs(), 0.3)
        assert looks == [look, look]
        looks.clear()


def test_half_the_bits_of_a_magnitude_are_in_its_order():
    special = [
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        1e-38,
        1.0,
        -1.0,
        1.0000001,
        3.4e38,
        -3.4028235e38,
        math.inf,
        math.nan,
        -math.nan,
    ]
    values = torch.cat([torch.tensor(special), torch.randn(1000, generator=torch.Generator().manual_seed(0))])
    order = masks.magnitude_bits(values).sort().indices
    upper = masks._upper_bits(values)[order]  # pyright: ignore[reportPrivateUsage]
    assert upper.dtype == torch.int16
    assert (upper.diff() >= 0).all()
    assert upper.unique().numel() > 100
    infinite = masks._upper_bits(torch.tensor([math.inf]))  # pyright: ignore[reportPrivateUsage]
    assert torch.equal(upper >= infinite, ~values[order].isfinite())


@pytest.mark.parametrize("more", [0, 1])
def test_where_many_scores_are_equal_the_threshold_is_known(more: int, monkeypatch: pytest.MonkeyPatch):
    scores = (torch.rand(300_001, generator=torch.Generator().manual_seed(3)) > 0.4).float()
    smaller = int((scores == 0).sum())
    expected = prune_by_sorting({"w": scores}, (smaller + more) / scores.numel())["w"]
    monkeypatch.setattr(masks, "_keep_highest", None)
    mask = masks.select(scores, (smaller + more) / scores.numel())  # the threshold is a bound of the bracket
    assert int((~mask).sum()) == smaller + more
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("bounds", [(0, 1, 2), (2**14, 2**14 + 1, 2**14 + 2), (-5, 7, 2**14), (0, 0, 0), (-2, -1, 1)])
@pytest.mark.parametrize("times", [1, 2])
def test_selection_survives_a_sample_that_misleads(
    bounds: tuple[int, int, int], times: int, monkeypatch: pytest.MonkeyPatch
):
    scores = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(masks, "_PARTITION_BELOW", 16)
    honest, misled = masks._bracket, [bounds] * times  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(masks, "_bracket", lambda *given: misled.pop() if misled else honest(*given))
    assert torch.equal(masks.select(scores, 0.4, absolute=True), prune_by_sorting({"w": scores.abs()}, 0.4)["w"])
    assert len(misled) < times


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


@pytest.mark.parametrize("equal", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_tensor_of_100_million_weights_is_pruned_exactly(equal: bool):
    numel, sparsity = 100_000_007, 0.3
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
        (torch.ones(4, 4, dtype=torch.int32), r"'fc' must have a floating-point dtype .* got torch\.int32"),
        (torch.ones(4, 4, dtype=torch.complex64), r"'fc' must have a floating-point dtype .* got torch\.complex64"),
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
        ParameterError, match=r"the scores of 'fc' are a DTensor: choose with redense\.distributed\.select"
    ):
        masks.select(torch.ones(3).as_subclass(DTensor), 0.5, name="fc")


@pytest.mark.parametrize("bad", [(2,), (2, 4, 8), "24", 4, (2.0, 4), (True, 4), (0, 4), (5, 4), (-1, 4), None])
def test_a_pattern_that_is_no_n_of_m_is_refused(bad: object):
    with pytest.raises(SparsityError, match="pattern must"):
        masks.check_pattern(bad)  # pyright: ignore[reportArgumentType]


# --- applying and measuring -----------------------------------------------------------------------------------------


@st.composite
def masks_with_tensors(draw: st.DrawFn) -> tuple[Tensor, list[Tensor]]:
    shape = draw(SHAPES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    mask = lay_out(torch.rand(shape, generator=generator) < draw(st.floats(0, 1)), draw(LAYOUTS))
    tensors: list[Tensor] = []
    for dtype in draw(st.lists(st.sampled_from([*FLOATS, torch.float8_e5m2, torch.int64]), min_size=1, max_size=3)):
        # Any bit pattern at all: NaNs with a payload, infinities, subnormals, both zeros.
        integer = INTEGER_OF_SIZE[dtype.itemsize]
        info = torch.iinfo(integer)
        bits = torch.randint(info.min, info.max, shape, generator=generator, dtype=integer)
        tensors.append(lay_out(bits, draw(LAYOUTS)).view(dtype))
    return mask, tensors


def bits_of(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(INTEGER_OF_SIZE[tensor.dtype.itemsize])


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
        patch.setattr(masks, "_multiply_by_blocks", masks._multiply_together)  # pyright: ignore[reportPrivateUsage]
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
    multiply = masks._multiply_by_blocks  # pyright: ignore[reportPrivateUsage]

    def noting(work: list[tuple[Tensor, list[Tensor]]], integer: torch.dtype) -> None:
        calls.append((integer, [len(patterns) for _, patterns in work]))
        multiply(work, integer)

    monkeypatch.setattr(masks, "_multiply_by_blocks", noting)
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
    monkeypatch.setattr(masks, "_multiply_by_blocks", masks._multiply_together)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(masks, "_ALONE", 1000)
    masked = [(torch.rand(10, 10) < 0.5, [torch.randn(10, 10), torch.randn(10, 10)]) for _ in range(layers)]
    large = torch.rand(1001) < 0.5, [torch.randn(1001)]
    with Calls() as calls:
        masks.apply_all_([*masked, large])
    assert calls.names == ["aten::mul_.Tensor", "aten::_foreach_copy_", "aten::_foreach_mul_.List"]


def test_a_gpu_asks_for_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(masks, "_multiply_by_blocks", masks._multiply_together)  # pyright: ignore[reportPrivateUsage]
    for room, calls_each in [(250, 5), (200, 5), (199, 10), (100, 10), (1000, 1)]:
        monkeypatch.setattr(masks, "_TOGETHER", room)
        monkeypatch.setattr(masks, "_ALONE", 100)  # up to it
        with Calls() as calls:
            masks.apply_all_([(torch.rand(100) < 0.5, [torch.randn(100)]) for _ in range(10)])
        assert calls.names == ["aten::_foreach_copy_", "aten::_foreach_mul_.List"] * calls_each


def test_masks_of_many_sizes_are_applied_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(masks, "_BLOCK", 20)
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


# --- packing --------------------------------------------------------------------------------------------------------


@given(masks_with_tensors(), st.sampled_from([8, 64, 1 << 18]))
def test_a_packed_mask_comes_back_from_an_eighth_of_the_bytes(case: tuple[Tensor, list[Tensor]], block: int):
    mask, _ = case
    patch = patched({"_BLOCK": block})
    try:
        packed = masks.pack(mask)
        unpacked = masks.unpack(packed, mask.shape)
    finally:
        patch.undo()
    assert packed.dtype == torch.uint8
    assert packed.numel() == math.ceil(mask.numel() / 8)
    assert unpacked.dtype == torch.bool
    assert torch.equal(unpacked, mask)


def test_the_lowest_bit_of_a_packed_mask_is_its_first_weight():
    assert masks.pack(
        torch.tensor([[True, False], [False, True], [False, False], [False, True], [True, False]])
    ).tolist() == [
        0b10001001,
        0b1,
    ]


@pytest.mark.parametrize(
    "packed", [torch.zeros(1, dtype=torch.uint8), torch.zeros(2), torch.zeros(3, dtype=torch.uint8)]
)
def test_packed_bits_that_do_not_fit_the_shape_are_refused(packed: Tensor):
    with pytest.raises(ParameterError, match=r"a packed mask for shape \(3, 4\) has 2 bytes, got"):
        masks.unpack(packed, (3, 4))


# --- what only a small change of the code would show: see tools/mutate.py ------------------------------------------


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


def test_off_the_cpu_the_patterns_are_multiplied_together(monkeypatch: pytest.MonkeyPatch):
    class Elsewhere(torch.Tensor):
        device = property(lambda self: torch.device("meta"))  # pyright: ignore[reportAssignmentType]

    calls: list[int] = []
    monkeypatch.setattr(masks, "_multiply_together", lambda work, integer: calls.append(len(work)))
    mask = torch.tensor([True, False, True]).as_subclass(Elsewhere)
    masks.apply_all_([(mask, [torch.ones(3)]), (mask, [torch.ones(3)]), (mask[:2].clone(), [torch.ones(2)])])
    assert calls == [3]


def test_the_highest_are_kept_whatever_their_number():
    keys = torch.randint(1 << 20, (10_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    order = keys.sort(stable=True).indices
    for count in range(0, 10_001, 5):
        (kept,) = masks._keep_highest([keys], count)  # pyright: ignore[reportPrivateUsage]
        assert not kept[order[:count]].any()
        assert kept[order[count:]].all()


def test_a_block_of_ones_is_summed_without_an_overflow():
    for size in (3, 1 << 14, 1 << 17, 3 << 15, (1 << 17) + 1):
        assert masks._sum(torch.ones(size, dtype=torch.int16)) == size  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(("shape", "size"), [((16,), 2), ((17,), 3)])
def test_packed_bits_that_do_not_fit_say_how_many_would(shape: tuple[int, ...], size: int):
    with pytest.raises(ParameterError, match=f"has {size} bytes"):
        masks.unpack(torch.zeros(1, dtype=torch.uint8), shape)
