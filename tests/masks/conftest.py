"""What the tests of masks share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "samples"))  # scores and masks that several tests draw
