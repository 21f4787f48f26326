"""Where the configuration is, what it may hold, and what a run is made of.

Entry modules import this package, so it imports only Hydra. `checks` and `objects`, which import pydantic and NumPy, come
with the first check.
"""

from attnunet.config.entry import ConfigError, as_typed, check_folder, group_choices, settle, without_hydra
from attnunet.config.fingerprints import computation, digest, fingerprint, recipe
from attnunet.config.targets import CONF

__all__ = [
    "CONF",
    "ConfigError",
    "as_typed",
    "check_folder",
    "computation",
    "digest",
    "fingerprint",
    "group_choices",
    "recipe",
    "settle",
    "without_hydra",
]
