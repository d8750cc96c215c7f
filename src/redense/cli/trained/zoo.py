"""The verb of the networks that come with redense."""

from __future__ import annotations

import argparse
from pathlib import Path

from redense.cli.terminal.printing import answer, say
from redense.cli.verbs import Verbs
from redense.errors import RedenseError, command


def register(verbs: Verbs) -> None:
    """Add the verb of this module."""
    about = "list the trained networks that come with redense, or evaluate one and see the figure of its card"
    zoo = verbs.add("zoo", about, _zoo, epilog="the exit code of evaluate is 1 if a figure is not the card's")
    zoo.add_argument("action", nargs="?", choices=("list", "evaluate"), default="list")
    zoo.add_argument("name", nargs="?", help="one of the list")
    zoo.add_argument("--zoo", type=Path, metavar="DIR", help="another zoo than redense's own")
    zoo.add_argument("--json", action="store_true", help="print JSON")


def _zoo(options: argparse.Namespace) -> int:
    if options.action == "evaluate":
        return _evaluate(options)
    if options.name:
        shown = command("redense", "zoo", "evaluate", options.name)
        raise RedenseError(f"list takes no name: {shown} shows its figures")
    from redense.lab.zoo import DSD, default_zoo, entries
    from redense.tasks.metrics import shown_name

    found = entries(options.zoo or default_zoo())
    if options.json:
        rows = [{"name": e.name, "about": e.about, "metric": e.metric.name, **e.figures} for e in found]
        return answer(rows, indent=2)
    for entry in found:
        dense, last = entry.figures["dense"], entry.figures[entry.arm]
        unit = f" {entry.metric.unit}".rstrip()
        figures = f"{shown_name(entry.metric.name)} {dense:.2f} -> {last:.2f}{unit}"
        about = entry.about if entry.arm == DSD else f"{entry.about}; {entry.arm} instead of DSD"
        say(f"{entry.name:<28}{entry.bytes / 1e6:>5.2f} MB  {figures:<26}{about}")
    say(
        "dense -> DSD, or another arm where one is named, one seed each; their cards have the controls: "
        "redense zoo evaluate NAME"
    )
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    if not options.name:
        raise RedenseError("which network? redense zoo evaluate NAME (see redense zoo)")
    from redense.lab.zoo import default_zoo, evaluate, find
    from redense.tasks.metrics import shown_name

    entry = find(options.zoo or default_zoo(), options.name)
    checks = evaluate(entry)
    if options.json:
        answer([{**vars(check), "same": check.same} for check in checks], indent=2)
    else:
        unit = f" {entry.metric.unit}".rstrip()
        for check in checks:
            said = "as its card says" if check.same else f"its card says {check.said:.2f}{unit}"
            say(f"{check.model:<7}test {shown_name(entry.metric.name)} {check.found:.2f}{unit}, {said}")
        say(f"the card: {entry.folder / 'README.md'}")
    return int(not all(check.same for check in checks))
