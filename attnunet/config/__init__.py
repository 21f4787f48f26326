"""Where the configuration is, what it may hold, and what a run is made of.

Imported by every command at once, so it imports only Hydra; pydantic, NumPy and the data modules come with the first check.
"""

from attnunet.config.checks import ConfigError, check, check_folder, check_keys, own, settle, typed
from attnunet.config.fingerprints import computation, digest, fingerprint, recipe
from attnunet.config.objects import data_and_split, divided, make, ready
from attnunet.config.targets import CONF

__all__ = [
    "CONF",
    "ConfigError",
    "check",
    "check_folder",
    "check_keys",
    "computation",
    "data_and_split",
    "digest",
    "divided",
    "fingerprint",
    "make",
    "own",
    "ready",
    "recipe",
    "settle",
    "typed",
]
