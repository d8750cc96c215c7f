"""The arms that change more than the schedule: what a user would pick instead of DSD, and the paper's comparisons."""

from __future__ import annotations

from dataclasses import replace

from redense.errors import RecipeError
from redense.lab.training.plan import PlannedPhase
from redense.phase import Decay, Phase
from redense.variants import restarted

from .base import Flow, Setting, arm
from .cards import SPARSE, Card


@arm("distill", "the control, taught by the mean of all seeds' dense models", source="Hinton et al. 2015")
def distill(setting: Setting) -> Flow:
    """An ensemble of the dense seeds teaches; with one seed, the dense model itself."""
    teachers = [setting.dense_key(seed) for seed in setting.seeds] if len(setting.seeds) > 1 else []
    many = 1 if setting.is_given else max(len(teachers), 1)  # of given weights all seeds have the same network
    note = f"teachers: {many} dense models, whose training is not counted here"
    return setting.after_dense("distill", {"teachers": teachers}, note=note)


@arm("svd", "the control, with fully-connected layers cut to 90 % of their energy", source="Denton et al. 2014")
def svd(setting: Setting) -> Flow:
    """Low rank once, after the dense phase; then the control's phases."""
    first, second, *rest = restarted(setting.dsd).phases
    return setting.flow([first, PlannedPhase(second, "lowrank"), *rest], note="fewer parameters")


@arm("dropout", "the control with dropout 0.5; without it, where the recipe has some", source="Srivastava et al. 2014")
def dropout(setting: Setting) -> Flow:
    """Dropout switched, in every phase."""
    if not hasattr(setting.recipe.model, "dropout"):
        raise RecipeError(f"the networks of the task '{setting.recipe.task}' have no model.dropout to switch")
    own = setting.recipe.model.dropout
    rate = 0.0 if own is None or own > 0 else 0.5  # where the recipe says nothing, the network's own is switched off
    recipe = setting.changed(model={"dropout": rate})
    return setting.flow(restarted(setting.dsd), recipe=recipe, note=f"dropout {rate:g} in every phase")


@arm("dropconnect", "the control, dropping half the weights of linear layers in training", source="Wan et al. 2013")
def dropconnect(setting: Setting) -> Flow:
    """DropConnect after the dense phase."""
    return setting.after_dense("dropconnect", {"rate": 0.5})


@arm("swa", "the control, ending with the mean of its weights over the epochs", source="Izmailov et al. 2018")
def swa(setting: Setting) -> Flow:
    """Stochastic weight averaging in the last phase, at a constant learning rate as it needs."""
    first, second, *rest = restarted(setting.dsd).phases
    tail = replace(second, steps=second.steps + sum(phase.steps for phase in rest), name="averaged")
    every = max(1, min(setting.steps_per_epoch, tail.steps // 8))  # a mean of four at least, of a short phase too
    options = {"kind": "swa", "every": every, "start": 0.5, "steps": tail.steps}
    tail = replace(tail, decay=Decay(), lr=tail.lr * 0.5)
    return setting.flow([first, PlannedPhase(tail, "average", options)])


@arm("ema", "the control, ending with a moving average of its weights", source="Polyak and Juditsky 1992")
def ema(setting: Setting) -> Flow:
    """An exponential moving average over the last phase."""
    first, *middle, last = restarted(setting.dsd).phases
    return setting.flow([first, *middle, _averaged(last)])


def _averaged(phase: Phase) -> PlannedPhase:
    decay = 1 - 1 / max(2, phase.steps // 10)
    return PlannedPhase(phase, "average", {"kind": "ema", "decay": round(decay, 6)})


@arm(
    "dsd-ema",
    "DSD, ending with a moving average of its weights",
    source="Polyak and Juditsky 1992",
    masked=True,
    card=Card(
        "`dsd`, ending with an exponential moving average of the weights over about the last tenth of its last phase.",
        SPARSE,
        "Beside `dsd` and `ema`: whether the two add up. `ema` is its control.",
    ),
)
def dsd_ema(setting: Setting) -> Flow:
    """DSD with a moving average over its last phase."""
    *before, last = setting.dsd.phases
    if last.is_sparse:
        raise RecipeError(
            "a moving average of DSD is one over its last dense phase, and the recipe ends with a sparse one"
        )
    return setting.flow([*before, _averaged(last)])


@arm("sam", "the control with SAM for half the steps, as each takes two gradients", source="Foret et al. 2021")
def sam(setting: Setting) -> Flow:
    """SAM after the dense phase; its double cost is counted by halving its steps."""
    first, *rest = restarted(setting.dsd).phases
    halved = [PlannedPhase(replace(phase, steps=max(1, phase.steps // 2)), "sam") for phase in rest]
    return setting.flow([first, *halved], note="half the steps after the dense phase, each with two gradients")


@arm("anneal", "random jumps as large as what pruning would remove, each half the one before", masked=True)
def anneal(setting: Setting) -> Flow:
    """Simulated annealing: the control for "any perturbation would do"."""
    first, second, *rest = restarted(setting.dsd).phases
    half = second.steps // 2
    jumped = [
        PlannedPhase(
            replace(second, steps=steps, name=f"jump-{i + 1}"), "jump", {"sparsity": setting.sparsity, "scale": 0.5**i}
        )
        for i, steps in enumerate(steps for steps in (half, second.steps - half) if steps)
    ]
    return setting.flow([first, *jumped, *rest])


def _released(start: str, where: str) -> None:
    """Declare DSD whose pruned weights restart from other values than zero."""

    @arm(f"release-{start}", f"DSD whose pruned weights restart from {where}", masked=True)
    def make(setting: Setting) -> Flow:
        phases = [PlannedPhase(p, "release", {"start": start}) if p.is_sparse else p for p in setting.dsd.phases]
        return setting.flow(phases)


_released("value", "their value before pruning")
_released("fresh", "a fresh initialisation")
