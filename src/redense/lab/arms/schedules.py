"""The arms that are a schedule, or the recipe's own schedule with one thing about its masks changed."""

from __future__ import annotations

from redense import variants
from redense.lab.pairs.named import LOWER, NAMED, rescaled
from redense.lab.training.plan import PlannedPhase

from .base import RATE, Flow, Knob, Setting, arm


def _scheduled(name: str) -> None:
    """Declare an arm that is a schedule and nothing more."""
    own = NAMED[name]
    arm(name, own.about, source=own.source, masked=own.masked)(lambda setting: setting.flow(own.make(setting.dsd)))


_scheduled("dsd")
_scheduled("dsd-iter")
_scheduled("dsd-iter3")


@arm("dsd-sensitivity", "DSD whose sparsity is shared over the layers by a sensitivity scan", masked=True)
def dsd_sensitivity(setting: Setting) -> Flow:
    """Per-layer sparsity from the validation loss of each layer pruned alone (the paper's v1)."""
    return setting.flow(setting.dsd, allocation="sensitivity")


@arm(
    "dsd-erk",
    "DSD whose sparsity is shared over the layers by their shapes (Erdos-Renyi-Kernel)",
    source="Evci et al. 2020",
    masked=True,
)
def dsd_erk(setting: Setting) -> Flow:
    """Per-layer sparsity by shape."""
    return setting.flow(setting.dsd, allocation="erk")


@arm("dsd-first", "DSD that prunes the first convolution too, which the paper never does", masked=True)
def dsd_first(setting: Setting) -> Flow:
    """The first layer pruned like the others."""
    return setting.flow(setting.dsd, recipe=setting.changed(prune={"first_layer": True}))


@arm("dsd-momentum", "DSD whose pruned weights keep their momentum, and move at once when released", masked=True)
def dsd_momentum(setting: Setting) -> Flow:
    """The optimizer's state under the mask is kept instead of cleared."""
    return setting.flow([PlannedPhase(p, "momentum") if p.is_sparse else p for p in setting.dsd.phases])


@arm("restart", NAMED["restart"].about, source=NAMED["restart"].source, knob=RATE)
def restart(setting: Setting) -> Flow:
    """The equal-budget control; its knob is the rate after the dense phase."""
    return setting.flow(rescaled(variants.restarted(setting.dsd), setting.tuned or 1.0, start=1))


_LOWER = Knob("lr", LOWER)


@arm("llr", NAMED["llr"].about, knob=_LOWER)
def llr(setting: Setting) -> Flow:
    """Lower learning rate."""
    return setting.flow(variants.lowered(setting.dsd, lr=setting.tuned or _LOWER.values[0]))


@arm("longer", NAMED["longer"].about, source=NAMED["longer"].source, knob=RATE)
def longer(setting: Setting) -> Flow:
    """Train one dense phase over the whole budget, as most people would."""
    return setting.flow(rescaled(variants.lengthened(setting.dsd), setting.tuned or 1.0))


_scheduled("random")
_scheduled("early")
_scheduled("early-quarter")


@arm("scratch", "a new network, sparse from its first step, with the mask of the trained one", masked=True)
def scratch(setting: Setting) -> Flow:
    """Sparse from scratch, as the paper did it."""
    dense, new = variants.transplanted(setting.dsd).phases
    return setting.flow([dense, PlannedPhase(new, "anew")])


_scheduled("scratch-own")
_scheduled("prune")
_scheduled("surgery")
_scheduled("acdc")
