"""A slip in an override is refused in one line that names it, however Hydra or OmegaConf fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sweep.commands.main import CONF, explain
from sweep.commands.preview import points
from sweep.sweeps.hydra_settings import FIXED

FILE = Path(__file__)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["anneal.steps=[1,2"], "anneal.steps=[1,2: the bracket [ is not closed"),
        (["data.paths=[/my/*.npy"], "the bracket [ is not closed"),
        (["name='x"], "name='x: the quote ' is not closed"),
        (["name=${"], "name=${: the bracket { is not closed"),
        (["anneal.steps=20,"], "anneal.steps=20,: a value is missing after the last comma"),
        (["data.root=/scratch/run#3"], "'#' can't stand here: text with such characters needs quotes"),
        (["name=<b>"], "name=<b>: '<' can't stand here: .*'name=\"<b>\"'"),
        (["name=üx"], "name=üx: 'ü' can't stand here"),
        (["name=a\udcff"], r"name=a\udcff"),
        (["na\0me=1"], "a key has letters, digits"),
        (["checkpoint.path=~/ck"], "~ is a folder only for the shell"),
        (["anneal.steps = 3"], "no blank before the ="),
        (["anneal.steps"], "an override is written key=value"),
        ([""], "an override is written key=value"),
        (["="], "an override is written key=value"),
        (["anneal=1"], "anneal=1: '1' is not one of constant, decay"),
        (["anneal=null"], "anneal=null: 'null' is not one of constant"),
        (["anneal=[decay,none]"], "takes one option, and no list"),
        (["tasks=null"], "tasks=null: 'null' is not one of basic-skills"),
        (["tasks=[[core8]]"], "is not one of basic-skills"),
        (["tasks=[core8,core8]"], "has core8 twice"),
        (["model=tiny-xl"], "did you mean tiny-l"),
        (["model=tiny-s,tiny-xl"], "did you mean tiny-l"),
        (["model=glob(nosuch*)"], "model=glob(nosuch*): none of"),
        (["hydra/launcher=slurn"], "did you mean slurm"),
        (["modle=tiny-s"], "did you mean model"),
        (["~modle"], "~modle"),
        (["a@b=c"], "a@b=c"),
        (["anneal@data=decay"], "anneal@data"),
        (["data.root=${oc.env:NOSUCH}"], "data.root: .*'NOSUCH' not found"),
        (["name=${nosuch}"], "name: .*'nosuch' not found"),
        (["name=${name}"], "name: Recursive interpolation"),
        (["controls=3"], "controls=3: must be all, or a list of none"),
        (["+data.sources.x={foo: 1}"], "data.sources.x.foo=1: 'foo' is not one of paths, weight"),
        (["tasks=custom", "tasks.suites.custom.metrics={mine: acc}"], "+tasks.suites.custom.metrics.mine=… adds it"),
        (["seed=range(1,0)"], "seed=range(1,0): has no value"),
        (["seed=range(1,9,0)"], "a step that is not 0"),
        (["seed=range(0,10000000000)"], "has more than 100000 values"),
        (["seed=range(0,1000)", "anneal.steps=range(1,1001)"], "1000000 points"),
        (["seed=choice()"], "seed=choice(): empty choice"),
        (["seed=nosuch(1)"], "Unknown function 'nosuch'"),
        (["hydra.sweeper.runs=abc"], "hydra.sweeper.runs=abc: must be a whole number"),
        (["hydra.sweeper.params=abc"], "hydra.sweeper.params=abc: must be {NAME: value}"),
        (["hydra.launcher=null"], "hydra.launcher=None: give hydra/launcher=OPTION"),
        (["hydra.launcher.workers=abc"], "hydra.launcher.workers=abc: must be a whole number"),
        (["hydra.mode=x"], "hydra.mode: Invalid value"),
        (["hydra.run.dir=x"], "hydra.run.dir=x: not for changing"),
        (["++hydra.sweep.subdir=x"], "hydra.sweep.subdir=x: not for changing"),
        (["hydra.job.num=7"], "hydra.job.num=7: not for changing"),
        (["hydra.sweeper.params={hydra.sweep.dir: x}"], "hydra.sweep.dir=x: not for changing"),
        (["+files={a: [1,2]}"], "files: the files that the choices name are found"),
        (["name=" + "x" * 300], "has 300 bytes: at most 255 are allowed"),
    ],
)  # fmt: skip
def test_it_is_one_line_in_words(words: list[str], complaint: str) -> None:
    with pytest.raises(Exception) as failure:  # noqa: PT011 (what Hydra raises is what is asked for here)
        points(words)
    said = explain(failure.value)
    assert said is not None, "a traceback"
    assert said.startswith("refused: ")
    assert all(part in said for part in complaint.split(".*"))
    assert said.isprintable() or "data.sources" in said, "one line, all of it seen"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["tasks.include=/nowhere"], "tasks.include=/nowhere is not a folder"),
        (["data.heldout=/nowhere"], "data.heldout=/nowhere: there is no file /nowhere"),
        (["data=local", "data.paths=[/nowhere.npy]"], "data.paths=/nowhere.npy: there is no file"),
        (["data=local", "data.paths=[/nowhere/*.npy]"], "data.paths=/nowhere/*.npy matches no file"),
        (["data.root=/nowhere"], "data.root=/nowhere is not a folder"),
        (["model=local", "checkpoint.path=/nowhere"], "checkpoint.path=/nowhere: "),
        (["data=mixture", "+data.sources.x={paths: [/nowhere], weight: 1}"], "data.sources.x.paths=/nowhere: "),
        (["data=local", f"data.paths=[{FILE},{FILE}]"], "twice: each is allowed once"),
        (["data=local", f"data.paths=[{FILE}/x]"], "there is no file"),
        (["tasks.include=/" + "x" * 300], "has a name of 300 bytes in it"),
        (["tracking.uri=ftp://x"], "tracking.uri=ftp://x: must be an MLflow"),
        (["compute.threads=100000"], "compute.threads=100000: must be at most 1024"),
        (["anneal.steps=1000000000000"], "anneal.steps=1000000000000: must be at most 1000000"),
    ],
)
def test_a_run_is_refused_with_the_words_of_its_preview(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sweep.commands.main import main

    with pytest.raises(Exception) as failure:  # noqa: PT011
        points(words)
    said = explain(failure.value)
    assert said is not None and complaint in said
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sweep", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == said
    assert not (tmp_path / "multirun" / "store").exists(), "refused before any compute"


def test_what_is_not_for_changing_is_what_conf_says() -> None:
    written = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["hydra"]
    given = {group: {name: FIXED[group][name] for name in written[group]} for group in FIXED}
    assert given == {group: written[group] for group in FIXED}
