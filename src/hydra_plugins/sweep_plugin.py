"""Our sweeper and our local launcher, which Hydra finds because they are in `hydra_plugins`; the work is in `sweep`.

A sweep is validated before its first run starts, its runs go side by side, and it ends with its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf


class PlannedSweeper(Sweeper):
    """The grammar of Hydra's basic sweeper, and more designs; `hydra/sweeper=basic` gives the basic one back."""

    def __init__(self, **params: Any) -> None:
        from sweep.config.launcher import Points, settings

        chosen = settings(Points, plain(params))
        self.max_batch_size, self.params = chosen.max_batch_size, chosen.params or {}
        self.design: dict[str, Any] = {"design": chosen.design, "runs": chosen.runs, "seed": chosen.seed}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Hydra calls this once, before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all runs, then show what came out; the first failure is raised after that."""
        from sweep.sweeps.closing import close

        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        points: list[Any] = []
        try:
            for batch in self._batches(arguments):
                points += batch
                self._launch(batch, len(points) - len(batch))
        finally:
            if points:
                close(points)

    def _launch(self, batch: list[Any], launched: int) -> None:
        """Launch these points; raises the first failure when all have ended."""
        launch_points = getattr(self.launcher, "launch_points", None)  # Hydra may load this module twice: no isinstance
        if launch_points is not None:
            for failure in launch_points(batch).values():
                raise failure
            return
        for result in self.launcher.launch([point.overrides for point in batch], initial_job_idx=launched):
            _ = result.return_value  # raises the failure of a failed run

    def _batches(self, arguments: list[str]) -> Iterator[list[Any]]:
        """The points, `max_batch_size` of the design at a time and the controls they ask for.

        Each batch is validated before it is launched.
        """
        from sweep.planning.controls import expanded
        from sweep.sweeps.asking import Questions
        from sweep.sweeps.override_errors import parsed
        from sweep.sweeps.points import designed

        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = parsed(self.hydra_context.config_loader, words)
        points = [tuple(point) for point in designed(overrides, **self.design)]
        known: set[tuple[str, str]] = set()
        asked = Questions()
        compose, size = composer(self), self.max_batch_size or max(1, len(points))
        for first in range(0, len(points), size):
            batch = list(expanded(points[first : first + size], compose, known=known))
            asked.record(batch)
            yield batch


class PointsLauncher(Launcher):
    """A launcher of ours: our sweeper gives it points, and any other sweeper the overrides of each run."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Hydra calls this once, before `launch`; what a run does is ours already."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Do all runs and show their table; their objectives, or the exceptions of those that failed."""
        from sweep.planning.controls import Point
        from sweep.planning.names import run_key
        from sweep.sweeps.closing import close
        from sweep.sweeps.run_folders import folder_of, objective

        compose = composer(self)
        points = [
            Point(tuple(words), config, run_key(config))
            for words, config in ((words, compose(words)) for words in job_overrides)
        ]
        failures = self.launch_points(points)
        close(points)
        return [
            job_return(failures[i], JobStatus.FAILED)
            if i in failures
            else job_return(objective(folder_of(point.place)), JobStatus.COMPLETED)
            for i, point in enumerate(points)
        ]

    def launch_points(self, points: Sequence[Any]) -> dict[int, BaseException]:
        """Do all runs; returns, for the number of each point that is not done, the exception that says why."""
        raise NotImplementedError


class WorkersLauncher(PointsLauncher):
    """Launches workers on this machine, which do the runs that are not done."""

    def __init__(self, **params: Any) -> None:
        from sweep.config.launcher import Workers, settings

        self.workers = settings(Workers, plain(params)).workers

    def launch_points(self, points: Sequence[Any]) -> dict[int, BaseException]:
        """Do all runs; returns, for the number of each point that is not done, the exception that says why."""
        from sweep.domain.errors import Refusal
        from sweep.sweeps.local import do_all
        from sweep.sweeps.opening import announce, queued
        from sweep.sweeps.run_folders import is_finished, why_unfinished

        queue = queued(points, commander(self))
        announce({run.folder: run.config for run in queue.runs})
        logs = Path(str(self.config.hydra.sweep.dir)) / ".submitit"
        errors = do_all(queue, workers=self.workers, logs=logs) if queue.runs else {}
        failures: dict[int, BaseException] = {}
        for i, run in enumerate(queue.runs):
            if not is_finished(run.key, run.folder):
                why = (
                    f"{run.folder.name}: {errors.get(i) or why_unfinished(run.folder)}; log {run.folder / 'sweep.log'}"
                )
                error = errors.get(i)
                failures[run.point] = error if isinstance(error, Refusal) else SystemExit(why)
        return failures


def job_return(value: Any, status: JobStatus) -> JobReturn:
    """What Hydra gets of a run: its objective, or its exception."""
    result = JobReturn(status=status)
    result.return_value = value
    return result


def commander(plugin: Any) -> Any:
    """What turns the overrides of a run into the command that repeats it."""
    from sweep.commands.main import CONF

    compose = composer(plugin)
    return lambda words: compose.command(words, CONF)


def composer(plugin: Any) -> Any:
    """What turns the overrides of a run into its validated configuration."""
    from sweep.sweeps.points import Composer

    return Composer(plugin.hydra_context.config_loader, plugin.config)


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """The settings that Hydra gives a plugin, without containers of Hydra's."""
    return {
        name: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for name, v in params.items()
    }
