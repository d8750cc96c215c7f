"""PyTorch's defaults: those of the caller hold in every job, and what a job changes is put back."""

from __future__ import annotations

import pickle
from typing import Any

import torch

from redense.lab.pairs.defaults import defaults, held, usual
from redense.lab.pairs.jobs import Done, Job, do


def size(schedule: Any, seed: int) -> dict[str, Any]:
    found = {"error": torch.zeros(1).element_size(), "gradients": float(torch.is_grad_enabled())}
    torch.set_default_dtype(torch.float16)
    torch.set_grad_enabled(False)
    return found


def test_a_job_elsewhere_has_the_defaults_of_the_caller_and_leaves_those_of_its_process():
    with held():
        torch.set_default_dtype(torch.float64)
        job = Job("a", 0, size, None, defaults=defaults())
        sent = pickle.loads(pickle.dumps(job))
    before = defaults()
    done: list[Done] = [do(sent), do(sent)]  # as in a process that has PyTorch's own
    assert [one.outcome.figures.to_dict() for one in done if one.outcome.figures] == 2 * [
        {"test": {"error": 8.0}, "validation": {}, "facts": {"gradients": 1.0}}
    ]
    assert defaults() == before


def test_a_verb_trains_as_on_the_command_line_whatever_the_defaults_are():
    with held():
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        with held(usual()):
            assert defaults()[:3] == (torch.float32, torch.device("cpu"), True)
        assert defaults()[:3] == (torch.float64, torch.device("cpu"), False)
