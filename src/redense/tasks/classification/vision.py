"""torchvision, or which extra has it."""

from __future__ import annotations

from types import ModuleType

import torch

from redense.errors import MissingExtraError
from redense.optional.extras import refuse_folder
from redense.optional.torchvision import make_importable


def torchvision() -> ModuleType:
    """Return torchvision, imported.

    Raises:
        MissingExtraError: it is not installed, or does not fit the installed torch.
    """
    make_importable()
    try:
        import torchvision

        refuse_folder(torchvision)
    except (ImportError, RuntimeError, OSError) as error:
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({' '.join(str(error).split())[:200]})"
        raise MissingExtraError(
            f"this network or these images need a torchvision that fits torch {torch.__version__}{reason}: "
            "pip install 'redense[vision]'"
        ) from error
    return torchvision
