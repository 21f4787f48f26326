"""The functions and classes that a configuration may name as a `_target_`.

A configuration is data. A foreign configuration, for example that of a stored run, must not be able to run a command.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attnunet.errors import UserError, first_line

PACKAGE = Path(__file__).parent.parent
CONF = str(next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()))
"""The folder of the configuration. In a wheel, it is inside the package; in a checkout, it is beside the package."""

PACKAGES = {
    "model": ("keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints"),
    "loss": ("keras.losses",),
    "augment": ("albumentations",),
    "hydra/sweeper": ("optuna.samplers", "optuna.pruners"),
}
"""The third-party packages whose classes each group may name.

From attnunet, a group may name only the targets in its own files in conf/.
"""

own: set[str] = set()
"""The user's own modules that this process may import; see `allow`."""


class TargetError(UserError):
    """A `_target_` that a configuration may not name, or that does not exist; the message says what is allowed."""


def allow(modules: Iterable[str]) -> None:
    """Allow configurations and checkpoints to name the functions and classes that the user's own `modules` define.

    Only the command line can allow a module. A stored run cannot, because its store may have been copied from elsewhere.
    """
    own.update(modules)
    if own and "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: the modules lie in the folder where the command starts


def own_modules(node: Any) -> tuple[str, ...]:
    """Return the user's own modules that define the `_target_`s of a configuration."""
    modules = {target.rpartition(".")[0] for target in find_targets(node)}
    return tuple(sorted(module for module in modules if is_within(module, own)))


def check_modules(modules: Sequence[Any], user: str) -> None:
    """Check that these modules may be imported for a stored run. The text `user` names the run in the message.

    Raises:
        TargetError: the command line does not allow one of the modules.
    """
    if any(not isinstance(module, str) or not is_within(module, own) for module in modules):
        wanted = ",".join(str(module) for module in modules)
        raise TargetError(
            f"{user}: to load its network, the modules {wanted} have to be imported, which runs them; modules=[...] allows "
            f"{', '.join(sorted(own)) or 'none'}; give 'modules=[{wanted}]' if you trust them"
        )


def import_modules(modules: Sequence[Any], user: str) -> None:
    """Import the modules that a stored run needs, and all modules that the command line allows.

    The run may need a module that it does not list, because an old predictor.json lists no modules. The command line can name
    such a module. The text `user` names the run in the message.

    Raises:
        TargetError: the command line does not allow a module, or its import fails.
    """
    check_modules(modules, user)
    for module in sorted(own.union(modules)):
        try:
            import_module(module)
        except Exception as error:  # an import runs code, which can raise any error
            where = "modules are looked for in the folder where the command starts, and among the installed packages"
            raise TargetError(f"modules=[{module}]: cannot be imported ({first_line(error)}); {where}") from error


@cache
def own_targets(group: str) -> tuple[str, ...]:
    """Return the targets of attnunet that are named in the files of a group in conf/."""
    texts = (path.read_text() for path in sorted(Path(CONF, group).glob("*.yaml")))
    found = (name for text in texts for name in re.findall(r"_target_: *(attnunet\.[\w.]+)", text))
    return tuple(dict.fromkeys(found))


def is_within(name: str, packages: Iterable[str]) -> bool:
    """Return whether a dotted name is the name of one of the packages, or lies in one of the packages."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def read_exports(package: str) -> frozenset[str]:
    """Return the names that a package of Keras exports. Read them from its source: an import would load TensorFlow."""
    keras = find_spec("keras")
    assert keras is not None
    assert keras.origin is not None
    source = Path(keras.origin).parent.joinpath(*package.split(".")[1:], "__init__.py").read_text()
    home = package.replace("keras.", "keras.src.")
    imports = [statement for statement in ast.parse(source).body if isinstance(statement, ast.ImportFrom)]
    return frozenset(alias.name for found in imports if is_within(found.module or "", (home,)) for alias in found.names)


def check(target: Any, group: str) -> None:
    """Check that a group may name the target, without importing it.

    Raises:
        TargetError: the group may not name it, or Keras has no such class.
    """
    module, _, name = str(target).rpartition(".")
    if module in PACKAGES.get(group, ()):
        if module.startswith("keras.") and name not in read_exports(module):
            raise TargetError(f"_target_={target}: {module} has no such class")
        return
    if target in own_targets(group) or (module and is_within(module, own)):
        return
    of_others = [f"a class of {package}" for package in PACKAGES.get(group, ())]
    allowed = ", ".join([*own_targets(group), *of_others, "a function or class of your own module, if modules=[...] names it"])
    raise TargetError(f"_target_={target}: may not be named here; allowed: {allowed}")


def check_identity(target: str, group: str) -> None:
    """Import a target, and check that it is defined in the module that its name gives.

    For example, `albumentations.os` is not defined in albumentations.

    Raises:
        TargetError: the target may not be named, cannot be imported, or is defined elsewhere.
    """
    check(target, group)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # an import runs code, which can raise any error
        raise TargetError(f"_target_={target}: there is no such function or class ({first_line(error)})") from error
    home = getattr(found, "__module__", None) or ""
    if target in own_targets(group):
        defined = True
    elif module in PACKAGES.get(group, ()):  # keras.layers exports the classes of keras.src.layers
        defined = isinstance(found, type) and is_within(home, (module, module.replace("keras.", "keras.src.")))
    else:
        defined = callable(found) and is_within(home, own)
    if not defined:
        raise TargetError(f"_target_={target}: is not defined in {module}; name a function or class by where it is defined")


def find_targets(node: Any) -> Iterator[str]:
    """Yield every `_target_` in a configuration. A target comes before the targets in its arguments."""
    if isinstance(node, dict):
        yield from ([str(node["_target_"])] if "_target_" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from find_targets(value)
