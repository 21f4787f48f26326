"""The script that Streamlit runs for `attnunet-demo`, again after each action of the user.

Its arguments are the folder of a store, the run or "" for all runs, and the user's own modules that a network may need.
"""

import gc
import sys
from pathlib import Path

import streamlit as st

from attnunet.config import targets
from attnunet.page.messages import explained
from attnunet.training import runtime


@st.cache_resource(show_spinner="Loading TensorFlow")
def load_tensorflow() -> None:
    """Load TensorFlow with the settings of the commands, once for all sessions."""
    runtime.load_tensorflow()
    gc.freeze()  # Streamlit collects garbage after each action. With TensorFlow's objects, that would take 0.3 s.


def main() -> None:
    root, run, *modules = sys.argv[1:]
    targets.allow(modules)
    st.set_page_config(page_title="attnunet", layout="wide", initial_sidebar_state=400)
    with explained():
        load_tensorflow()
    from attnunet.page.app import show  # imports Keras, which must be configured first

    show(Path(root), run or None)


if __name__ == "__main__":
    main()
