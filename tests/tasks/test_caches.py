"""What is kept in the cache is shown and can be cleared: no module keeps something beside the list."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

import redense
from redense.tasks import caches
from redense.tasks.caches import CACHES

_KEPT = re.compile(r"cache_dir\(\) / \"(\w+)\"")


def test_every_folder_that_a_module_keeps_in_the_cache_is_one_of_the_caches():
    sources = Path(redense.__file__).parent.rglob("*.py")
    kept = {name for path in sources for name in _KEPT.findall(path.read_text(encoding="utf-8"))}
    assert {"heard", "checked", "features", "spectrograms"} <= kept
    assert kept <= {cache.name for cache in CACHES}


def test_what_is_collected_while_the_caches_are_taken_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Thing:
        pass

    first, second, things = tmp_path / "first", tmp_path / "second", [Thing()]
    monkeypatch.setenv("REDENSE_CACHE", str(first))
    monkeypatch.setattr(caches, "_mutex", threading.Lock())
    monkeypatch.setattr(caches, "_held", {})
    caches.used_by(things[0])
    shared = caches._shared

    def collects(folder: Path):
        things.clear()  # what holds the first folder is finalized here, as garbage is at any moment
        return shared(folder)

    monkeypatch.setattr(caches, "_shared", collects)
    monkeypatch.setenv("REDENSE_CACHE", str(second))
    seen: list[set[Path]] = []

    def use() -> None:
        with caches.used():
            seen.append(set(caches._held))

    user = threading.Thread(target=use, daemon=True)
    user.start()
    user.join(10)
    assert not user.is_alive()
    assert seen == [{second}]
    assert not caches._held
