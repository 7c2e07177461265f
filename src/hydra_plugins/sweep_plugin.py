"""Hydra takes plugins from `hydra_plugins` alone; this is the glue, the work is in `sweep`.

A sweep is validated whole before its first run starts, its runs go side by side, and it ends with its table.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher

from sweep.domain.errors import Refusal

log = logging.getLogger(__name__)


class PlannedSweeper(BasicSweeper):
    """The basic sweeper's grammar and more designs; `hydra/sweeper=basic` gives the original back."""

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        design: str = "product",
        runs: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.design: dict[str, Any] = {"design": design, "runs": runs, "seed": seed}
        self.points: list[Any] = []
        self.known: set[tuple[str, str]] = set()

    def split_arguments(self, overrides: list[Any], max_batch_size: int | None) -> list[list[list[str]]]:
        """The batches of the design's points."""
        from sweep.sweeps.points import designed

        return [*self.split_overrides_to_chunks(designed(overrides, **self.design), max_batch_size)]

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The next batch, the controls that its points ask for among them; refused whole where one can't be run."""
        from sweep.planning.controls import expanded

        points = [tuple(words) for words in super().get_job_batch()]
        batch = list(expanded(points, _composer(self), known=self.known))
        self.points += [config for _, config in batch]
        return [words for words, _ in batch]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """It was composed when it was made; composing it once more would double the wait."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all points, then show what came out; the first failure is raised after that."""
        from sweep.sweeps.closing import close

        try:
            return super().sweep(arguments)
        finally:
            if self.points:
                close(self.points)


class WorkersLauncher(LocalLauncher):
    """Runs side by side in processes of their own; what is done already starts none."""

    def __init__(self, workers: int | None = None) -> None:
        super().__init__()
        if workers is not None and workers < 1:
            raise Refusal(f"hydra.launcher.workers={workers}: must be at least 1, or null for as many as there is room")
        self.workers = workers

    def __call__(self, *arguments: Any) -> JobReturn:
        """One run, in its process."""
        from sweep.launch.local import begin_work

        begin_work()
        return super().__call__(*arguments)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """All runs; the returned outcomes hold the exceptions of what failed."""
        from sweep.launch.local import cores, visible_gpus
        from sweep.planning.plan import launch_order
        from sweep.sweeps.closing import close
        from sweep.sweeps.opening import announce
        from sweep.sweeps.run_folders import expected_folder, is_done
        from sweep.system.ranks import world_size
        from sweep.tracking.background import overlapping_runs

        assert self.config is not None
        points = _typed(self, job_overrides)
        folders = [expected_folder(point) for point in points]
        todo = [i for i, point in enumerate(points) if not is_done(point, folders[i])]
        todo.sort(key=lambda i: launch_order(points[i]))
        gpus = [] if points[0].compute.device == "cpu" else visible_gpus()
        workers = self.workers or len(gpus) or max(1, cores() // points[0].compute.threads)
        announce([points[i] for i in todo])
        if workers == 1 or len(todo) == 1 or world_size() > 1:
            here = BasicLauncher()
            here.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=self.config)
            with overlapping_runs():
                found = dict(zip(todo, here.launch([job_overrides[i] for i in todo], initial_job_idx), strict=True))
        else:
            logs = Path(str(self.config.hydra.sweep.dir)) / ".submitit"
            found = self._launch(job_overrides, todo, folders, workers=workers, gpus=gpus, logs=logs)
        if not planned(self):
            close(points)
        return [found.get(i) or done_before(folder) for i, folder in enumerate(folders)]

    def _launch(
        self,
        job_overrides: Sequence[Sequence[str]],
        todo: list[int],
        folders: list[Path],
        *,
        workers: int,
        gpus: list[str],
        logs: Path,
    ) -> dict[int, JobReturn]:
        if not todo:
            return {}
        from sweep.launch.local import run_all

        log.info("%d runs to do, %d at a time; logs in %s", len(todo), workers, logs)
        state = Singleton.get_state()
        arguments = [(list(job_overrides[i]), "hydra.sweep.dir", i, str(i), state) for i in todo]
        results = run_all(self, arguments, [folders[i] for i in todo], workers=workers, gpus=gpus, logs=logs)
        return {i: _job_return(result) for i, result in zip(todo, results, strict=True)}


def planned(plugin: Any) -> bool:
    """Whether our own sweeper sweeps: it closes the sweep itself, another one doesn't."""
    return str(plugin.config.hydra.sweeper._target_).startswith(PlannedSweeper.__module__)


def done_before(folder: Path) -> JobReturn:
    """The outcome of a run that is there already."""
    from sweep.sweeps.run_folders import objective

    return JobReturn(_return_value=objective(folder), status=JobStatus.COMPLETED)


def _composer(plugin: Any) -> Any:
    from sweep.sweeps.points import Composer

    return Composer(plugin.hydra_context.config_loader, plugin.config)


def _typed(plugin: Any, batch: Sequence[Sequence[str]]) -> list[Any]:
    return [*map(_composer(plugin), batch)]


def _job_return(result: Any) -> JobReturn:
    if isinstance(result, JobReturn):
        return result
    return JobReturn(_return_value=result, status=JobStatus.FAILED)
