"""Find the code that a name reaches: its definition, the definitions that this definition uses, and so on.

The code is read from source files; it is not imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attnunet.config import targets
from attnunet.config.targets import PACKAGE, is_within
from attnunet.data.files import digest

IGNORED = {"annotation", "returns", "ctx", "kind", "type_comment"}
"""Fields of a syntax tree that change no result."""
Imports = dict[str, str]
"""Maps each name that an import statement defines to the dotted name that it stands for."""


@dataclass(frozen=True)
class Module:
    """A parsed source file.

    Attributes:
        imports: the names that it imports.
        definitions: the statements of each definition, by the name of the definition. The name "" stands for statements that
            define nothing, for example a call. Such statements run whenever the module is imported.
        hashes: the hash of each definition.
        uses: the dotted names that each definition uses.
    """

    imports: Imports
    definitions: dict[str, list[ast.stmt]]
    hashes: dict[str, str]
    uses: dict[str, tuple[str, ...]]


def reach(names: Iterable[str], leave_out: Iterable[str] = ()) -> dict[str, str]:
    """Return the hash of each definition that `names` reach, by the dotted name of the definition.

    A name is that of a definition or of a module. The name of a module stands for all definitions in the module. Only code of
    attnunet and of the user's own modules is followed. The names in `leave_out`, and the names below them, are not followed.
    Annotations are followed, because a method may be reached only through an annotation. Annotations, docstrings, comments
    and error messages are not hashed. A local variable with the name of a definition counts as a use of the definition: a
    needless training costs less than a stale result.
    """
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        home, inner = split_name(waiting.pop())
        if home is None or is_within(f"{home}.{inner}", leave_out):
            continue
        module = read_module(home)
        if inner in module.imports:
            waiting.append(module.imports[inner])
            continue
        for part in module.hashes.keys() & {"", inner} if inner else module.hashes:
            if f"{home}.{part}" not in found:
                found[f"{home}.{part}"] = module.hashes[part]
                waiting += module.uses[part]
    return found


def split_name(name: str) -> tuple[str | None, str]:
    """Return the module and the definition in a dotted name; return (None, "") if the module has no source to follow."""
    parts = name.split(".")
    homes = ((".".join(parts[:n]), parts[n] if n < len(parts) else "") for n in range(len(parts), 0, -1))
    return next(((home, inner) for home, inner in homes if source(home)), (None, ""))


def source(module: str) -> Path | None:
    """Return the source file of a module of attnunet or of the user; None for any other name.

    A module is the user's if the command line allows it, or if it is not installed.
    """
    return find_source(module, is_within(module, targets.own))


@cache
def find_source(module: str, allowed: bool) -> Path | None:
    """Return the source file of a module. If it is not `allowed`, return None for a module of an installed package."""
    package = module.partition(".")[0]
    root = PACKAGE.parent if package == PACKAGE.name else (find_root(package) if allowed else own_root(package))
    if root is None:
        return None
    path = root.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def own_root(package: str) -> Path | None:
    """Return the folder that holds a user's own module or package; None for installed packages and the standard library."""
    root = find_root(package)
    return None if root is None or {"site-packages", "dist-packages"} & {*root.parts} else root


def find_root(package: str) -> Path | None:
    """Return the folder that holds a module or package; None for the standard library and for names that do not exist."""
    spec = None if package in sys.stdlib_module_names else find_spec(package)
    if spec is None:
        return None
    return Path(next(iter(spec.submodule_search_locations or ()), spec.origin or "")).parent


def read_module(name: str) -> Module:
    """Return a parsed module. Parse its file only at the first call, and again after the file has changed."""
    path = source(name)
    assert path is not None
    return parse(name, path, path.stat().st_mtime_ns)


@cache
def parse(name: str, path: Path, modified: int) -> Module:
    """Parse the file of a module.

    The result is cached, because the jobs of a sweep share a process. The key of the cache holds the path and the modification
    time of the file, so that a changed file is parsed again.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports: Imports = {}
    definitions: dict[str, list[ast.stmt]] = {"": []}
    for statement in ast.parse(path.read_bytes()).body:
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
            imports |= read_imports(statement, package)
        if not isinstance(statement, ast.Import | ast.ImportFrom) and not is_for_types(statement):
            for definition in [*find_definitions(statement)] or [""]:
                definitions.setdefault(definition, []).append(statement)
    known = imports | {definition: f"{name}.{definition}" for definition in definitions}
    hashes = {definition: digest(as_plain(body)) for definition, body in definitions.items()}
    uses = {
        key: tuple({use: None for node in body for use in find_uses(node, known, package)})
        for key, body in definitions.items()
    }
    return Module(imports, definitions, hashes, uses)


def find_definitions(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a top-level statement of a module defines; an import defines none."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
        # The name in `os.environ["KEY"] = ...` is only loaded: such a statement defines nothing.
        yield from (name.id for name in names if isinstance(name.ctx, ast.Store))


def read_imports(node: ast.AST, package: str) -> Imports:
    """Return the imports in and below a node. Relative imports start from `package`, which is the package of the module."""
    found: Imports = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            found |= {
                alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
                for alias in inner.names
            }
        elif isinstance(inner, ast.ImportFrom):
            above = package.rsplit(".", inner.level - 1)[0] if inner.level else ""
            home = ".".join(filter(None, [above, inner.module]))
            found |= {alias.asname or alias.name: f"{home}.{alias.name}" for alias in inner.names}
    return found


def is_for_types(statement: ast.stmt) -> bool:
    """Return whether a statement is an `if TYPE_CHECKING`."""
    return isinstance(statement, ast.If) and isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"


def is_text(node: Any) -> bool:
    """Return whether a statement is only a string, for example a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def find_uses(node: ast.AST, known: Imports, package: str) -> Iterator[str]:
    """Yield the dotted name of each name that a node uses. The name must be in `known`, or be imported in the function.

    A `raise` statement is skipped.
    """
    if isinstance(node, ast.Raise):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        known = known | read_imports(node, package)
    chain: list[str] = []
    root = node
    while isinstance(root, ast.Attribute):
        chain.insert(0, root.attr)
        root = root.value
    if isinstance(root, ast.Name):
        if root.id in known:
            yield ".".join([known[root.id], *chain])
        return
    for child in ast.iter_child_nodes(root):
        yield from find_uses(child, known, package)


def as_plain(node: Any) -> Any:
    """Return a syntax tree in the form of lists and strings. Leave out the parts that change no result.

    The form is the same in all versions of Python.
    """
    if isinstance(node, list):
        return [as_plain(inner) for inner in node if not is_text(inner)]
    if isinstance(node, ast.Raise):
        return "Raise"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name not in IGNORED]
    return [type(node).__name__, *([name, as_plain(value)] for name, value in fields)]
