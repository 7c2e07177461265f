"""The held-out text of a model, by one command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sweep.commands import heldout
from sweep.data.tokenizer import trained_tokenizer


def test_a_folder_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tokenizer.json").write_text(trained_tokenizer(["a text"], vocab_size=300).to_str())
    for name, text in {"a.txt": "The first.", "b.txt": "The second."}.items():
        Path(name).write_text(text)

    def asked(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["sweep heldout", *words, "--tokenizer", "tokenizer.json"])
        heldout.main()

    asked("*.txt", "out")
    assert "out: 2 documents, " in (said := capsys.readouterr().out) and "data.heldout=out" in said
    for words, complaint in (
        (("*.txt", "out"), "refused: OUT=out is there already"),
        (("c.txt", "new"), r"refused: FILES=c\.txt matches no file"),
        (("a.txt", "new", "--against", "x*"), r"refused: --against=x\* matches no file"),
        (("tokenizer.json", "new"), r"refused: FILES: tokenizer\.json is neither a memmap nor one of"),
    ):
        with pytest.raises(SystemExit, match=complaint):
            asked(*words)
    assert not Path("new").exists() and not list(tmp_path.glob(".*.part"))
