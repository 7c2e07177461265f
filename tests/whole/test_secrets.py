"""A secret in an address reaches no file, log, message or MLflow: it is refused in a configuration, or masked."""

from __future__ import annotations

import base64
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.__main__ import main
from sweep.domain.redaction import holds_secret, redact, secret_refused
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.system import http
from sweep.system.terminal import mask_secrets
from tests.run.test_training_data import memmap

SECRET = "s3cr3t"
ADDRESSES = (
    f"http://user:{SECRET}@127.0.0.1:1/x.npy",
    f"https://{SECRET}@127.0.0.1:1/x.npy",
    f"s3://user:{SECRET}@bucket/x.npy",
    f"http://127.0.0.1:1/x.npy?X-Amz-Credential=a&X-Amz-Signature={SECRET}",
    f"http://127.0.0.1:1/x.npy?sig={SECRET}&se=2026",
    f"http://127.0.0.1:1/x.npy?access_token={SECRET}",
    f"http://me:{SECRET}@ss/w@127.0.0.1:1/x.npy",
)
PLAIN = ("postgresql://user@host/db", "http://host:80/a@b?x=1", "s3://bucket/a@b", "http://host/x?version=3", "a=b", "")


@pytest.mark.parametrize("address", ADDRESSES)
def test_one_rule_finds_and_masks(address: str) -> None:
    assert holds_secret(address)
    masked = redact(address)
    assert SECRET not in masked
    assert not holds_secret(masked), "what is masked may be written"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_is_none(text: str) -> None:
    assert not holds_secret(text)


def test_a_tree_is_refused_by_its_dotted_key() -> None:
    words = secret_refused({"data": {"name": "x", "sources": {"a": {"paths": ["/x", ADDRESSES[0]]}}}})
    assert words is not None
    assert words.startswith("data.sources.a.paths=http://***@127.0.0.1:1/x.npy holds a password or token: ")
    assert "~/.netrc" in words


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and a secret in every address that the environment may hold."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("SWEEP_CHECKPOINTS_URL", f"http://user:{SECRET}@127.0.0.1:1/mirror")
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{SECRET}@127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setattr(http, "TRIES", 1)
    (folder := tmp_path / "work").mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_a_whole_run_leaves_no_secret_anywhere(
    surroundings: Path,
    source: CheckpointFolder,
    served: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    memmap(served.folder / "mine.npy")
    write_documents(heldout := surroundings / "heldout")
    words = ["model=local", f"checkpoint.path={source.folder}", "tasks=loss", f"data.heldout={heldout}", "data=local"]
    words += [f"data.paths=[{served.url}/mine.npy]", "anneal.steps=2", "anneal.peak_lr=1e-3"]
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    main()
    monkeypatch.setattr(
        sys, "argv", ["sweep", "sync", "main"]
    )  # on a busy machine the run ends before MLflow has begun
    main()
    assert served.authorizations == {f"Basic {base64.b64encode(f'user:{SECRET}'.encode()).decode()}"}, "netrc is read"
    said = capfd.readouterr()
    assert list(surroundings.glob("multirun/main/*/journal.jsonl")), said
    assert (surroundings / "multirun" / "mlflow.db").is_file(), said
    assert_unseen(surroundings, *said)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["http", "hub"])
def test_a_run_whose_checkpoint_can_not_be_had_says_so_without_the_secret(
    surroundings: Path, place: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["model=olmo-1b-0724", f"checkpoint.source={place}", "data=local", "data.paths=[/x.npy]", "tracking=none"]
    words += ["anneal.optimizer=fresh", "anneal.warmup_steps=1", "anneal.peak_lr=1e-3"]
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "refused: " in str(ended.value)
    assert_unseen(surroundings, str(ended.value), *capfd.readouterr())


def write_documents(folder: Path) -> None:
    """Held-out text of four documents of five tokens each."""
    folder.mkdir()
    np.arange(2, 22, dtype=np.uint16).tofile(folder / "heldout.npy")
    np.save(folder / "heldout_offsets.npy", np.arange(0, 21, 5))
    for name in ("bytes", "characters"):
        np.save(folder / f"heldout_{name}.npy", np.full(4, 9))


LEAVES = (
    "data.root=ADDRESS",
    "data.paths=[ADDRESS]",
    "data.heldout=ADDRESS",
    "tasks.include=ADDRESS",
    "tracking.uri=ADDRESS",
    "+data.sources={x: {paths: ADDRESS, weight: 1}}",
    "data.root=${oc.env:PLACE}",
    '+hydra.launcher.setup=["export X=RAW"]',
    "+hydra.job.env_set.X=ADDRESS",
)


MODES = {"run": [], "sweep": ["-m"], "preview": ["preview"]}
CASES = [(mode, leaf) for mode in MODES for leaf in LEAVES if mode != "preview" or "hydra." not in leaf]
"""The preview reads no launcher, and writes nothing."""


@pytest.mark.parametrize(("mode", "leaf"), CASES)
def test_a_configuration_with_a_secret_is_refused_before_anything_is_written(
    mode: str,
    leaf: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", ADDRESSES[0])
    word = leaf.replace("ADDRESS", f'"{ADDRESSES[0]}"').replace("RAW", ADDRESSES[0])
    monkeypatch.setattr(sys, "argv", ["sweep", *MODES[mode], word, "seed=-1"])  # nothing can run
    with pytest.raises(SystemExit) as ended:
        main()
    key = leaf.strip("+").split("=")[0]
    assert str(ended.value).startswith(f"refused: {key}")
    assert "holds a password or token" in str(ended.value)
    assert_unseen(tmp_path, str(ended.value), *capfd.readouterr())


def assert_unseen(folder: Path, *said: str) -> None:
    """The secret is in no file below the folder, and in nothing that was said."""
    assert not [text for text in said if SECRET in text]
    assert not [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


@pytest.mark.parametrize("address", ADDRESSES[:1] + ADDRESSES[3:5])
def test_an_address_of_the_environment_is_masked_in_errors_logs_and_tracebacks(
    address: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TRIES", 1)
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
    monkeypatch.setattr(logging.root, "handlers", [caplog.handler])  # those of earlier commands write to closed streams
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    mask_secrets()
    try:
        with http.session() as session:
            http.ask(session, address)
    except http.Unreachable as error:
        logging.getLogger("any").exception("asked %s", address)
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        raise AssertionError("nobody answers there")
    assert "asked http://" in caplog.text
    assert "http://" in (warned := warnings.formatwarning(f"asked {address}", UserWarning, "file.py", 1))
    assert SECRET not in warned
    assert not [text for text in (caplog.text, *capsys.readouterr()) if SECRET in text]
