"""Write docs/guides/notebook.md, the page of the site, from docs/guides/notebook.ipynb."""

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parent.parent / "docs" / "guides" / "notebook.ipynb"
PAGE = NOTEBOOK.with_suffix(".md")
LINK = f"Download this page as a notebook: [{NOTEBOOK.name}]({NOTEBOOK.name})."


def render(notebook: str) -> str:
    """Return the text and the code of a notebook as Markdown, with a link to the notebook below the title."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook)["cells"]]
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells]
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join([title, LINK, rest.strip(), *parts[1:]]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(NOTEBOOK.read_text()))
