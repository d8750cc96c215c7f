"""The public names: few, documented, and loaded only when used."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import redense
from redense import errors


def test_the_public_names_are_these():
    assert sorted(redense.__all__) == [
        "DSD",
        "Decay",
        "Phase",
        "RedenseError",
        "Schedule",
        "Summary",
        "Surgery",
        "compare",
        "criterion",
        "judge",
        "load",
        "prunable",
        "scale_lr",
        "search",
        "sensitivity",
        "sparse",
        "summary",
        "tune",
    ]
    assert set(redense.__all__) <= set(dir(redense))


def test_the_variants_of_a_schedule_are_there_after_import_redense():
    schedule = redense.Schedule.dsd(dense=4, sparse=2, redense=2, sparsity=0.5)
    assert [phase.kind for phase in redense.variants.restarted(schedule).phases] == ["dense"] * 3
    assert "variants" in dir(redense)


@pytest.mark.parametrize("name", redense.__all__)
def test_every_public_name_loads_and_is_documented(name: str):
    if vars(redense)["_HOME"][name].startswith(("lab.", "report.")):
        pytest.importorskip("pydantic", reason="the extra lab is not installed")
    value = getattr(redense, name)
    assert value.__module__.startswith("redense.")
    assert inspect.getdoc(value)
    for member, method in inspect.getmembers(value, inspect.isroutine):
        if not member.startswith("_") and getattr(method, "__module__", "").startswith("redense."):
            assert inspect.getdoc(method), f"{name}.{member}"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'redense' has no attribute 'spares'"):
        redense.spares  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_redense_imports_no_torch():
    script = "import sys, redense; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False"]


def test_every_error_is_a_redense_error_and_also_the_builtin_one_would_expect():
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, Exception)]
    classes.remove(errors.LeftDenseWarning)
    assert len(classes) == 15
    for cls in classes:
        assert issubclass(cls, errors.RedenseError)
        assert cls is errors.RedenseError or len(cls.__bases__) == 2, cls
        assert inspect.getdoc(cls)


def test_nearest_says_nothing_when_nothing_is_near():
    assert errors.nearest("sparisty", ["steps", "sparsity"]) == "; did you mean 'sparsity'?"
    assert errors.nearest("xyz", ["steps", "sparsity"]) == ""
    long = "x" * 300_000  # difflib would compare for minutes
    assert errors.nearest(long, ["xx", long]) == errors.nearest("steps", [long]) == ""
    assert errors.nearest("x", []) == ""
