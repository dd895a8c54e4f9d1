"""Puts one small fault into the syntax tree of a module. Comments, line breaks and formatting do not matter."""

import ast
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One fault in one function of the broker.

    Attributes:
        fault: what the broker does wrong.
        file: the module, as a path inside the folder `broker`.
        function: the qualified name of the function, such as `CallTable.forget`.
        right: the code to replace: an expression, or whole statements. It must occur exactly once in the function.
        wrong: the code that replaces it. An empty text removes the statements.
    """

    fault: str
    file: str
    function: str
    right: str
    wrong: str

    @property
    def module(self) -> str:
        """The module's name for `import`."""
        return "broker." + self.file.removesuffix(".py").replace("/", ".")


class MutationError(Exception):
    """A mutant cannot be made, so it shows nothing."""


def mutate(source: str, mutant: Mutant) -> str:
    """Return the source of a module with the fault in it.

    Raises:
        MutationError: `right` does not occur exactly once, nothing changes, or the result does not compile.
    """
    tree = ast.parse(source)
    right, wrong = _parse(mutant.right), _parse(mutant.wrong)
    if not right:
        raise MutationError("it names no code to replace")
    right_value, wrong_value = _expression(right), _expression(wrong)
    function = _find_function(tree, mutant.function)
    if right_value is not None and wrong_value is not None:
        places = list(_expressions_equal_to(right_value, wrong_value, function))
    else:
        places = list(_statements_equal_to(right, wrong or [ast.Pass()], function))
    if len(places) != 1:
        raise MutationError(f"its code occurs {len(places)} times")
    before = ast.dump(tree)
    places[0]()
    if ast.dump(tree) == before:
        raise MutationError("it changes nothing")
    mutated = ast.unparse(ast.fix_missing_locations(tree))
    try:
        compile(mutated, mutant.file, "exec")
    except SyntaxError as error:
        raise MutationError(f"the result does not compile: {error.msg}") from error
    return mutated


def mutate_all(mutants: Iterable[Mutant], folder: Path) -> list[str]:
    """Return the faulty source of each mutant's module.

    Args:
        mutants: all that are to be made.
        folder: the folder that `Mutant.file` is relative to.

    Raises:
        MutationError: it names every mutant that cannot be made, with its file and function.
    """
    sources: list[str] = []
    problems: list[str] = []
    for mutant in mutants:
        try:
            path = folder / mutant.file
            if not path.is_file():
                raise MutationError("the file does not exist")
            sources.append(mutate(path.read_text(), mutant))
        except MutationError as error:
            problems.append(f"{mutant.file}: {mutant.function}: {mutant.fault!r}: {error}")
    if problems:
        raise MutationError("\n".join(problems))
    return sources


def _parse(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(textwrap.dedent(code)).body
    except SyntaxError as error:
        raise MutationError(f"{code!r} is not Python: {error.msg}") from error


def _expression(statements: list[ast.stmt]) -> ast.expr | None:
    """The expression, if that is all that the code consists of."""
    if len(statements) == 1 and isinstance(statements[0], ast.Expr):
        return statements[0].value
    return None


def _find_function(tree: ast.Module, qualified_name: str) -> ast.AST:
    scope: ast.AST = tree
    for name in qualified_name.split("."):
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [one for one in ast.iter_child_nodes(scope) if isinstance(one, scopes) and one.name == name]
        if len(found) != 1:
            raise MutationError("the function does not exist" if not found else "several functions have this name")
        scope = found[0]
    return scope


def _expressions_equal_to(right: ast.expr, wrong: ast.expr, scope: ast.AST) -> Iterator[Callable[[], None]]:
    """For each place of the expression: what replaces it."""
    wanted = ast.dump(right)
    for parent in ast.walk(scope):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, list):
                for index, one in enumerate(value):
                    if isinstance(one, ast.expr) and ast.dump(one) == wanted:
                        yield lambda value=value, index=index: value.__setitem__(index, wrong)  # type: ignore[misc]
            elif isinstance(value, ast.expr) and ast.dump(value) == wanted:
                yield lambda parent=parent, field=field: setattr(parent, field, wrong)  # type: ignore[misc]


def _statements_equal_to(right: list[ast.stmt], wrong: list[ast.stmt], scope: ast.AST) -> Iterator[Callable[[], None]]:
    """For each place of the statements, one after the other in one block: what replaces them."""
    wanted = [ast.dump(one) for one in right]
    for parent in ast.walk(scope):
        for _, block in ast.iter_fields(parent):
            if not isinstance(block, list):
                continue
            dumped = [ast.dump(one) if isinstance(one, ast.stmt) else "" for one in block]
            for index in range(len(block) - len(wanted) + 1):
                where = slice(index, index + len(wanted))
                if dumped[where] == wanted:
                    yield lambda block=block, where=where: block.__setitem__(where, wrong)  # type: ignore[misc]
