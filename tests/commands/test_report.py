"""The report as a person gets it: a page, figures, tables, a summary; partial sweeps told truthfully."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweep.analysis.answers import answer
from sweep.analysis.findings import findings
from sweep.analysis.opening import Opening
from sweep.commands.report import main
from sweep.sweeps.outcome_table import read_outcomes
from sweep.sweeps.outcomes import frame
from sweep.sweeps.paired_documents import paired_documents
from sweep.tracking.opening import keep_opening, opening_note
from tests.browser import chromium
from tests.journals import write_run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 checkpoints x 2 lengths x 2 shapes x 2 seeds with matched controls; longer is better, the shape is inert."""
    folder, rng = tmp_path_factory.mktemp("multirun") / "grid", np.random.default_rng(0)
    for step in (100, 200, 400):
        for steps in (10, 20):
            for seed in (0, 1):
                chosen = {"checkpoint.step": step, "anneal.steps": steps, "seed": seed}
                noise = 0.001 * rng.normal()
                write_run(folder, gain=0.02, records=True, arm="constant", anneal="constant", **chosen)
                for shape in ("linear", "sqrt"):
                    noise = 0.001 * rng.normal()
                    shaped = {"anneal.shape": shape, **chosen}
                    write_run(folder, gain=steps / 200, noise=noise, records=True, **shaped)
    return folder


@pytest.fixture(scope="module")
def written(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    main([str(sweep), "--out", str(out)])
    return out


@pytest.mark.slow
def test_what_matters_and_what_does_not(written: Path) -> None:
    effects = pd.read_csv(written / "effects.csv").set_index(["outcome", "term"])["verdict"]
    assert effects["loss/heldout", "anneal.steps"] == "matters"
    assert effects["loss/heldout", "anneal.shape"] == "under the noise floor"


@pytest.mark.slow
def test_documents_are_paired_with_the_checkpoint_and_the_matched_control(written: Path) -> None:
    gains = pd.read_csv(written / "gains.csv")
    exact = gains[(gains["outcome"] == "acc/arc_easy") & (gains["arm"] == "decay")]
    assert set(exact["test"]) == {"McNemar"} and set(exact["against"]) == {"checkpoint", "constant"}
    against = gains[(gains["outcome"] == "mean/core8") & (gains["against"] == "constant")]
    assert len(against) == 24 and (against["delta"].abs() < 0.1).all() and (against["stderr"] > 0).all()


@pytest.mark.slow
def test_every_answer_has_its_table_and_every_figure_is_on_the_page(written: Path) -> None:
    tables = {path.stem for path in written.glob("*.csv")}
    assert {
        "effects",
        "levels",
        "noise",
        "importances",
        "gains",
        "settings",
        "checkpoints",
        "places",
        "tasks",
    } <= tables
    assert {"laws", "predictions", "runs"} <= tables
    page, figures = (written / "report.html").read_text(), {path.stem for path in written.glob("figures/*.svg")}
    assert figures == set(re.findall(r'<svg class="chart" id="figure-([\w-]+)-\d+"', page))
    assert {
        "checkpoints",
        "effects",
        "gain_by_steps",
        "settings",
        "arms",
        "frontier",
        "laws",
        "learning_rates",
    } <= figures
    assert (written / "report.svg").read_text().startswith("<svg xmlns=")


@pytest.mark.slow
def test_the_page_needs_nothing_else(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and "@import" not in page


def test_a_partial_sweep_is_told_truthfully(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "partial"
    for steps, shape in ((10, "linear"), (20, "linear"), (10, "sqrt")):
        write_run(folder, gain=0.01, **{"anneal.steps": steps, "anneal.shape": shape})
    write_run(folder, gain=0.0, status="failed", **{"anneal.steps": 20, "anneal.shape": "sqrt"})
    write_run(folder, gain=0.0, status="running", **{"anneal.steps": 40})
    main([str(folder)])
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "5 runs: 3 finished" in said and "1 failed" in said and "1 interrupted" in said
    assert "No setting was run with two seeds, so no choice can be said to matter" in said
    page = html.unescape((folder / "report" / "report.html").read_text())
    assert "a loss is not finite" in page and "1 settings of the full grid have no finished run" in page
    assert "no run is repeated with another seed" in page and "seed=1,2" in page


def test_programs_get_every_answer_and_the_note_the_opening(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = tmp_path / "seeds", tmp_path / "sqrt"
    for steps in (10, 20):
        for seed in (0, 1):
            chosen = {"anneal.steps": steps, "seed": seed}
            write_run(folder, gain=steps / 200, noise=0.001 * seed, **chosen)
            write_run(other, gain=steps / 200 - 0.01, noise=0.001 * seed, **chosen, **{"anneal.shape": "sqrt"})
    main([str(folder), str(other), "--json"])
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    (difference,) = (row for row in section["tables"]["side_by_side"] if row["outcome"] == "mean/core8")
    assert difference["shared"] == 2 and difference["difference"] == pytest.approx(-0.01)
    assert section["findings"]["What changed between the sweeps?"][0] == "anneal.shape: linear in seeds; sqrt in sqrt."
    assert "anneals of sqrt gain" in section["opening"].pop(0)
    assert {"effects", "gains", "settings", "noise"} <= set(section["tables"])
    first, *_ = section["opening"]
    assert "Annealing helps" in first and "anneal.steps=20" in first and "over seeds" in first
    assert "anneal.steps=40" in section["command"]
    keep_opening(folder, 4, [("", Opening(tuple(section["opening"]), section["command"]))])
    assert opening_note(folder).startswith("Annealing helps") and "report of 4 runs" in opening_note(folder)


def test_a_sweep_without_a_finished_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "young", gain=0.0, status="running")
    main([str(tmp_path / "young")])
    assert "1 runs: 1 interrupted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ([1.0, 0.7, 0.5], "anneal.steps moves with anneal.peak_scale: what is said of it may be their effect"),
        ([1.0, 1.0, 0.5], "anneal.peak_scale has no share of its own: in these runs it can't be told apart"),
        ([None] * 3, "Held-out loss: anneal.steps ("),
        ([None] * 12, "Held-out loss: anneal.steps ("),
    ],
)
def test_pairs_and_single_axes_are_told_as_such(scales: list[float | None], said: str, tmp_path: Path) -> None:
    for place, scale in enumerate(scales):
        for seed in (0, 1):
            chosen = {"anneal.steps": 10 + 7 * place, "anneal.peak_scale": scale, "seed": seed}
            write_run(tmp_path / "pairs", gain=place / 20, noise=0.001 * seed, **chosen)
    outcomes = read_outcomes([tmp_path / "pairs"])
    params = [name.removeprefix("params/") for name in outcomes.schema.names if name.startswith("params/")]
    told = findings(answer(frame(outcomes), params, paired_documents))["Which axis matters?"]
    assert any(said in sentence for sentence in told)
    assert any("Held-out loss: anneal.steps (" in sentence and "above the noise" in sentence for sentence in told)


def test_any_table_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"lr": lr, "frac": frac, "fval": 3 + lr * 10 + frac} for lr in (0.1, 0.2) for frac in (0.1, 0.2, 0.4)]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    main(["--csv", str(tmp_path / "t.csv"), "--axes", "lr,frac", "--outcome", "fval", "--out", str(tmp_path / "out")])
    effects = pd.read_csv(tmp_path / "out" / "effects.csv").set_index("term")["share_percent"]
    squares = {"lr": 6 * 0.5**2, "frac": 2 * np.var([0.1, 0.2, 0.4]) * 3}
    assert effects["lr"] == pytest.approx(100 * squares["lr"] / sum(squares.values()))
    assert effects["lr:frac"] == pytest.approx(0, abs=1e-9) and (tmp_path / "out" / "figures" / "effects.svg").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], r"SWEEP=nowhere"),
        ([], r"SWEEP=main"),
        (["--csv", "absent.csv", "--axes", "a", "--outcome", "y"], r"--csv=absent.csv: no such file"),
        (["--csv", "t.csv", "--axes", "lrr", "--outcome", "y"], r"--axes=lrr.*did you mean lr"),
        (["--csv", "t.csv", "--axes", "lr", "--outcome", "word"], r"--outcome=word: must be numbers"),
    ],
)
def test_what_can_not_be_reported_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"lr": [1.0, 2.0], "y": [1.0, 2.0], "word": ["a", "b"]}).to_csv("t.csv", index=False)
    with pytest.raises(SystemExit, match=message):
        main(words)


@pytest.mark.browser
def test_in_a_browser_charts_answer_keys_and_tables_sort_without_errors(written: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    look = f"<script>{Path(__file__).with_name('look_at_report.js').read_text()}</script>"
    page.write_text((written / "report.html").read_text().replace("</body>", f"{look}</body>"))
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    result = subprocess.run(
        [*command, "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = dict(word.split("=") for word in re.findall("<title>(.*?)</title>", result.stdout)[0].split())
    true = dict.fromkeys(("tip", "zoomed", "back", "order", "labelled", "up", "down", "links"), "true")
    assert seen == true | {"hidden": "none", "wide": "false"}
    assert "CONSOLE" not in result.stderr


@pytest.mark.slow
def test_mlflow_has_the_report_and_gives_the_same_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.tracking.connection import Connection
    from sweep.tracking.sweeps import journals, sync_runs

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "multirun" / "grid"
    for steps in (10, 20):
        for seed in (0, 1):
            chosen = {"anneal.steps": steps, "seed": seed}
            write_run(folder, gain=steps / 200, noise=0.001 * seed, records=True, tracked=True, **chosen)
    to = Connection(f"sqlite:///{tmp_path}/multirun/mlflow.db", "sweep", tmp_path / "multirun" / "mlartifacts")
    assert [synced.error for synced in sync_runs(to, journals(folder))] == [None] * 4
    main(["grid", "--out", "from-folders"])
    (parent,) = to._found({"sweep.parent": "grid"})
    assert "report/report.html" in {f.path for f in to.client.list_artifacts(parent.info.run_id, "report")}
    main(["grid", "--mlflow", "sweep", "--out", "from-mlflow"])
    for name in ("effects", "gains", "settings"):
        one, two = (pd.read_csv(tmp_path / place / f"{name}.csv") for place in ("from-folders", "from-mlflow"))
        order = [c for c in ("outcome", "run", "against", "settings", "term") if c in one]
        one, two = (table.sort_values(order, ignore_index=True) for table in (one, two))
        pd.testing.assert_frame_equal(one, two)
    with pytest.raises(SystemExit, match="SWEEP=absent: MLflow has no journal of it in the experiment sweep"):
        main(["absent", "--mlflow", "sweep"])


def test_help_names_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "--csv" in shown and "SWEEP" in shown
