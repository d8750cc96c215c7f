"""Masks: exact selection of what to prune, applying it, measuring it, packing it to bits."""

from redense.schedules.numeric import check_pattern, check_sparsity

from .applying import apply_, apply_all_, like, sparsity_of
from .packing import pack, unpack
from .selection import check_groups, check_storage, common_dtype, select, select_global, select_pattern

__all__ = [
    "apply_",
    "apply_all_",
    "check_groups",
    "check_pattern",
    "check_sparsity",
    "check_storage",
    "common_dtype",
    "like",
    "pack",
    "select",
    "select_global",
    "select_pattern",
    "sparsity_of",
    "unpack",
]
