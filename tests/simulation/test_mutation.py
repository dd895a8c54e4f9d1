"""A mutant that cannot be made is an error. It never counts as caught."""

from pathlib import Path

import pytest

from tests.simulation.mutation import Mutant, MutationError, mutate, mutate_all

SOURCE = '''
class Table:
    """A table."""

    def forget(self, call):
        client = call.client  # a comment
        if call.is_open and client is not None:
            del self.calls[call.number]
            self.count -= 1
            self.count -= 1
        return client

    def other(self):
        del self.calls[call.number]


def free(one, two):
    return one + two if one else two
'''


def mutated(right: str, wrong: str, function: str = "Table.forget") -> str:
    return mutate(SOURCE, Mutant("a fault", "core/table.py", function, right, wrong))


def test_an_expression_is_replaced_in_one_function_only() -> None:
    changed = mutated("call.is_open", "True")
    assert "if True and client is not None:" in changed
    assert changed.count("del self.calls[call.number]") == 2


def test_a_removed_statement_leaves_a_pass() -> None:
    changed = mutated("del self.calls[call.number]", "")
    assert "            pass\n            self.count -= 1\n" in changed
    assert changed.count("del self.calls[call.number]") == 1


def test_a_call_that_is_a_statement_can_be_replaced_by_statements() -> None:
    changed = mutated("client = call.client", "client = None\nself.count = 0")
    assert "client = None\n        self.count = 0\n" in changed


def test_several_statements_match_when_they_follow_each_other() -> None:
    assert "self.count -= 2" in mutated("del self.calls[call.number]\nself.count -= 1", "self.count -= 2")


def test_comments_and_formatting_do_not_matter() -> None:
    right = """
        if (call.is_open and
                client is not None):  # another comment
            del self.calls[ call.number ]
            self.count -= 1; self.count -= 1
    """
    assert "if " not in mutated(right, "").partition("def other")[0]


def test_a_function_outside_of_classes_can_be_mutated() -> None:
    assert "return one - two if one else two" in mutated("one + two", "one - two", "free")


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("call.is_closed", "True", "occurs 0 times"),
        ("self.count -= 1", "", "occurs 2 times"),
        ("client", "None", "occurs 2 times"),
        ("call.is_open", "( call.is_open )", "changes nothing"),
        ("del self.calls[call.number]", "del self.calls[call.number]  # the same", "changes nothing"),
        ("del self.calls[call.number]", "continue", "does not compile"),
        ("call.is_open", "True and", "is not Python"),
        ("if call.is_open and client is not None:", "", "is not Python"),
        ("", "pass", "names no code"),
    ],
)
def test_a_mutant_that_does_not_fit_is_an_error(right: str, wrong: str, says: str) -> None:
    with pytest.raises(MutationError, match=says):
        mutated(right, wrong)


@pytest.mark.parametrize("function", ["Table.missing", "forget", "Table.forget.inner", "Other.forget"])
def test_a_function_that_does_not_exist_is_an_error(function: str) -> None:
    with pytest.raises(MutationError, match="the function does not exist"):
        mutated("call.is_open", "True", function)


def test_the_error_names_every_mutant_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "table.py").write_text(SOURCE)
    mutants = [
        Mutant("fits", "table.py", "free", "one + two", "one - two"),
        Mutant("has no match", "table.py", "free", "three", "two"),
        Mutant("has no function", "table.py", "lost", "one", "two"),
        Mutant("has no file", "gone.py", "free", "one", "two"),
    ]
    with pytest.raises(MutationError) as raised:
        mutate_all(mutants, tmp_path)
    assert str(raised.value).splitlines() == [
        "table.py: free: 'has no match': its code occurs 0 times",
        "table.py: lost: 'has no function': the function does not exist",
        "gone.py: free: 'has no file': the file does not exist",
    ]
