"""Remove credentials from a text before the text is stored."""

import os
import re

HIDDEN = "***"
IN_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+@")
"""Matches the user and the password before the host of an address."""
IN_QUERY = re.compile(r"(?<=[?&])((?:[\w-]*(?:token|password|secret|key))=)[^&\s'\"]+", re.IGNORECASE)
"""Matches a credential in the query of an address."""
VARIABLE = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|_KEY$", re.IGNORECASE)
"""Matches the name of an environment variable that holds a credential."""
SHORTEST = 6  # characters; a shorter value could also be part of a word that is not secret


def redact(text: str) -> str:
    """Return the text with *** in place of each credential.

    The credentials are the parts of addresses that IN_ADDRESS and IN_QUERY match, and the values of the environment variables
    that VARIABLE matches.
    """
    text = IN_QUERY.sub(rf"\g<1>{HIDDEN}", IN_ADDRESS.sub(f"{HIDDEN}@", text))
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    return text
