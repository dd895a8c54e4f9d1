"""The example in docs/zmtp.md does what the page says."""

import re

from tests.processes import REPOSITORY


def test_the_example_of_the_document_is_true() -> None:
    document = (REPOSITORY / "docs" / "zmtp.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    assert len(examples) == 1
    exec(compile(examples[0], "docs/zmtp.md", "exec"), {})


def test_the_document_names_only_files_that_exist() -> None:
    document = (REPOSITORY / "docs" / "zmtp.md").read_text()
    for name in re.findall(r"`((?:zmtp|tests|docs|broker)/[\w/]+\.(?:py|md))`", document):
        assert (REPOSITORY / name).is_file(), name
    modules = {path.name for path in (REPOSITORY / "zmtp").glob("*.py")} - {"__init__.py"}
    assert modules <= set(re.findall(r"`(?:zmtp/)?(\w+\.py)`", document)), "each module has its line"
