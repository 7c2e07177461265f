"""What the documents say is there: every module is in docs/architecture.md, and names, links and commands hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweep.__main__ import COMMANDS
from tests.whole.test_architecture import FLOORS

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "sweep"
ARCHITECTURE, GLOSSARY = ROOT / "docs" / "architecture.md", ROOT / "docs" / "glossary.md"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
ids = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def section(page: Path, title: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    return page.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[tuple[str, ...]]:
    """The cells of the tables in a text, without the first row and the line below it."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def test_every_module_has_its_room_and_every_room_a_module() -> None:
    rooms = section(ARCHITECTURE, "Folders and rooms")
    for folder in (name for floor in FLOORS for name in floor):
        listed = rooms.partition(f"\n### `{folder}/`")[2].partition("\n### ")[0]
        named = [row[0].strip("`") for row in rows(listed)]
        modules = {path.name for path in (SRC / folder).glob("*.py")} - {"__init__.py"}
        assert set(named) == modules, f"docs/architecture.md, {folder}/"
        assert len(named) == len(set(named)), f"{folder}/: a room is named twice"
        assert all(len(row) == 2 and row[1].endswith(".") for row in rows(listed)), f"{folder}/: a sentence each"
        assert listed.partition("\n| ")[0].strip(), f"{folder}/ itself has no sentence"


def test_the_drawing_has_every_folder_from_top_to_bottom() -> None:
    drawing = section(ARCHITECTURE, "The drawing").partition("```")[2].partition("```")[0]
    places = [max(drawing.find(f" {name} ") for name in floor) for floor in FLOORS]
    assert all(f" {name} " in drawing for floor in FLOORS for name in floor)
    assert places == sorted(places, reverse=True), "a lower floor stands lower"


def test_every_step_of_the_walk_is_in_its_file() -> None:
    walk = rows(section(ARCHITECTURE, "The walk of `anneal.peak_lr`"))
    assert len(walk) > 8
    for _, file, names, _ in walk:
        text = (ROOT / file.strip("`")).read_text()
        for name in re.findall(r"`([^`]+)`", names):
            assert name in text, f"{file} has no {name}"


@ids
def test_files_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`((?:src|conf|docs|tests|bench)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


@ids
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), f"{page.name}: {target}"
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{page.name}: {target}"


@ids
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"python -m sweep\.(?!tracking)", text), "every command is `sweep COMMAND`"
    for word in re.findall(r"(?:^    |`)sweep (\S+?)[`\s]", text, re.MULTILINE):
        assert word in COMMANDS or word.isupper() or "=" in word or word.startswith("-"), f"{page.name}: sweep {word}"


def test_the_glossary_is_sorted_and_every_term_has_one_line() -> None:
    terms = [row[0].strip("`").lower() for row in rows(GLOSSARY.read_text())]
    assert terms == sorted(terms)
    assert len(terms) == len(set(terms)) > 30
    assert all(len(row) == 2 and row[1] for row in rows(GLOSSARY.read_text()))


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name}" in text, f"README.md has no link to {page.name}"
