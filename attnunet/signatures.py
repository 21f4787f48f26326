"""Signatures of our own functions and classes, read from their source: nothing is imported, TensorFlow least of all."""

import ast
import collections.abc
import typing
from functools import cache
from pathlib import Path
from typing import Any

import annotated_types

PACKAGE = Path(__file__).parent


@cache
def signature(target: str) -> dict[str, Any] | None:
    """Parameter names and annotations of a function or class of ours, read from its source without importing it.

    An annotation that needs more than the standard library, annotated_types and the module's own aliases is Any.
    """
    module, _, name = target.rpartition(".")
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return None
    body = ast.parse(path.read_text()).body
    node = next((n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name), None)
    if isinstance(node, ast.ClassDef):
        node = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if node is None:
        return None
    names = Names(body)
    return {a.arg: names.evaluate(a.annotation) for a in node.args.args + node.args.kwonlyargs if a.arg != "self"}


class Names(dict):
    """The names that an annotation can use: builtins, typing, annotated_types, and aliases of its module."""

    def __init__(self, body: list[ast.stmt]) -> None:
        super().__init__({**vars(collections.abc), **vars(typing), **vars(annotated_types)})
        self.aliases = {
            statement.targets[0].id: statement.value
            for statement in body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }

    def __missing__(self, name: str) -> Any:
        if name in self.aliases:
            return eval(compile(ast.Expression(self.aliases[name]), "<alias>", "eval"), {}, self)
        raise KeyError(name)

    def evaluate(self, annotation: ast.expr | None) -> Any:
        if annotation is None:
            return Any
        try:
            return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {}, self)
        except (NameError, AttributeError):
            return Any
