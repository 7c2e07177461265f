"""Our sweeper and our local launcher, which Hydra finds because they are in `hydra_plugins`; the work is in `sweep`.

A sweep is validated before its first run starts, its runs go side by side, and it ends with its table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.sweeper import Sweeper
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher
from omegaconf import OmegaConf, open_dict

log = logging.getLogger(__name__)


class PlannedSweeper(Sweeper):
    """The grammar of Hydra's basic sweeper, and more designs; `hydra/sweeper=basic` gives the basic one back."""

    def __init__(self, **params: Any) -> None:
        from sweep.config.launcher import Points, settings

        chosen = settings(Points, plain(params))
        self.max_batch_size, self.params = chosen.max_batch_size, chosen.params or {}
        self.design: dict[str, Any] = {"design": chosen.design, "runs": chosen.runs, "seed": chosen.seed}
        self.configs: list[Any] = []

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
        returns: list[Sequence[JobReturn]] = []
        try:
            for batch in self._batches(arguments):
                results = self.launcher.launch(batch, initial_job_idx=sum(map(len, returns)))
                for result in results:
                    _ = result.return_value  # raises the failure of a failed run
                returns.append(results)
            return returns
        finally:
            if self.configs:
                close(self.configs)

    def _batches(self, arguments: list[str]) -> Iterator[list[tuple[str, ...]]]:
        """The overrides of each run, `max_batch_size` points of the design at a time and the controls they ask for.

        Each batch is validated before it is launched.
        """
        from sweep.planning.controls import expanded
        from sweep.sweeps.override_errors import parsed
        from sweep.sweeps.points import designed
        from sweep.sweeps.questions import record_questions

        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = parsed(self.hydra_context.config_loader, words)
        points = [tuple(point) for point in designed(overrides, **self.design)]
        known: set[tuple[str, str]] = set()
        size = self.max_batch_size or max(1, len(points))
        for first in range(0, len(points), size):
            batch = list(expanded(points[first : first + size], composer(self), known=known))
            self.configs += [config for _, config in batch]
            record_questions(self.configs)
            yield [tuple(overrides) for overrides, _ in batch]


class WorkersLauncher(LocalLauncher):
    """Launches runs side by side, each in a process of its own; runs that are done are skipped."""

    def __init__(self, **params: Any) -> None:
        from sweep.config.launcher import Workers, settings

        super().__init__()
        self.workers = settings(Workers, plain(params)).workers

    def __call__(self, *arguments: Any) -> JobReturn:
        """Do one run, in its own process."""
        from sweep.launch.local import begin_work

        begin_work()
        return super().__call__(*arguments)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Do all runs; their results, or the exceptions of those that failed."""
        from sweep.launch.local import cores, visible_gpus
        from sweep.planning.names import run_identity
        from sweep.planning.plan import launch_order
        from sweep.sweeps.closing import close
        from sweep.sweeps.opening import announce
        from sweep.sweeps.run_folders import expected_folder, is_done
        from sweep.system.ranks import world_size

        configs = [*map(composer(self), job_overrides)]
        folders = [expected_folder(run_identity(config)) for config in configs]
        todo = [i for i, config in enumerate(configs) if not is_done(config, folders[i])]
        todo.sort(key=lambda i: launch_order(configs[i]))
        gpus = [] if configs[0].compute.device == "cpu" else visible_gpus()
        workers = self.workers or len(gpus) or max(1, cores() // configs[0].compute.threads)
        announce([configs[i] for i in todo])
        if workers == 1 or len(todo) == 1 or world_size() > 1:
            results = self._one_by_one(job_overrides, todo, initial_job_idx)
        else:
            results = self._side_by_side(job_overrides, todo, folders, workers=workers, gpus=gpus)
        if not sweeper_is_ours(self):
            close(configs)
        return [results.get(i) or result_of_done(folder) for i, folder in enumerate(folders)]

    def _one_by_one(
        self, job_overrides: Sequence[Sequence[str]], todo: list[int], initial_job_idx: int
    ) -> dict[int, JobReturn]:
        """In this process, as Hydra's basic launcher does it."""
        from sweep.tracking.background import overlapping_runs

        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        setup_globals()
        hydra, results = self.config.hydra, {}
        configure_log(hydra.hydra_logging, hydra.verbose)
        Path(str(hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        with overlapping_runs():
            for number, i in enumerate(todo, initial_job_idx):
                config = self.hydra_context.config_loader.load_sweep_config(self.config, list(job_overrides[i]))
                with open_dict(config):
                    config.hydra.job.id = config.hydra.job.num = number
                results[i] = run_job(
                    task_function=self.task_function,
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                    hydra_context=self.hydra_context,
                )
                configure_log(hydra.hydra_logging, hydra.verbose)
        return results

    def _side_by_side(
        self,
        job_overrides: Sequence[Sequence[str]],
        todo: list[int],
        folders: list[Path],
        *,
        workers: int,
        gpus: list[str],
    ) -> dict[int, JobReturn]:
        """In processes of their own, `workers` at a time."""
        if not todo:
            return {}
        from sweep.launch.local import run_all

        assert self.config is not None
        logs = Path(str(self.config.hydra.sweep.dir)) / ".submitit"
        log.info("%d runs to do, %d at a time; logs in %s", len(todo), workers, logs)
        arguments = [job_arguments(job_overrides, i) for i in todo]
        results = run_all(self, arguments, [folders[i] for i in todo], workers=workers, gpus=gpus, logs=logs)
        return {
            i: result if isinstance(result, JobReturn) else job_return(result, JobStatus.FAILED)
            for i, result in zip(todo, results, strict=True)
        }


def job_arguments(job_overrides: Sequence[Sequence[str]], i: int) -> tuple[Any, ...]:
    """What the job of run `i` passes to its launcher's `__call__`."""
    return list(job_overrides[i]), "hydra.sweep.dir", i, str(i), Singleton.get_state()


def job_return(value: Any, status: JobStatus) -> JobReturn:
    """What Hydra gets of a run: its objective, or its exception."""
    result = JobReturn(status=status)
    result.return_value = value
    return result


def result_of_done(folder: Path) -> JobReturn:
    """The result of a run that was finished before."""
    from sweep.sweeps.run_folders import objective

    return job_return(objective(folder), JobStatus.COMPLETED)


def sweeper_is_ours(launcher: Any) -> bool:
    """Whether PlannedSweeper sweeps, which shows the closing table; with another sweeper the launcher does."""
    return str(launcher.config.hydra.sweeper._target_).startswith(PlannedSweeper.__module__)


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """The settings that Hydra gives a plugin, without containers of Hydra's."""
    return {
        name: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for name, v in params.items()
    }


def composer(plugin: Any) -> Any:
    """What turns the overrides of a run into its validated configuration."""
    from sweep.sweeps.points import Composer

    return Composer(plugin.hydra_context.config_loader, plugin.config)
