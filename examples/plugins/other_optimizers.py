"""Arms of one's own: another optimizer, or another learning rate, in every phase.

REDENSE_PLUGINS=examples/plugins/other_optimizers.py redense compare emoji/neuraltalk --arms dsd,restart,adamw-0.003
"""

from redense.lab.arms import Flow, Setting, arm
from redense.variants import restarted

RATES = {"rmsprop": (0.0003, 0.003, 0.01), "adamw": (0.0003, 0.001, 0.003, 0.01), "muon": (0.005, 0.05)}


def optimized(name: str, rate: float) -> None:
    """Register the arm that trains as `restart` does, with an optimizer at a first learning rate."""

    @arm(f"{name}-{rate:g}", f"the control trained with {name} at rate {rate:g} in every phase", source="our own")
    def make(setting: Setting) -> Flow:
        own = setting.recipe.training.optimizer
        if name == own.name:
            values = {**own.model_dump(), "lr": rate}
        else:
            values = {"name": name, "lr": rate, "weight_decay": own.weight_decay}
        recipe = setting.changed(training={"optimizer": values})
        return setting.flow(restarted(setting.dsd), recipe=recipe, note=f"{name} at rate {rate:g} in every phase")


for name, rates in RATES.items():
    for rate in rates:
        optimized(name, rate)
