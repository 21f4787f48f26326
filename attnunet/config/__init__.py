"""The configuration: where it is, what it may hold, what it makes, and the fingerprints of a run.

Entry modules import this package, so it imports only Hydra; pydantic and NumPy come with `checks` and `objects`.
"""

from attnunet.config.entry import ConfigError, as_typed, check_folder, group_choices, settle, without_hydra
from attnunet.config.targets import CONF

__all__ = ["CONF", "ConfigError", "as_typed", "check_folder", "group_choices", "settle", "without_hydra"]
