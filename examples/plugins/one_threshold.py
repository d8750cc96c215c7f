"""An arm of one's own: DSD under one threshold for all layers, instead of the same share of each.

REDENSE_PLUGINS=examples/plugins/one_threshold.py redense compare quickstart --arms dsd,restart,one-threshold
"""

from dataclasses import replace

from redense.lab.arms import Flow, Setting, arm


@arm("one-threshold", "DSD under one threshold for all layers", source="our own", masked=True)
def one_threshold(setting: Setting) -> Flow:
    """Return DSD's phases, the sparse ones with a global scope."""
    return setting.flow([replace(phase, scope="global") if phase.is_sparse else phase for phase in setting.dsd.phases])
