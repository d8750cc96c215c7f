"""What is kept in the cache is shown and can be cleared: no module keeps something beside the list."""

from __future__ import annotations

import re
from pathlib import Path

import redense
from redense.tasks.caches import CACHES

_KEPT = re.compile(r"cache_dir\(\) / \"(\w+)\"")


def test_every_folder_that_a_module_keeps_in_the_cache_is_one_of_the_caches():
    sources = Path(redense.__file__).parent.rglob("*.py")
    kept = {name for path in sources for name in _KEPT.findall(path.read_text(encoding="utf-8"))}
    assert {"heard", "checked", "features", "spectrograms"} <= kept
    assert kept <= {cache.name for cache in CACHES}
