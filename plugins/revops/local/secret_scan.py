"""Look for secrets in the tree and in its history: `python -m revops.local.secret_scan`. Exit code 0 or 1.

The search itself is Kingfisher's, with its rules and those of .kingfisher/rules.yaml. Nothing that it finds is sent
anywhere: its own way of telling whether a secret works is to try it, which is switched off.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from revops.local.paths import CHECKOUT

FOLDER = ".kingfisher"
PROGRAM = Path(sys.executable).with_name("kingfisher")
# Folders of the search itself.
TREE, HISTORY = "tree", "history.git"
GIT = shutil.which("git") or "/usr/bin/git"
OPTIONS = ("--no-validate", "--no-update-check", "--confidence=low", "--format=jsonl")
_SHOWN = 3
REMEDY = (
    "Remedy: take each out, and change it where it is in use: whoever has read the repository knows it. One in the "
    "history only is to be changed, and removed there with git filter-repo. If it is no secret, say why in "
    f"{FOLDER}/allowed.yaml."
)


class ScanError(RuntimeError):
    """The search can't be done; the message says why."""


@dataclass(frozen=True)
class Finding:
    """A value that looks like a secret. commit: empty for the tree."""

    path: str
    line: int
    rule: str
    value: str
    commit: str = ""

    def __str__(self) -> str:
        where = f"in the history, commit {self.commit[:12]}" if self.commit else "in the tree"
        return f"{self.path}:{self.line}: {self.rule}, {len(self.value)} characters, {self.value[:_SHOWN]}... {where}"


def main() -> int:
    """Search a checkout and print what was found; 1 where something was, or where an allowed value is found no more."""
    parser = argparse.ArgumentParser(prog="revops.local.secret_scan", description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=CHECKOUT)
    root: Path = parser.parse_args().root.resolve()
    try:
        allowed = read_allowed(root / FOLDER / "allowed.yaml")
        history = _history_of(root)
        found = scan(root)
    except ScanError as error:
        print(f"secrets: {error}")
        return 1
    if history == "none":
        print("secrets: there is no history here; the tree alone was searched")
    if history == "shallow":
        print("secrets: the history here is cut off (a shallow clone); what is there was searched")
    faults = [str(finding) for finding in found if finding.value not in allowed]
    if history == "whole":
        stale = sorted(allowed - {finding.value for finding in found})
        faults += [f"{FOLDER}/allowed.yaml: {value!r} is found no more: remove it" for value in stale]
    for fault in faults:
        print(f"secrets: {fault}")
    if any(finding.value not in allowed for finding in found):
        print(f"secrets: {REMEDY}")
    return 1 if faults else 0


def read_allowed(path: Path) -> set[str]:
    """Return the values that are no secrets; raises ScanError where one has no reason."""
    if not path.exists():
        return set()
    try:
        entries = yaml.safe_load(path.read_text())["allowed"]
        values = {entry["value"] for entry in entries if entry["why"].strip()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ScanError(f"{path}: must list entries with `value` and `why`") from error
    if len(values) < len(entries) or not all(isinstance(value, str) and value for value in values):
        raise ScanError(f"{path}: each entry needs a value of its own, a text, and a reason")
    return values


def scan(root: Path) -> list[Finding]:
    """Return what looks like a secret in the files that git has, or would take, and in the commits that they come from.

    What was removed since is found as well. Raises ScanError.
    """
    with tempfile.TemporaryDirectory(prefix="revops-secrets-") as folder:
        scratch = Path(folder)
        repository = scratch / HISTORY
        _git(root, "init", "--quiet", "--bare", str(repository))
        of_archive = []
        if _history_of(root) == "none":
            # An unpacked archive: git tells by .gitignore what belongs to it.
            of_archive = [f"--git-dir={repository}", f"--work-tree={root}"]
        else:
            # In a repository of its own: other branches, and what else lies in a checkout, are not this one's history.
            fetch = ["fetch", "--quiet", "--no-tags", "--update-shallow", str(root), "HEAD:refs/heads/scanned"]
            _git(root, f"--git-dir={repository}", *fetch)
        listed = _git(root, *of_archive, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        # Copied, for a folder is searched five times as fast as its files one by one.
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():
                copy = scratch / TREE / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, copy)
        return list(_findings(scratch, rules=root / FOLDER / "rules.yaml", has_history=not of_archive))


def _findings(scratch: Path, *, rules: Path, has_history: bool) -> Iterator[Finding]:
    own = [f"--rules-path={rules}"] if rules.exists() else []
    command = [str(PROGRAM), "--quiet", "scan", *OPTIONS, f"--rule-cache-dir={CHECKOUT / FOLDER / 'cache'}", *own]
    paths = [TREE, *([HISTORY] if has_history else [])]
    try:
        ended = subprocess.run([*command, *paths], cwd=scratch, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ScanError(f"{PROGRAM} can't be run: {error.strerror}. Remedy: make install") from error
    has_ended = False
    for line in ended.stdout.splitlines():
        told = json.loads(line)
        has_ended |= "audit" in told
        if "finding" in told:
            finding = told["finding"]
            origin = finding.get("git_metadata") or {}
            yield Finding(
                path=str((origin.get("file") or finding)["path"]).removeprefix("./").removeprefix(f"{TREE}/"),
                line=int(finding["line"]),
                rule=told["rule"]["id"],
                value=finding["snippet"],
                commit=(origin.get("commit") or {}).get("id", ""),
            )
    # Its exit code says that it has found something; that it has looked everywhere, only its last line does.
    if not has_ended:
        raise ScanError(f"the search broke off with code {ended.returncode}: {ended.stderr[-500:].strip()}")


def _history_of(root: Path) -> str:
    """Return `whole`, `shallow` or `none`: whether the folder itself is a checkout, and its history is there."""
    told = subprocess.run(
        [GIT, "rev-parse", "--show-toplevel", "--is-shallow-repository", "--verify", "HEAD"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    top, _, rest = told.stdout.partition("\n")
    if told.returncode != 0 or Path(top).resolve() != root:
        return "none"
    return "shallow" if rest.startswith("true") else "whole"


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run([GIT, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise ScanError(f"git {arguments[0]}: {error.stderr.strip()}") from error
    except OSError as error:
        raise ScanError(f"git can't be run: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
