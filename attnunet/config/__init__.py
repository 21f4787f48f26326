"""The configuration: its folder, its checks, the objects that it names, and the fingerprints of a run.

Entry modules import this package, so its __init__ imports only Hydra. The modules `checks` and `objects` also import pydantic
and NumPy.
"""

from attnunet.config.entry import (
    ConfigError,
    as_typed,
    check_folder,
    format_override,
    group_choices,
    is_folder,
    list_names,
    settle,
    without_hydra,
)
from attnunet.config.targets import CONF

__all__ = [
    "CONF",
    "ConfigError",
    "as_typed",
    "check_folder",
    "format_override",
    "group_choices",
    "is_folder",
    "list_names",
    "settle",
    "without_hydra",
]
