"""The verb that looks at the machine."""

from __future__ import annotations

import argparse

from .terminal.printing import answer
from .verbs import Verbs

_MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]--[/]", "problem": "[red]!![/]"}


def register(verbs: Verbs) -> None:
    """Add the verb of this module."""
    about = "say what is on this machine: versions, devices, extras, data, and what would not work"
    doctor = verbs.add("doctor", about, _doctor, epilog="the exit code is 1 if something would fail")
    doctor.add_argument("--json", action="store_true", help="print JSON, for an issue or a program")


def _doctor(options: argparse.Namespace) -> int:
    from redense.lab.doctor import examine, to_dict

    findings = examine()
    problems = [finding for finding in findings if finding.state == "problem"]
    if options.json:
        answer(to_dict(findings), indent=2)
        return int(bool(problems))
    from rich.markup import escape

    from .terminal.screen import SafeConsole

    console = SafeConsole(soft_wrap=True, markup=True)
    group, width = "", max(len(finding.what) for finding in findings)
    for finding in findings:
        if finding.group != group:
            group = finding.group
            console.print(f"[bold]{group}[/]")
        cure = f"  -> {finding.cure}" if finding.cure else ""
        console.print(f"  {_MARKS[finding.state]} {finding.what:<{width}}  {escape(finding.said)}{escape(cure)}")
    count = len(problems)
    console.print(f"{count} {'thing' if count == 1 else 'things'} would fail" if count else "nothing would fail")
    return int(bool(problems))
