"""The removal of credentials from text that is stored."""

import os
import re

HIDDEN = "***"
IN_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+@")
"""The user and the password in front of an address's host."""
IN_QUERY = re.compile(r"(?<=[?&])((?:[\w-]*(?:token|password|secret|key))=)[^&\s'\"]+", re.IGNORECASE)
"""A credential in an address's query."""
VARIABLE = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|_KEY$", re.IGNORECASE)
"""Names of environment variables that hold a credential."""
SHORTEST = 6  # characters; a shorter value would be found in words that are no secret


def redact(text: str) -> str:
    """Return the text with the credentials of addresses and of this process's environment hidden."""
    text = IN_QUERY.sub(rf"\g<1>{HIDDEN}", IN_ADDRESS.sub(f"{HIDDEN}@", text))
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    return text
