"""One entrance: `sweep COMMAND …` and `python -m sweep COMMAND …` are the commands, everything else is Hydra's."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.__main__ import COMMANDS, main
from sweep.commands.main import CONF
from tests.doors import sweep

HEAVY = {"torch", "olmo", "mlflow", "lm_eval", "transformers"}
SHARED = {"__init__", "command_line", "harness_model", "main", "report_table"}
"""Modules of `sweep.commands` that are no command of their own: `main` is Hydra's."""
OF_SWEEPS = ("status", "report", "sync")


def test_every_command_is_a_module_with_a_line_of_help() -> None:
    package = Path(importlib.import_module("sweep.commands").__path__[0])
    assert {path.stem for path in package.glob("*.py")} - SHARED == set(COMMANDS)
    assert all(COMMANDS.values())


def test_help_shows_the_commands_and_then_hydras_help(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", "--help"]
    shown = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    commands, _, hydras = shown.stdout.partition("sweep: how good is a checkpoint really?")
    for name, line in COMMANDS.items():
        assert f"sweep {name} " in commands and line in commands
    assert "anneal.steps=250,1000,4000" in hydras
    assert not list(tmp_path.iterdir()), "help leaves nothing behind"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "harness"])
def test_help_of_a_command_has_its_name_and_examples_and_loads_nothing_heavy(name: str, tmp_path: Path) -> None:
    shown = sweep(name, "--help", cwd=tmp_path)
    text = shown.stdout
    assert (shown.returncode, shown.stderr) == (0, "")
    assert text.startswith(f"usage: sweep {name} ")
    assert f"`sweep {name}" in text, "what the command does"
    assert f"sweep {name}" in text.partition("examples:\n")[2]
    assert not HEAVY & shown.packages
    assert not list(tmp_path.iterdir()), "help leaves nothing behind"


def test_help_of_harness_is_lm_evals_after_our_example(tmp_path: Path) -> None:
    shown = sweep("harness", "--help", cwd=tmp_path)
    assert shown.returncode == 0
    ours, _, lm_evals = shown.stdout.partition("usage:")
    assert "sweep harness --model sweep --model_args checkpoint=FOLDER" in ours
    assert "lm-eval" in lm_evals


@pytest.mark.parametrize("name", OF_SWEEPS)
def test_the_sweep_is_the_first_argument_and_main_by_default(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multirun" / "steps" / "a").mkdir(parents=True)
    (tmp_path / "multirun" / "steps" / "a" / "journal.jsonl").touch()
    for words, wanted in (([], "main"), (["grid"], "grid")):
        monkeypatch.setattr(sys, "argv", ["sweep", name, *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert wanted in str(end.value) and "steps" in str(end.value), "the sweeps that exist are named"
    monkeypatch.setattr(sys, "argv", ["sweep", name, "--help"])
    with pytest.raises(SystemExit):
        main()
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert "SWEEP" in usage
    assert "\nname: main" in (CONF / "config.yaml").read_text(), "the name that runs have by default"


def test_all_sweeps_are_meant_only_without_a_name(tmp_path: Path) -> None:
    refused = sweep("sync", "steps", "--all", cwd=tmp_path)
    assert refused.returncode == 2 and "it takes no SWEEP" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["staus"], "did you mean status?"),
        (["exprot", "RUN", "out"], "did you mean export?"),
        (["multirun/main"], "'multirun/main' is not one of preview, status"),
        (["Report"], "did you mean report?"),
        (["wait-for"], "`sweep --help` says what each command does"),
        (["7"], "'7' is not one of"),
        (["anneal.steps=5", "status"], "status"),
        (["-m", "status"], "status"),
        (["+status"], "status"),
        (["--hepl"], "unrecognized arguments: --hepl"),
    ],
)
def test_an_unknown_word_is_a_message_and_no_traceback(words: list[str], message: str, tmp_path: Path) -> None:
    refused = sweep(*words, cwd=tmp_path)
    assert refused.returncode in (1, 2)
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_a_refusal_is_one_message_and_exit_code_1(tmp_path: Path) -> None:
    for words in (["export", "nowhere", "out"], ["report", "nowhere"], ["sync", "nowhere"], ["preview", "model=gpt"]):
        refused = sweep(*words, cwd=tmp_path)
        assert refused.returncode == 1, refused.stderr
        assert refused.stderr and "Traceback" not in refused.stderr


def test_a_folder_without_a_store_has_nothing_to_show(tmp_path: Path) -> None:
    shown = sweep("space", cwd=tmp_path)
    assert shown.returncode == 0 and "the first run makes it" in shown.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["server", "--workers=-1"], "-1 is not a number of processes: 1 to 256"),
        (["server", "--folder=/proc/x"], "refused: --folder=/proc/x can't be made"),
        (["status", "--poll=-1"], "-1 is not a time"),
        (["status", "--poll=nan"], "nan is not a time"),
        (["report", "--csv=empty.csv", "--axes=a", "--outcome=b"], "refused: --csv=empty.csv: has no rows"),
        (["report", "--csv=odd.csv", "--axes=a", "--outcome=b"], "refused: --csv=odd.csv is no table"),
        (["report", "--csv=zero.csv", "--axes=a", "--outcome=b"], "refused: --csv=zero.csv is no table"),
    ],
)
def test_a_senseless_argument_is_one_message(words: list[str], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "odd.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "zero.csv").touch()
    ended = sweep(*words, cwd=tmp_path)
    assert ended.returncode != 0
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_interrupt_is_quiet_from_the_first_import_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a command is imported, Ctrl-C ends the process without Python's traceback; then it is the command's."""
    monkeypatch.setattr(sys, "argv", ["sweep", "status"])
    seen: list[object] = []

    def interrupted() -> None:
        seen.append(signal.getsignal(signal.SIGINT))
        raise KeyboardInterrupt

    def imported(name: str) -> SimpleNamespace:
        seen.append(signal.getsignal(signal.SIGINT))
        return SimpleNamespace(main=interrupted)

    monkeypatch.setattr(importlib, "import_module", imported)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert seen == [signal.SIG_DFL, signal.default_int_handler]


def test_a_port_is_a_number_up_to_65535(tmp_path: Path) -> None:
    for name in ("ui", "server"):
        for given in ("70000", "0", "http"):
            refused = sweep(name, given, cwd=tmp_path)
            assert refused.returncode == 2 and f"{given} is not a port: 1 to 65535" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_terminal_without_our_characters_gets_question_marks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", "preview", "anneal.steps=3"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"?" in shown.stdout and b"tiny-s@2000" in shown.stdout


@pytest.mark.parametrize("words", [("preview", "anneal.steps=3,4"), ("space",)])
def test_a_reader_that_leaves_early_is_no_failure(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "multirun" / "store").mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-m", "sweep", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")
