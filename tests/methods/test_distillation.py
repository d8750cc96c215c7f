"""Distillation: the loss written out, and a teacher that does not learn."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import RedenseError
from redense.methods import distillation_loss
from redense.methods.base import Context, make_method

from ..trainings import same_tree
from .cases import Pairs


@pytest.mark.parametrize("teachers", [1, 3])
def test_the_soft_loss_is_t_squared_times_the_divergence_written_out(teachers: int):
    torch.manual_seed(0)
    T, mix = 2.5, 0.3
    student = nn.Linear(4, 3)
    states = {str(i): nn.Linear(4, 3).state_dict() for i in range(teachers)}
    method = make_method("distill", {"temperature": T, "mix": mix, "teachers": list(states)}, 0)
    run = Context(student, task=Pairs(), stored=states.__getitem__)
    method.begin(run)
    x, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    loss = method.loss(run, student, (x, labels))
    gradient, value = torch.autograd.grad(loss, student.weight)[0], float(loss.detach())

    def logits(state: dict[str, Tensor], row: int) -> list[float]:
        weight, bias = state["weight"].tolist(), state["bias"].tolist()
        return [sum(w * v for w, v in zip(weight[k], x[row].tolist(), strict=True)) + bias[k] for k in range(3)]

    def softmax(values: list[float], temperature: float) -> list[float]:
        powers = [math.exp(v / temperature) for v in values]
        return [p / sum(powers) for p in powers]

    own, expected = {k: v.detach() for k, v in student.state_dict().items()}, 0.0
    by_hand = torch.zeros(3, 4, dtype=torch.float64)
    for row in range(5):
        each_teacher = [softmax(logits(state, row), T) for state in states.values()]
        p = [sum(column) / teachers for column in zip(*each_teacher, strict=True)]
        q, q1 = softmax(logits(own, row), T), softmax(logits(own, row), 1.0)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        expected += ((1 - mix) * -math.log(q1[int(labels[row])]) + mix * T**2 * divergence) / 5
        for k in range(3):  # d/dz of the cross-entropy is q - y, of the soft part T (q_T - p_T)
            slope = (1 - mix) * (q1[k] - (int(labels[row]) == k)) + mix * T * (q[k] - p[k])
            by_hand[k] += slope * x[row].double() / 5
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient.double(), by_hand, rtol=1e-4, atol=1e-6)


def test_the_teacher_is_the_model_before_the_phase_and_does_not_learn_or_drop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    before = copy.deepcopy(model.state_dict())
    method, run = make_method("distill", {"mix": 1.0, "temperature": 1.0}, 0), Context(model, task=Pairs())
    method.begin(run)
    model.eval()
    batch = (torch.randn(6, 4), torch.zeros(6, dtype=torch.long))
    agreed = method.loss(run, model, batch)
    assert float(agreed.detach()) == pytest.approx(0.0, abs=1e-6)  # it agrees with itself
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(-2.0)
    first, second = (method.loss(run, model, batch).detach() for _ in range(2))
    assert float(first) > 1e-3
    assert float(first) == float(second)
    (state,) = method.state_dict()["teachers"]
    assert same_tree(dict(state), dict(before))
    assert not any(value.requires_grad for value in state.values())


def test_both_losses_are_of_one_forward_pass_with_one_draw_of_dropout():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    method = make_method("distill", {"mix": 0.5}, 0)
    method.begin(Context(model))
    seen: list[Tensor] = []
    batch = (torch.randn(6, 4), torch.zeros(6, dtype=torch.long))

    class Looking(Pairs):
        @override
        def outputs(self, model: nn.Module, batch: Any) -> Tensor:
            seen.extend([model(batch[0])] if torch.is_grad_enabled() else [])
            return super().outputs(model, batch)

        @override
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            seen.append(model(batch[0]))
            return super().loss(model, batch)

    method.loss(Context(model, task=Looking()), model, batch)
    assert len(seen) == 2
    assert seen[0] is seen[1]


@pytest.mark.parametrize(
    ("logits", "answers", "options", "says"),
    [
        ((4, 7, 3), (4, 7, 3), {}, r"logits must be \(rows, classes\), got \(4, 7, 3\)"),
        ((4, 3), (4, 1), {}, r"answers must be of the shape of the logits, \(4, 3\), got \[\(4, 1\)\]"),
        ((4, 3), (3,), {}, "answers must be of the shape"),
        ((4, 3), (4, 3), {"temperature": 0}, "temperature of a distillation must be above 0, got 0"),
        ((4, 3), (4, 3), {"mix": 2}, r"mix of a distillation must be in \[0, 1\], got 2"),
    ],
)
def test_what_would_give_another_loss_is_refused(logits: Any, answers: Any, options: Any, says: str):
    with pytest.raises(RedenseError, match=says):
        distillation_loss(torch.randn(logits), torch.randn(answers), torch.tensor(1.0), **options)


def test_a_teacher_gets_no_gradient_and_none_is_refused():
    student, teacher = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    distillation_loss(student, teacher, torch.tensor(1.0)).backward()
    assert student.grad is not None
    assert teacher.grad is None
    with pytest.raises(RedenseError, match=r"answers must be of the shape of the logits, \(4, 3\), got \[\]"):
        distillation_loss(student, [], torch.tensor(1.0))


def test_a_loss_of_float64_is_computed_in_float64():
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    answers = torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, answers, x.sum()), (logits,))
