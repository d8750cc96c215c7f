"""The arms that are a schedule, or the recipe's own schedule with one thing about its masks changed."""

from __future__ import annotations

from ... import variants
from ..plan import PlannedPhase
from .base import RATE, Flow, Knob, Setting, arm, rescaled


@arm("dsd", "dense, sparse, dense again with the pruned weights restarted from zero", masked=True)
def dsd(setting: Setting) -> Flow:
    """The recipe itself."""
    return setting.flow(setting.dsd)


@arm("dsd-iter", "two cycles of DSD in the same steps, the second at half the sparsity", masked=True)
def dsd_iter(setting: Setting) -> Flow:
    """Iterated DSD, with falling sparsity."""
    return setting.flow(variants.iterated(setting.dsd))


@arm("dsd-iter3", "three cycles of DSD in the same steps, each at half the sparsity before", masked=True)
def dsd_iter3(setting: Setting) -> Flow:
    """DSD iterated three times, with falling sparsity."""
    return setting.flow(variants.iterated(setting.dsd, cycles=3))


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


@arm("restart", "DSD's steps and learning rates, no mask: the first control", source="our own control", knob=RATE)
def restart(setting: Setting) -> Flow:
    """The equal-budget control; its knob is the rate after the dense phase."""
    return setting.flow(rescaled(variants.restarted(setting.dsd), setting.tuned or 1.0, start=1))


_LOWER = Knob("lr", (0.1, 0.3, 0.03, 0.5, 0.01, 0.2, 0.05, 1.0))


@arm("llr", "dense, then dense at a tenth of the learning rate: the paper's own control", knob=_LOWER)
def llr(setting: Setting) -> Flow:
    """Lower learning rate."""
    return setting.flow(variants.lowered(setting.dsd, lr=setting.tuned or _LOWER.values[0]))


@arm("longer", "one dense phase over the whole budget, its schedule stretched", source="our own control", knob=RATE)
def longer(setting: Setting) -> Flow:
    """What most people would do with the budget."""
    return setting.flow(rescaled(variants.lengthened(setting.dsd), setting.tuned or 1.0))


@arm("random", "DSD that prunes at random instead of by magnitude", masked=True)
def random(setting: Setting) -> Flow:
    """Random-Cut."""
    return setting.flow(variants.at_random(setting.dsd))


@arm("early", "DSD that prunes half-way through the dense phase, at the rate it has there", masked=True)
def early(setting: Setting) -> Flow:
    """Early pruning, at half of the dense phase."""
    return setting.flow(variants.earlier(setting.dsd))


@arm("early-quarter", "DSD that prunes after a quarter of the dense phase, at the rate it has there", masked=True)
def early_quarter(setting: Setting) -> Flow:
    """Early pruning, at a quarter of the dense phase."""
    return setting.flow(variants.earlier(setting.dsd, cut=0.25))


@arm("scratch", "a new network, sparse from its first step, with the mask of the trained one", masked=True)
def scratch(setting: Setting) -> Flow:
    """Sparse from scratch, as the paper did it."""
    dense, new = variants.transplanted(setting.dsd).phases
    return setting.flow([dense, PlannedPhase(new, "anew")])


@arm("scratch-own", "sparse from the first step to the last, with a mask of its own first weights", masked=True)
def scratch_own(setting: Setting) -> Flow:
    """Sparse from scratch, with nothing learned from a trained network."""
    return setting.flow(variants.from_scratch(setting.dsd))


@arm("prune", "rising sparsity, never dense again", source="Han et al. 2015", masked=True)
def prune(setting: Setting) -> Flow:
    """Iterative pruning."""
    return setting.flow(variants.pruned(setting.dsd))


@arm("surgery", "a mask that is revised while it trains, never dense again", source="Guo et al. 2016", masked=True)
def surgery(setting: Setting) -> Flow:
    """Dynamic network surgery."""
    return setting.flow(variants.under_surgery(setting.dsd))


@arm("acdc", "short sparse and dense phases in turn, under a global mask", source="Peste et al. 2021", masked=True)
def acdc(setting: Setting) -> Flow:
    """AC/DC."""
    return setting.flow(variants.alternating(setting.dsd))
