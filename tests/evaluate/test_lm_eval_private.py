"""What we rely on in lm-eval without its promise: this file fails when it changes."""

from __future__ import annotations

from pathlib import Path

import jinja2
import lm_eval.utils
import pytest

from sweep.evaluate.lm_eval_private import task_config, templates_compiled_once
from sweep.evaluate.wheel import SOURCES, package


@pytest.mark.parametrize("name", SOURCES)
def test_a_task_file_is_read_with_its_includes_and_functions(name: str) -> None:
    config = task_config(package("lm_eval") / "tasks" / SOURCES[name].definition)
    assert "include" not in config and config["output_type"] == "multiple_choice"
    assert callable(config.get("process_docs", print)), "a function's name has become the function"


def test_a_missing_task_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        task_config(tmp_path / "none.yaml")


def test_each_template_is_compiled_once_and_lm_eval_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_ = jinja2.Environment.compile

    def counted(self: jinja2.Environment, source: str, *args: object, **more: object) -> object:
        compiled.append(source)
        return compile_(self, source, *args, **more)

    monkeypatch.setattr(jinja2.Environment, "compile", counted)
    template = "{{word}} and a text that no task has"
    with templates_compiled_once():
        assert [lm_eval.utils.apply_template(template, {"word": n}) for n in "ab"] == [
            f"{n}{template[8:]}" for n in "ab"
        ]
    assert compiled == [template]
    lm_eval.utils.apply_template(template, {"word": "c"})
    assert compiled == [template] * 2
