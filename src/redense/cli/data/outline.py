"""The plan of a recipe on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redense.lab.runs.outline import Outline
    from redense.parameters import Row

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def print_outline(made: Outline) -> None:
    """Print what a recipe would train, its phases, its layers, and the time if it was measured."""
    from redense.cli.terminal.screen import SafeConsole, plain_table
    from redense.lab.arms.of_recipe import about
    from redense.lab.headings import heading_of

    console = SafeConsole()
    recipe, training = made.recipe, made.recipe.training
    console.print_titled(heading_of(recipe.name, recipe.about), recipe.about)
    console.print(f"data       {made.facts.text}{'' if made.facts.looked_at else ' (not looked at)'}", soft_wrap=True)
    share = made.prunable / made.parameters if made.parameters else 0.0
    console.print(f"network    {recipe.model.name}, {made.parameters:,} weights, {share:.1%} of them can be pruned")
    settings = [f"lr {training.optimizer.lr:g}", f"weight decay {training.optimizer.weight_decay:g}"]
    if training.optimizer.momentum:
        settings.insert(1, f"momentum {training.optimizer.momentum:g}{', Nesterov' * training.optimizer.nesterov}")
    batch = training.batch_size * training.accumulate
    console.print(f"optimizer  {training.optimizer.name}, {', '.join(settings)}, batch {batch}", soft_wrap=True)
    if recipe.start:
        how = "the first dense phase trains from it" if recipe.tune else "stands in place of the first dense phase"
        console.print(f"start      {recipe.start}: {how}", soft_wrap=True)
    if recipe.arm:
        console.print(f"arm        {recipe.arm}: {about(recipe.arm)}", soft_wrap=True)
    for note in made.notes:
        console.print(f"note       {note}", soft_wrap=True)
    phases = plain_table("phase", "sparsity", "epochs", "lr", "steps", last="decay")
    plain = made.to_dict()
    for phase in plain["phases"]:
        sparsity = f"{100 * phase['sparsity']:g} %"
        epochs, lr = f"{phase['epochs']:g}", f"{phase['lr']:g}"
        if not phase["steps"]:
            epochs, lr = "joined" if phase.get("joins") else "given", ""
        how = (
            phase["decay"] if phase["allocation"] == "uniform" else f"{phase['decay']}; shared by {phase['allocation']}"
        )
        phases.add_row(phase["name"], sparsity, epochs, lr, f"{phase['steps']:,}", how)
    console.print("", phases, f"{made.steps:,} optimizer steps, {made.steps_per_epoch:,} an epoch", sep="\n")
    layers = plain_table("layer", "shape", "weights", "sparsity", last="why")
    for row in _large(made.rows):
        sparse = [made.of_layer(planned, row) for planned in made.phases if planned.phase.is_sparse]
        told = ("chosen then" if share is None else f"{100 * share:g} %" for share in sparse)
        shown = ", ".join(told) if row.prunable or any(sparse) else "-"
        layers.add_row(row.name, " x ".join(map(str, row.shape)), f"{row.weights:,}", shown, row.reason)
    others = len(made.rows) - len(_large(made.rows))
    console.print("", layers, f"and {others} biases and normalisations, never pruned" if others else "", sep="\n")
    if made.seconds is not None:
        measured = made.measured
        console.print(
            f"estimated  {_duration(made.seconds)} of training: {measured['examples_per_second']:g} examples a second "
            f"over {measured['steps']} steps of {measured['batch_size']} random examples, on {measured['hardware']}. "
            "Reading the data and evaluation come on top.",
            soft_wrap=True,
        )


def _large(rows: tuple[Row, ...]) -> list[Row]:
    return [row for row in rows if row.prunable or row.reason not in ("a bias", "a normalisation")]


def _duration(seconds: float) -> str:
    for size, unit in ((_DAY, "days"), (_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
