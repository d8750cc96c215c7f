"""The precision that a machine trains fastest in: the meaning of ``training.precision: auto``."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "bf16"]

_CUDA_WITH_BF16 = (8, 0)  # compute capability of the first tensor cores that multiply it


def fastest_precision() -> Precision:
    """Return ``bf16`` where the machine multiplies it in units of its own: CUDA from 8.0 on, a processor with AMX.

    Not where a processor has AVX-512's bf16 instructions alone, or none: there the quickstart is slower than in fp32
    (docs/performance.md). It looks at the hardware and measures nothing, so that equal machines always decide alike.
    """
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.get_device_capability() >= _CUDA_WITH_BF16 else "fp32"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if capabilities.get("amx_bf16") else "fp32"
