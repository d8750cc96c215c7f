"""Loggers of other packages, by way of Accelerate's trackers: Weights & Biases, MLflow, Trackio.

To add one that Accelerate knows, see `AccelerateLogger`.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.errors import MissingExtraError

from .base import LoggedRun, register_logger
from .offline import Point, offline_points

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

_REFUSED = re.compile(r"[^\w.\- :/]")  # by MLflow, in the name of a metric


class AccelerateLogger:
    """A logger made of one of Accelerate's trackers: ``make`` returns it, the rest is here.

    A class below this one may say how a run is named there (`identity`), how it takes a file (`attach`), which points a
    resumed run has (`points`), and that `make` hands over the settings of a new run (``made_with_settings``).
    """

    skips = False
    made_with_settings = False

    def make(self, run: LoggedRun) -> GeneralTracker:
        """Return the tracker of a run, not yet started; of ``run.identity`` it resumes the run of that name."""
        raise NotImplementedError

    def identity(self) -> str | None:
        """Return what names the run there, so that it can be resumed."""
        return None

    def points(self, run: LoggedRun) -> set[Point] | None:
        """Return the points that the tracker has of a resumed run; None where only its server knows them."""
        return None

    def begin(self, run: LoggedRun) -> str | None:
        """Start the tracker, and hand it the settings of a new run."""
        from accelerate.state import PartialState

        PartialState()  # the trackers ask it which process is the main one
        with _printing_no_result():
            self.tracker: Any = self.make(run)
            if hasattr(self.tracker, "start"):  # older versions start where they are made
                self.tracker.start()
            if run.identity is None and not self.made_with_settings:
                self.tracker.store_init_configuration(dict(run.settings))
            found = None if run.identity is None else self.points(run)
        self.skips, self._points = found is not None, found or set[Point]()
        return self.identity()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers that the run has not yet."""
        new = {name: value for name, value in values.items() if (name, step) not in self._points}
        if new:
            self.tracker.log(new, step=step)

    def attach(self, path: Path) -> None:
        """Do nothing: not every tracker takes files."""

    def _log_artifact(self, library: Any, path: Path, of: str) -> None:
        artifact = library.Artifact(f"{path.stem}-{of}", type=path.stem)
        artifact.add_file(str(path))
        self.tracker.tracker.log_artifact(artifact)

    def close(self) -> None:
        """Wait until everything was sent."""
        with _printing_no_result():
            self.tracker.finish()


def await_another_second(folders: Iterable[str]) -> None:
    """Wait while it is the second that one of the folders is named by: W&B gives each start of a run such a folder.

    A run that is resumed within a second of its start would write into the files of that start.
    """
    names = " ".join(folders)
    while any(time.strftime("%Y%m%d_%H%M%S", now) in names for now in (time.localtime(), time.gmtime())):
        time.sleep(0.02)


@register_logger("wandb")
class WandbLogger(AccelerateLogger):
    """Weights & Biases; offline where ``WANDB_MODE`` says so, with its files in the run folder."""

    needs, made_with_settings = "wandb", True

    def make(self, run: LoggedRun) -> GeneralTracker:
        """Return the tracker; the run has an id of ours, so that a resumed one is known by it."""
        import wandb  # pyright: ignore[reportMissingImports]
        from accelerate.tracking import WandBTracker

        folder = Path(os.environ.get("WANDB_DIR") or str(run.folder))
        if run.identity:
            await_another_second(path.name for path in folder.glob(f"wandb/*run-*-{run.identity}"))
        return WandBTracker(
            os.environ.get("WANDB_PROJECT") or run.project.replace("/", "-"),
            id=run.identity or uuid.uuid4().hex[:12],
            name=run.name,
            group=run.group,
            dir=str(folder),
            resume="allow",
            config=dict(run.settings),
            settings=wandb.Settings(console="off"),  # the terminal is ours
            reinit="create_new",  # whoever calls us may have a run of their own
        )

    def identity(self) -> str | None:
        """Return the run's id."""
        return self.tracker.tracker.id

    def points(self, run: LoggedRun) -> set[Point] | None:
        """Return what earlier starts of the run have left in their files, where W&B is offline.

        Its process keeps up to 15 s in memory, which a SIGKILL loses.
        """
        if not self.tracker.tracker.offline:
            return None
        return offline_points(Path(self.tracker.tracker.dir).parents[1], self.tracker.tracker.id)

    def attach(self, path: Path) -> None:
        """Log the file as an artefact of its own name."""
        import wandb  # pyright: ignore[reportMissingImports]

        self._log_artifact(wandb, path, self.tracker.tracker.id)


@register_logger("mlflow")
class MlflowLogger(AccelerateLogger):
    """MLflow, where ``MLFLOW_TRACKING_URI`` says; the experiment is the project."""

    needs = "mlflow"

    def begin(self, run: LoggedRun) -> str | None:
        """Start the run.

        Raises:
            MissingExtraError: `mlflow-skinny`, which lacks MLflow's own database, and no server or files are named.
        """
        try:
            return super().begin(run)
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"log: mlflow keeps a database here, which needs the package {error.name}: pip install mlflow, or name "
                "a server or files in MLFLOW_TRACKING_URI"
            ) from error

    def make(self, run: LoggedRun) -> GeneralTracker:
        """Return the tracker; MLflow gives the run its id."""
        from accelerate.tracking import MLflowTracker

        tags = {"redense.group": run.group} if run.group else None
        return MLflowTracker(run.project, run_id=run.identity, run_name=run.name, tags=tags)

    def identity(self) -> str | None:
        """Return the run's id."""
        return self.tracker.tracker.info.run_id

    def points(self, run: LoggedRun) -> set[Point]:
        """Return what the server or the files of MLflow have."""
        import mlflow  # pyright: ignore[reportMissingImports]

        client: Any = mlflow.MlflowClient()
        names: list[str] = list(client.get_run(self.identity()).data.metrics)
        return {(name, one.step) for name in names for one in client.get_metric_history(self.identity(), name)}

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers; a character that MLflow refuses in a name becomes a dash."""
        super().log({_REFUSED.sub("-", name): value for name, value in values.items()}, step)

    def attach(self, path: Path) -> None:
        """Log the file as an artifact of the run."""
        self.tracker.log_artifact(str(path))


@register_logger("trackio")
class TrackioLogger(AccelerateLogger):
    """Trackio: a database of this machine, or a Space that ``TRACKIO_SPACE_ID`` names."""

    needs, made_with_settings = "trackio", True

    def make(self, run: LoggedRun) -> GeneralTracker:
        """Return the tracker; a run is known by its name."""
        from accelerate.tracking import TrackioTracker

        self._name = run.identity or run.name
        return TrackioTracker(
            run.project.replace("/", "-"),
            name=self._name,
            group=run.group,
            config=dict(run.settings),
            resume="allow" if run.identity else "never",
            embed=False,
        )

    def identity(self) -> str | None:
        """Return the run's name."""
        return self._name

    def points(self, run: LoggedRun) -> set[Point] | None:
        """Return what the database of this machine has; a Space keeps its own."""
        if any(os.environ.get(name) for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")):
            return None
        import trackio  # pyright: ignore[reportMissingImports]

        rows: list[dict[str, Any]] = trackio.SQLiteStorage.get_logs(self.tracker.run_name, self._name)
        return {(name, row["step"]) for row in rows for name in row}

    def attach(self, path: Path) -> None:
        """Log the file as an artifact of its own name."""
        import trackio  # pyright: ignore[reportMissingImports]

        self._log_artifact(trackio, path, self._name.replace(" ", "-"))


@contextlib.contextmanager
def _printing_no_result() -> Any:
    """Send what a tracker prints to the error output: the output of a verb is its result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
