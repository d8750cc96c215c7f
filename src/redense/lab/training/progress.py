"""The progress of a run: the state that a snapshot holds, and on which the rest of the run depends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from redense.errors import StateError
from redense.lab.checkpoint import clone
from redense.masks import pack, unpack
from redense.pruning import derive_seed

from .keeping import Best, refuse_older
from .network import Network
from .plan import PlannedPhase


class Progress:
    """The state of a run between two of its steps.

    Args:
        network: that is trained.
        plan: the phases.
        best: what would be kept if it ended now.
        seed: of the run.
        build: makes the network anew, of the structure that phases have given it.
    """

    def __init__(
        self,
        network: Network,
        plan: Sequence[PlannedPhase],
        best: Best,
        seed: int,
        build: Callable[[Sequence[Any]], None],
    ) -> None:
        self.network, self.best, self._plan, self._seed = network, best, plan, seed
        self._build = build
        self.masks: dict[str, Tensor] = {}
        self.position: dict[str, Any] = {"phase": 0, "step": 0}
        self.reshaped: list[Any] = []
        """[phase, what was made] for each that changed the structure of the model."""
        self.ends: dict[str, Any] = {}
        """Snapshots that phases ended with from which others begin, or which they join, by their place in the plan."""
        self.came_from = -1
        """The phase whose end the state is."""
        self.rng: Any = None
        """The random numbers of a phase that goes on."""

    @property
    def phase(self) -> int:
        """Number of phases that are complete."""
        return self.position["phase"]

    @property
    def in_phase(self) -> int:
        """Optimizer steps since the start of the phase at hand."""
        return self.position["step"]

    @property
    def step(self) -> int:
        """Optimizer steps since the start of the run."""
        return sum(planned.steps for planned in self._plan[: self.phase]) + self.in_phase

    def snapshot(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors and plain data; on every rank the same."""
        position, rng = dict(self.position), rng_state(self.network.device)
        state: dict[str, Any] = {
            "model": self.network.model.state_dict(),
            "optimizer": self.network.optimizer.state_dict(),
            "masks": {name: {"shape": list(m.shape), "bits": pack(m)} for name, m in self.masks.items()},
            "position": position,
            "reshaped": list(self.reshaped),
            "rng": rng,
        }
        if self.best.of_run is not None:
            state["best of run"] = self.best.of_run
        if self.ends:
            state["ends"] = dict(self.ends)
        if self.network.ranks.many and position["step"]:  # what each rank has for itself
            state["ranks"] = self.network.ranks.gather({"rng": rng, "loss": position["loss"]})
            position["loss"] = sum(own["loss"] for own in state["ranks"]) / self.network.ranks.world
        return state

    def end(self, index: int, kept: Mapping[str, Any], *, keep: bool) -> None:
        """Go to the phase after ``index``; ``keep``: a later phase needs what it ended with."""
        self.position, self.came_from = {"phase": index + 1, "step": 0, **kept}, index
        if keep:
            snapshot = self.snapshot()
            snapshot.pop("ends", None)
            self.ends[str(index)] = clone(snapshot)

    def restore(self, snapshot: Mapping[str, Any], *, at: int | None = None) -> None:
        """Go on where `snapshot` was taken, with the phase ``at`` if it is given.

        Raises:
            StateError: it is of another model.
        """
        if self.reshaped != list(snapshot["reshaped"]):
            self.reshaped = list(snapshot["reshaped"])
            self._build(self.reshaped)
        try:
            self.network.model.load_state_dict(snapshot["model"])
        except (RuntimeError, KeyError) as error:
            raise StateError(f"the checkpoint is of another model: {' '.join(str(error).split())[:300]}") from None
        self.network.optimizer.load_state_dict(snapshot["optimizer"])
        self.masks = {name: unpack(item["bits"], item["shape"]) for name, item in snapshot["masks"].items()}
        self.best.of_run = snapshot.get("best of run")
        self.came_from = snapshot["position"]["phase"] - 1
        self.ends = {**self.ends, **snapshot.get("ends", {})}
        self.position = dict(snapshot["position"]) if at is None else {"phase": at, "step": 0}
        refuse_older(self.position.get("best"))
        self.rng = snapshot["rng"]
        own = snapshot.get("ranks", [])
        if len(own) == self.network.ranks.world:
            self.rng, self.position["loss"] = own[self.network.ranks.rank]["rng"], own[self.network.ranks.rank]["loss"]
        elif self.network.ranks.rank:  # it was taken on another number of ranks: rank 0 goes on, the others begin
            self.draw_for_itself()
            self.rng = rng_state(self.network.device)

    def draw_for_itself(self) -> None:
        """Begin random numbers of this rank's own, for dropout and its like."""
        torch.manual_seed(derive_seed(self._seed, self.phase, "phase", self.step, self.network.ranks.rank))


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the state of what models draw from: the CPU's generator, and that of the GPU that is trained on."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = [torch.cuda.get_rng_state(device)]
    return state


def set_rng_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Go on drawing where `rng_state` was taken."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"][0], device)
