"""Rules files: the real ones are read, and every malformed kind is told by file, rule and remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from revops.transform.errors import TransformError
from revops.transform.rules import read_rules

FOLDER = Path(__file__).resolve().parents[2] / "include" / "sql" / "core"
FIELDS = "needs rule, action (reject, fix, warn), when and remedy as text, and set for a fix. "


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.rules.yaml")), ids=lambda path: path.stem)
def test_the_files_of_this_repository_are_read(path: Path) -> None:
    rules = read_rules(path)
    assert rules
    for rule in rules:
        assert rule.remedy[0].isupper()
        assert rule.remedy.endswith(".")
        assert not rule.name.endswith(".")
        assert bool(rule.assignments) == (rule.action == "fix")


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "[]\n"])
def test_a_file_may_have_no_rules(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.rules.yaml"
    path.write_text(content)
    assert read_rules(path) == ()


def test_rules_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "t.rules.yaml"
    path.write_text(
        "- {rule: b, action: warn, when: a > 1, remedy: Mend it.}\n"
        "- {rule: a, action: fix, when: a < 1, set: {a: 1, c: 'null'}, remedy: Mend it too.}\n"
        "- {rule: c, action: reject, when: a is null, remedy: Enter it.}\n"
    )
    assert [(rule.name, rule.action, rule.when, rule.remedy, rule.assignments) for rule in read_rules(path)] == [
        ("b", "warn", "a > 1", "Mend it.", ()),
        ("a", "fix", "a < 1", "Mend it too.", (("a", "1"), ("c", "null"))),
        ("c", "reject", "a is null", "Enter it.", ()),
    ]


GOOD = "- {rule: a, action: warn, when: a > 1, remedy: Mend it.}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rule: a\n", "must be a list of rules; see the header of another file of its folder."),
        ("just text\n", "must be a list of rules; see the header of another file of its folder."),
        ("- just text\n", "'just text' is no rule: it needs rule, action, when and remedy."),
        (GOOD + GOOD, "each rule needs a name of its own; doubled: ['a']"),
        (
            "- {rule: a, action: warn, remedy: Mend it.}\n",
            f"rule 'a': {FIELDS}Missing: ['when']; unknown: none; action: 'warn'.",
        ),
        (
            "- {action: warn, when: a > 1, remedy: Mend it.}\n",
            f"rule None: {FIELDS}Missing: ['rule']; unknown: none; action: 'warn'.",
        ),
        (
            "- {rule: a, action: warn, when: true, remedy: Mend it.}\n",
            f"rule 'a': {FIELDS}Missing: ['when']; unknown: none; action: 'warn'.",
        ),
        (
            "- {rule: a, action: warn, when: a > 1}\n",
            f"rule 'a': {FIELDS}Missing: ['remedy']; unknown: none; action: 'warn'.",
        ),
        (
            "- {rule: a, action: drop, when: a > 1, remedy: Mend it.}\n",
            f"rule 'a': {FIELDS}Missing: none; unknown: none; action: 'drop'.",
        ),
        (
            "- {rule: a, action: warn, when: a > 1, remedy: Mend it., severity: high}\n",
            f"rule 'a': {FIELDS}Missing: none; unknown: ['severity']; action: 'warn'.",
        ),
        (
            "- {rule: a, action: fix, when: a > 1, remedy: Mend it.}\n",
            "rule 'a': a fix, and only a fix, says by `set` which column gets which expression",
        ),
        (
            "- {rule: a, action: fix, when: a > 1, remedy: Mend it., set: [a]}\n",
            "rule 'a': a fix, and only a fix, says by `set` which column gets which expression",
        ),
        (
            "- {rule: a, action: fix, when: a > 1, remedy: Mend it., set: {}}\n",
            "rule 'a': a fix, and only a fix, says by `set` which column gets which expression",
        ),
        (
            "- {rule: a, action: fix, when: a > 1, remedy: Mend it., set: {a: null}}\n",
            "rule 'a': a fix, and only a fix, says by `set` which column gets which expression",
        ),
        (
            "- {rule: a, action: warn, when: a > 1, remedy: Mend it., set: {a: 1}}\n",
            "rule 'a': a fix, and only a fix, says by `set` which column gets which expression",
        ),
    ],
)
def test_malformed_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t.rules.yaml"
    path.write_text(content)
    with pytest.raises(TransformError, match=f"^{re.escape(f'{path}: {message}')}"):
        read_rules(path)


@pytest.mark.parametrize(
    "content",
    [
        # YAML's own faults, and text where a mapping must be.
        "- {rule: a, action: warn\n",
        "- rule: a\n  when: [a\n",
        "- {rule: a, action: fix, when: a > 1, remedy: Mend it., set: a = 1}\n",
    ],
)
def test_what_is_no_yaml_or_no_mapping_is_told_as_well(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.rules.yaml"
    path.write_text(content)
    with pytest.raises(TransformError, match=re.escape(str(path))):
        read_rules(path)
