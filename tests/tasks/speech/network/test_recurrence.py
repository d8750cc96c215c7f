import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redense.tasks.speech.network.recurrence import CLOSED, reference, scan


def numbers(*shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(0, 100), st.floats(0.2, 3.0))
def test_the_scan_and_its_gradients_are_those_of_the_plain_reference(
    steps: int, clips: int, units: int, seed: int, scale: float
):
    inputs = numbers(steps, clips, units, seed=seed, scale=scale)
    weights = numbers(2, units, units, seed=seed + 1)
    grad = numbers(steps, clips, units, seed=seed + 2).detach()
    ours, plain = scan(inputs, weights, 1.5), reference(inputs, weights, 1.5)
    torch.testing.assert_close(ours, plain)
    for a, b in zip(
        torch.autograd.grad(ours, (inputs, weights), grad),
        torch.autograd.grad(plain, (inputs, weights), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_formula_holds_step_by_step():
    inputs, weights = numbers(3, 1, 2, scale=2.0), numbers(2, 2, 2)
    forwards, backwards = torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    expected = [torch.zeros(1, 2, dtype=torch.float64)] * 3
    for step in (0, 1, 2):
        forwards = (inputs[step] + forwards @ weights[0].T).clamp(0, 20)
        expected[step] = expected[step] + forwards
    for step in (2, 1, 0):
        backwards = (inputs[step] + backwards @ weights[1].T).clamp(0, 20)
        expected[step] = expected[step] + backwards
    torch.testing.assert_close(scan(inputs, weights), torch.stack(expected))


def test_a_second_derivative_is_right():
    inputs, weights = numbers(3, 2, 2, scale=1.5), numbers(2, 2, 2, seed=1)
    assert torch.autograd.gradgradcheck(lambda x, w: scan(x, w, 2.0), (inputs, weights))


def test_a_closed_input_starts_the_backward_direction_from_zero():
    inputs, weights = numbers(5, 1, 3).detach(), numbers(2, 3, 3, seed=1).detach()
    inputs[3:] = CLOSED
    out = scan(inputs, weights)
    torch.testing.assert_close(out[:3], scan(inputs[:3], weights))
    assert not out[3:].any()


def test_only_the_weights_gradient_can_be_asked_for():
    inputs, weights = numbers(4, 2, 3).detach(), numbers(2, 3, 3, seed=1)
    (ours,) = torch.autograd.grad(scan(inputs, weights).sum(), weights)
    (plain,) = torch.autograd.grad(reference(inputs, weights).sum(), weights)
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_has_the_dtype_of_its_inputs(dtype: torch.dtype):
    assert scan(torch.ones(2, 1, 3, dtype=dtype), torch.ones(2, 3, 3, dtype=dtype)).dtype == dtype
