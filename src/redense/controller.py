"""Dense-sparse-dense training in a loop of your own: `sparse` for one phase, `DSD` for a whole schedule.

Both hook ``optimizer.step``, and nothing else. In a sparse phase, after every real step,

    W <- W * Mask                                                     (Han et al. 2017, algorithm 1)

in place; the gradients of removed weights are zero before it. At the release their optimizer states become those of new
weights: they restart from zero with no velocity. The model keeps its parameters, names, hooks and buffers.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .criteria import Criterion
from .errors import ScheduleError
from .holding.attached import Controller
from .holding.ending import End, check_callback, reminder, written_since
from .holding.optimizers import fills_state, make_hookable
from .holding.owners import Owners
from .holding.saving import FORMAT, check_format, check_progress, fingerprint, from_shards, sharded, state_of_masks
from .holding.states.undo import FirstPruning
from .parameters import Summary
from .phase import Phase, Sparsity
from .pruning import check_phase
from .schedule import Schedule

_log = logging.getLogger(__name__)


class sparse(Controller):  # noqa: N801  # reads as a verb: `with redense.sparse(...)`
    """Prune on entry, hold the masks after every optimizer step until the block ends, then release from zero.

    The S phase of DSD (Han et al. 2017, section 2) for a loop of your own:

        train(model, optimizer)  # D
        with redense.sparse(model, optimizer, sparsity=0.3):  # S
            train(model, optimizer)
        redense.scale_lr(optimizer, 0.1)
        train(model, optimizer)  # D

    The block may end by ``break``, ``return`` or an exception: it always releases.

    Args:
        model: the module that is trained; wrapped by DDP or ``torch.compile`` or not.
        optimizer: the optimizer that trains it, or several.
        sparsity: fraction removed, in [0, 1), or one per parameter name or shell pattern (others stay dense).
        criterion: ``magnitude`` (Keepmax-Cut), ``random`` (Random-Cut), ``saliency``, or your own, see `criterion`.
        scope: ``layer`` prunes each parameter to the sparsity, ``global`` all together by one threshold.
        pattern: (2, 4) keeps 2 of every 4 consecutive inputs, instead of a sparsity.
        include: names or patterns of parameters, or names of modules, see `redense.prunable`.
        exclude: names or patterns to leave dense.
        seed: of the random criterion.
        state: what `state_dict` gave, to go on in a phase that was interrupted; nothing is selected then.
        inputs: an example of what the model is called with, to find the layers that read it; see `redense.prunable`.
        replicas: the process group whose ranks train copies of the model, and so must hold the same masks, if they do
            it without DDP or a device mesh, which are found. False if no other rank trains a copy of it.

    Raises:
        ScheduleError: the scope or the seed cannot be one, or there are a sparsity and a pattern.
        SparsityError: the sparsity is not in [0, 1), the pattern none, or a parameter is left nothing.
        ScoreError: the criterion is unknown, a score is NaN or infinite, or a gradient is missing.
        ParameterError: a name matches no parameter, or one has no values.
        OptimizerError: (also from ``optimizer.step``) no optimizer holds what is pruned, or something else wrote it.
        StateError: another block or DSD controls this model, or ranks that train copies of it differ in what decides
            over masks, or in the masks.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        sparsity: Sparsity | None = None,
        *,
        criterion: str | Criterion = "magnitude",
        scope: str = "layer",
        pattern: tuple[int, int] | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        seed: int = 0,
        state: Mapping[str, Any] | None = None,
        inputs: Any = None,
        replicas: Any = None,
    ) -> None:
        super().__init__(model, optimizer, include, exclude, seed, inputs, replicas)
        # The length of a block is the user's: a phase of one step stands for it.
        self.phase = Phase.sparse(1, sparsity, criterion=criterion, scope=scope, pattern=pattern)  # pyright: ignore[reportArgumentType]
        self._saved = state
        self._reminders: list[RemovableHandle] = []
        for each in self._optimizers:
            make_hookable(each)
            self._reminders.append(each.register_step_pre_hook(reminder(self._reminders)))

    def __enter__(self) -> sparse:
        """Select the masks and put them in force."""
        self._attach()
        self._seen = 0
        try:
            if self._saved is None:
                self._enter(self.phase, 0, {})
            else:
                check_format(self._saved, "phase", self.phase.to_dict(), needs=("masks",))
                if "settings" in self._saved:  # else it is of an older redense
                    check_format(self._saved, "settings", self._settings(), needs=())
                self._resume(self._masked_from(self._saved, self.phase, 0))
        except BaseException:
            self._detach()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the masked weights from zero, whatever ended the block; what was loaded meanwhile stays as it is."""
        if kind is None and not self._seen:
            _log.warning("the block of redense.sparse has ended, and %s", self._unseen())
        try:
            self._close(raises=True)
        finally:
            self._detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the masks, packed to bits, as tensors and plain data that ``torch.load(weights_only=True)`` reads."""
        self._finish_broken()
        header = {"format": FORMAT, "phase": self.phase.to_dict(), "settings": self._settings()}
        return header | state_of_masks(self._masked) | fingerprint(self._model)


class DSD(Controller):
    """A whole schedule in a loop of your own: counts optimizer steps, prunes, holds and releases at the right ones.

        schedule = redense.Schedule.dsd(dense=9000, sparse=4500, redense=4500, sparsity=0.3)
        dsd = redense.DSD(model, optimizer, schedule)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
        ...  # the loop, unchanged

    A phase changes inside the ``optimizer.step()`` that ends it, so a network evaluated right after the last dense step
    is already pruned; ``on_phase_end`` is called before that. What trains nothing is no step: one that a GradScaler
    skips, one without any gradient, and the one by which ``torch.distributed.checkpoint`` fills a fresh optimizer's
    state. With several optimizers a step is complete when each has stepped. After the last phase the hooks are gone; if
    that phase is sparse, its masks hold until `close`.

    An optimizer whose step mixes the entries of a matrix (Muon, Shampoo) is held to zero in the sparse phase like any
    other, but may move a released weight at once: its own zero gradient does not mean a zero step.

    Args:
        model: the module that is trained; wrapped by DDP or ``torch.compile`` or not.
        optimizer: the optimizer that trains it, or several.
        schedule: the phases, in optimizer steps.
        include: names or patterns of parameters, or names of modules, see `redense.prunable`.
        exclude: names or patterns to leave dense.
        seed: of the random criterion and of surgery.
        masks: of a sparse phase that came right before; what it pruned stays pruned if the schedule begins sparse.
        state: what `state_dict` gave, to go on there with a model that is loaded already; nothing is selected then. A
            DSD of the same weights with another optimizer is closed: this one goes on in its place.
        on_phase_end: called with this object when a phase has had its last step and before anything is changed. It may
            load another state; weights that it loads under a mask before a dense phase stay, and a warning says so.
        inputs: an example of what the model is called with, to find the layers that read it; see `redense.prunable`.
        replicas: as of `sparse`.

    Raises:
        ScheduleError: the schedule, the seed or ``on_phase_end`` cannot be one.
        ParameterError: a name matches no parameter, or one has no values.
        OptimizerError: (also from ``optimizer.step``) no optimizer holds what is pruned, or something else wrote it.
        ScoreError: (also from ``optimizer.step``) a score is NaN or infinite; the parameter is named.
        SparsityError: (also from ``optimizer.step``) a phase would leave nothing of a parameter, which is named.
        StateError: (also from ``optimizer.step``) another DSD or block controls this model, or ranks that train copies
            of it differ in what decides over masks, or in the masks.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        schedule: Schedule,
        *,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        seed: int = 0,
        masks: Mapping[str, Tensor] | None = None,
        state: Mapping[str, Any] | None = None,
        on_phase_end: Callable[[DSD], None] | None = None,
        inputs: Any = None,
        replicas: Any = None,
    ) -> None:
        if not isinstance(schedule, Schedule):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ScheduleError(f"schedule must be a redense.Schedule, got {schedule!r}")
        check_callback(on_phase_end)
        super().__init__(model, optimizer, include, exclude, seed, inputs, replicas)
        self.schedule = schedule
        self._on_phase_end = on_phase_end
        self._resumes, self._replaced = state is not None, list[DSD]()
        self._steps, self._index = [0] * len(self._optimizers), 0
        self._end = End(schedule, self._optimizers)
        self._first_pruning = FirstPruning()
        with self._candidates.looking_once():
            self._check(masks or {})
            self._attach()
            try:
                if state is None:
                    if schedule.phases[0].is_sparse:
                        self._first_pruning.copy(self._candidates(schedule.phases[0].sparsity), self._optimizers)
                    self._begin(masks or {})
                    self._first_pruning.done()
                else:
                    self.load_state_dict(state)
            except BaseException:
                self._detach()
                raise
        for other in self._replaced:  # of an optimizer that this one's has taken the place of
            other._end.said = True
            other.close(release=False)
        self._resumes, self._replaced = False, []
        weakref.finalize(self, self._end.say)

    def _check(self, masks: Mapping[str, Tensor]) -> None:
        """Say what is wrong with a later phase now, and not after days of training."""
        every: dict[str, nn.Parameter] = {}
        for phase in (phase for phase in self.schedule.phases if phase.is_sparse):
            every |= (candidates := self._candidates(phase.sparsity))
            check_phase(self._candidates.of_now(phase, candidates), candidates, self._candidates.kinds)
        self._owners = Owners(self._model, every, self._candidates.modules)
        self._candidates.refuse_unknown(masks)

    @property
    def step(self) -> int:
        """Number of complete optimizer steps so far."""
        return min(self._steps)

    @property
    def phase(self) -> Phase | None:
        """The phase that the next step belongs to; ``None`` when the schedule is over."""
        return self.schedule.phases[self._index] if self._index < len(self.schedule.phases) else None

    @property
    def _over(self) -> bool:
        return self.phase is None and not self._masked

    def summary(self) -> Summary:
        """Return what is pruned, why, and how sparse each parameter is now; print it."""
        return self._candidates.summary(phase.sparsity for phase in self.schedule.phases if phase.is_sparse)

    def state_dict(self) -> dict[str, Any]:
        """Return step, phase and packed masks as tensors and plain data, at any step.

        ``torch.load(weights_only=True)`` and safetensors plus JSON can hold it. Masks of sharded parameters are
        gathered, so that any number of ranks can load it: all ranks must ask for it, and one may write it.
        `sharded_state_dict` is for ``torch.distributed.checkpoint``.
        """
        return self._header() | state_of_masks(self._masked)

    def sharded_state_dict(self) -> dict[str, Any]:
        """Return what ``torch.distributed.checkpoint`` saves, and loads into on any number of ranks.

        Nothing is gathered: the masks are uint8 tensors placed as the weights are. The keys are the same at every
        step, for DCP loads only what it is asked for:

            dcp.save({"model": ..., "optimizer": ..., "dsd": dsd.sharded_state_dict()}, checkpoint_id=path)
            state = {"model": ..., "optimizer": ..., "dsd": dsd.sharded_state_dict()}
            dcp.load(state, checkpoint_id=path)
            dsd.load_state_dict(state["dsd"])
        """
        return self._header() | sharded(self.schedule, self._candidates, self._masked)

    def _header(self) -> dict[str, Any]:
        self._finish_broken()
        return {
            "format": FORMAT,
            "schedule": self.schedule.to_dict(),
            "settings": self._settings(),
            "steps": list(self._steps),
            "phase": self._index,
            **fingerprint(self._model),
        }

    def _in_force(self) -> dict[str, Any]:
        return {**self._settings(), "schedule": self.schedule.to_dict(), "steps": list(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` or `sharded_state_dict` was taken; load model and optimizer too, in any order.

        Only a state that was taken in ``on_phase_end`` wants the model loaded before: its next phase begins here.

        A schedule that begins sparse prunes as soon as the object is made; if nothing was trained or loaded since, that
        is undone first, so that a model which was loaded before the object was made loses nothing.

        Raises:
            StateError: the state is of another schedule, model, number of optimizers, or format.
        """
        if isinstance(state, Mapping) and "sharded" in state:  # pyright: ignore[reportUnnecessaryIsInstance]
            state = from_shards(state, self.schedule, self._candidates)
        check_format(state, "schedule", self.schedule.to_dict(), needs=("settings", "steps", "phase", "masks"))
        check_format(state, "settings", self._settings(), needs=())
        check_progress(state, len(self._steps), len(self.schedule.phases))
        index, last = int(state["phase"]), len(self.schedule.phases) - 1
        over, own = index > last, min(index, last)
        masked = self._masked_from(state, self.schedule.phases[own], own)
        if not self._handles:  # before anything is masked: another may control the weights by now
            self._refuse_others()
        self._first_pruning.undo()
        self._resume(masked)
        self._index, self._steps = index, [int(s) for s in state["steps"]]
        self._end.resume(self._steps, over=over)
        if over and not self._masked:
            self._detach()
        elif not self._handles:
            self._attach()
        self._go_on(None)  # what `on_phase_end` has saved is of a phase that is over

    def close(self, *, release: bool = True) -> None:
        """End here: release what is masked from zero and remove the hooks. Harmless when nothing is left.

        What the schedule still had to come is logged as a warning, unless an error is on its way. So is that removed
        weights were written since the last step, as by loading the best checkpoint: they then stay as they are.
        What cannot be released, because its layer has changed under the mask, is logged too.

        Args:
            release: False leaves weights and states as they are.
        """
        if self._seen and sys.exc_info()[0] is None:
            self._end.say()
        self._end.said = True
        self._close(release=release, goes_on=self.phase is not None)
        self._index = len(self.schedule.phases)
        (self._detach_inside_step if self._end.calls else self._detach)()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        self._first_pruning.forget_changed()
        self._end.tell_of_loaded(self._optimizers)
        if self._end.broken and self.phase and not fills_state(self._own(optimizer)):
            self._end.refuse_step(optimizer)
            if self._index + 1 < len(self.schedule.phases):  # the last one ends after a step
                self._go_on(self._on_phase_end)
        return super()._before_step(optimizer, args, kwargs)

    def _stepped(self, optimizer: Optimizer) -> None:
        if not self._hold(optimizer):
            self._first_pruning.done()
            return
        self._first_pruning.forget()
        if self.phase is None:
            return
        self._steps[next(i for i, o in enumerate(self._optimizers) if o is optimizer)] += 1
        self._end.note(self._steps)
        self._go_on(self._on_phase_end)

    def _go_on(self, on_phase_end: Callable[[DSD], None] | None) -> None:
        """Go from each phase that is over to the next."""
        while self.phase and self.step >= self.schedule.ends[self._index]:
            index = self._index
            if on_phase_end:
                self._end.call(on_phase_end, self)
                if self._index != index or self.step < self.schedule.ends[index]:
                    return  # it called close(), or loaded a state that goes on elsewhere
            before, held, then = self.masks, self._masked, self.schedule.phases[index + 1 : index + 2]
            releases = bool(then) and not then[0].is_sparse  # a last sparse phase keeps its masks until close()
            if releases and on_phase_end and written_since(self._masked):
                self._put(None)
            elif then:
                before = self._leave(goes_on=releases)
            self._index += 1
            try:
                self._begin(before)
            except BaseException:
                self._index -= bool(self.phase)  # who goes on is told again, and not left without a mask
                if held and not self._masked:
                    self._put(held)
                    held.begin(resumed=True)
                raise

    def _takes_over(self, other: Controller) -> bool:
        same = {id(o) for o in self._optimizers} & {id(o) for o in other._optimizers}
        if same or not self._resumes or not isinstance(other, DSD):
            return False
        self._replaced.append(other)
        return True

    def _begin(self, previous: Mapping[str, Tensor]) -> None:
        """Put the phase of the current index in force."""
        if self.phase and self.phase.is_sparse:
            self._enter(self.phase, self._index, previous)
        elif self.phase is None and not self._masked:
            self._detach_inside_step()

    def _detach_inside_step(self) -> None:
        # The optimizer is going through its hooks now, and an OrderedDict may only lose its last item meanwhile.
        # If a hook was registered after ours, ours stays and does nothing until close().
        hooks = [o._optimizer_step_post_hooks for o in self._optimizers]  # pyright: ignore[reportPrivateUsage]
        mine = {handle.id for handle in self._handles}
        if all(next(reversed(h), None) in mine for h in hooks):
            self._detach()
