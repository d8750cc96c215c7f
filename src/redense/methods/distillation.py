"""Distillation (Hinton et al. 2015): the soft answers of a teacher, or of several, beside the true labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ParameterError, ScheduleError
from redense.schedules.numeric import as_float

from .base import Context, Method, technique


def distillation_loss(
    logits: Tensor, answers: Tensor | Sequence[Tensor], hard: Tensor, *, temperature: float = 4.0, mix: float = 0.5
) -> Tensor:
    """Return (1 - mix) * hard + mix * T^2 * KL(teacher(T) || student(T)), a loss for a loop of your own.

    Args:
        logits: of the student, (rows, classes); of a language model all words are rows.
        answers: logits of the teacher, of the same shape, which gets no gradient; of several, their mean probability at
            temperature T counts.
        hard: the loss of the true labels.
        temperature: T, above 0.
        mix: part of the soft loss, in [0, 1].

    Raises:
        ParameterError: the logits are no rows of classes, there is no answer, or one of another shape.
        ScheduleError: the temperature is not above 0, or ``mix`` not in [0, 1].

    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> distillation_loss(logits, logits, torch.tensor(1.0), mix=0.25)  # a teacher that agrees
    tensor(0.7500)
    """
    several = [answers] if isinstance(answers, Tensor) else list(answers)
    if logits.dim() != 2:
        raise ParameterError(
            f"logits must be (rows, classes), got {tuple(logits.shape)}: the divergence is a mean over rows. Flatten "
            "all dimensions but the last"
        )
    if not several or any(answer.shape != logits.shape for answer in several):
        shapes = [tuple(answer.shape) for answer in several]
        raise ParameterError(f"answers must be of the shape of the logits, {tuple(logits.shape)}, got {shapes}")
    _check(temperature, mix)
    dtype = torch.promote_types(logits.dtype, torch.float32)  # half precision is too coarse
    soft = torch.stack([F.softmax(answer.detach().to(dtype) / temperature, dim=-1) for answer in several]).mean(0)
    divergence = F.kl_div(F.log_softmax(logits.to(dtype) / temperature, dim=-1), soft, reduction="batchmean")
    return (1 - mix) * hard + mix * temperature**2 * divergence


def _check(temperature: object, mix: object) -> None:
    t, part = as_float(temperature), as_float(mix)
    if t is None or not 0 < t < math.inf:
        raise ScheduleError(f"temperature of a distillation must be above 0, got {temperature!r}")
    if part is None or not 0 <= part <= 1:
        raise ScheduleError(f"mix of a distillation must be in [0, 1], got {mix!r}")


@technique("distill")
class Distillation(Method):
    """Trains with (1 - mix) * hard loss + mix * T^2 * KL(teacher(T) || student(T)).

    T^2 keeps the size of the soft gradient, which falls as 1 / T^2. Several teachers answer with their mean
    probability at temperature T. The teacher is the model as the phase finds it, or ``teachers``: keys of stored
    phases, which ``resolve`` turns into state dicts.

    Options: ``temperature``, ``mix`` in [0, 1], ``teachers``.
    """

    defaults: Mapping[str, Any] = {"temperature": 4.0, "mix": 0.5, "teachers": []}

    @override
    def check_options(self) -> None:
        _check(self.options["temperature"], self.options["mix"])

    @override
    def begin(self, run: Context) -> None:
        states = [run.stored(key) for key in self.options["teachers"]] or [run.model.state_dict()]
        self._make_teachers(run.model, states)

    @override
    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad():
            answers = [run.outputs(teacher, batch) for teacher in self.teachers]
        student = called_once(model)
        logits = run.outputs(student, batch)
        settings = {name: self.options[name] for name in ("temperature", "mix")}
        return distillation_loss(logits, answers, run.loss(student, batch), **settings)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"teachers": [teacher.state_dict() for teacher in self.teachers]}

    @override
    def load_state_dict(self, state: Mapping[str, Any], run: Context) -> None:
        self._make_teachers(run.model, state["teachers"])

    def _make_teachers(self, model: nn.Module, states: list[dict[str, Tensor]]) -> None:
        self.teachers: list[nn.Module] = []
        for state in states:
            teacher = copy.deepcopy(model).eval().requires_grad_(False)
            teacher.load_state_dict(state)
            self.teachers.append(teacher)


def called_once(model: nn.Module) -> nn.Module:
    """Return a model that is called once for the same inputs: two losses are of one pass, with one draw of dropout."""
    answers: list[tuple[tuple[Any, ...], Any]] = []

    def answer(*inputs: Any) -> Any:
        for seen, output in answers:
            if len(seen) == len(inputs) and all(a is b for a, b in zip(seen, inputs, strict=True)):
                return output
        answers.append((inputs, model(*inputs)))
        return answers[-1][1]

    return cast("nn.Module", answer)
