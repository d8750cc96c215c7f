"""Masks: exact selection of what to prune, applying it, measuring it, packing it to bits."""

from .selection import (
    apply_,
    apply_all_,
    check_groups,
    check_pattern,
    check_sparsity,
    check_storage,
    common_dtype,
    like,
    pack,
    select,
    select_global,
    select_pattern,
    sparsity_of,
    unpack,
)

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
