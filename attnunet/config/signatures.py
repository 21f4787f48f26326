"""Read the signatures of attnunet's functions and classes from the source, because an import would load TensorFlow."""

import ast
import builtins
import collections.abc
import typing
from functools import cache
from pathlib import Path
from typing import Any

import annotated_types

PACKAGE = Path(__file__).parent.parent


class StandIn:
    """An object that replaces the result of a `_target_` while the arguments that contain it are checked."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __repr__(self) -> str:
        return self.target


class Made(StandIn):
    """A stand-in for the object that a `_target_` makes. In an annotation, it stands for any class of another package."""


class Maker(StandIn):
    """A stand-in for the function that a `_target_` with `_partial_: true` makes."""

    def __call__(self) -> Made:
        return Made(self.target)


def replace_targets(value: Any) -> Any:
    """Return an argument in which a stand-in replaces each `_target_`."""
    if isinstance(value, dict) and "_target_" in value:
        return (Maker if value.get("_partial_") is True else Made)(str(value["_target_"]))
    if isinstance(value, dict):
        return {name: replace_targets(inner) for name, inner in value.items()}
    return [replace_targets(inner) for inner in value] if isinstance(value, list) else value


@cache
def signature(target: str) -> dict[str, tuple[Any, Any]] | None:
    """Return the parameters of a function or class of attnunet, read from its source; None for any other target.

    Each parameter becomes a field definition of pydantic: (annotation, Ellipsis) if it is required, (annotation, None) if it
    has a default. In an annotation, `Made` replaces each name that is neither from the standard library nor from
    annotated_types.
    """
    package, _, place = target.partition(".")
    module, _, name = place.rpartition(".")
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if package != PACKAGE.name or not path.is_file():
        return None
    body = ast.parse(path.read_text()).body
    node = next((n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name), None)
    if isinstance(node, ast.ClassDef):
        node = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if node is None:
        return None
    names = Names(body)
    arguments, needed = node.args.args + node.args.kwonlyargs, len(node.args.args) - len(node.args.defaults)
    defaults = [*[None] * needed, *node.args.defaults, *node.args.kw_defaults]
    parameters = [(a, default) for a, default in zip(arguments, defaults, strict=True) if a.arg != "self"]
    return {a.arg: (names.evaluate(a.annotation), ... if default is None else None) for a, default in parameters}


class Names(dict):
    """The names that an annotation can use: builtins, typing, annotated_types, and aliases of its module."""

    def __init__(self, body: list[ast.stmt]) -> None:
        known = [builtins, collections.abc, typing, annotated_types]
        # A sequence in a configuration is a list.
        super().__init__({name: value for module in known for name, value in vars(module).items()}, Made=Made, Sequence=list)
        self.aliases = {
            statement.targets[0].id: statement.value
            for statement in body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }

    def __missing__(self, name: str) -> Any:
        if name in self.aliases:
            return self.evaluate(self.aliases[name])
        raise KeyError(name)

    def evaluate(self, annotation: ast.expr | None) -> Any:
        if annotation is None:
            return Any
        known = ast.fix_missing_locations(Foreign({*self, *self.aliases}).visit(annotation))
        return eval(compile(ast.Expression(known), "<annotation>", "eval"), {}, self)


class Foreign(ast.NodeTransformer):
    """Replaces each dotted name by `Made`, unless it begins with a `known` name."""

    def __init__(self, known: set[str]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return node if node.id in self.known else ast.Name("Made", ast.Load())

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            root = root.value
        return node if isinstance(root, ast.Name) and root.id in self.known else ast.Name("Made", ast.Load())
