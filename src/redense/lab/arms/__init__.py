"""Arms: what a comparison can set beside each other. Each is declared in one place, in one short function.

A new arm is a module in this folder, or a plugin of yours (`redense.plugins`), with a function like:

    @arm("restart", "DSD's steps and learning rates, no mask: the control that matters")
    def restart(setting: Setting) -> Flow:
        return setting.flow(restarted(setting.dsd))
"""

from . import schedules, techniques
from .base import ARMS, Arm, Flow, Setting, arm, card_of, get_arms
from .cards import Card, Paper

__all__ = [
    "ARMS",
    "Arm",
    "Card",
    "Flow",
    "Paper",
    "Setting",
    "arm",
    "card_of",
    "get_arms",
    "schedules",
    "techniques",
]
