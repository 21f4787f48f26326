"""Where the configuration is, what it may hold, and what a run is made of.

Imported by every command at once, so it imports only Hydra; pydantic, NumPy and the data modules come with the first check.
"""

from attnunet.config.checks import ConfigError, as_typed, check, check_folder, check_keys, settle, without_hydra
from attnunet.config.fingerprints import computation, digest, fingerprint, recipe
from attnunet.config.objects import check_objects, check_run, divide, make, prepare_data
from attnunet.config.targets import CONF

__all__ = [
    "CONF",
    "ConfigError",
    "as_typed",
    "check",
    "check_folder",
    "check_keys",
    "check_objects",
    "check_run",
    "computation",
    "digest",
    "divide",
    "fingerprint",
    "make",
    "prepare_data",
    "recipe",
    "settle",
    "without_hydra",
]
