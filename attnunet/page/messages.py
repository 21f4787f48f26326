"""Messages on the page. They show names and paths unchanged."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from attnunet.errors import explain


@contextmanager
def explained() -> Iterator[None]:
    """Show the message of an error that the user can fix, and end the page there. Pass on any other error."""
    try:
        yield
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        st.error(plain(message))
        st.stop()


def plain(text: str) -> str:
    """Return a text that Streamlit shows unchanged: each character of Markdown is escaped, and each line keeps its end."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text).replace("\n", "  \n")
