"""The tools of the repository agree with each other."""

import re

import yaml

from tests.processes import REPOSITORY


def test_the_hooks_run_what_make_lint_runs() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), flags=re.M)
    assert recipe is not None
    commands = [line.strip().replace("$(PY)", ".venv/bin/python") for line in recipe[1].splitlines()]
    configuration = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    assert [hook["entry"] for repo in configuration["repos"] for hook in repo["hooks"]] == commands


def test_ci_forbids_skips() -> None:
    assert "export CI=true\n" in (REPOSITORY / ".ci" / "run").read_text()
