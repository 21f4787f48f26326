"""The text files for a paper."""

from attnunet.comparison.paper.claim import claim
from attnunet.comparison.paper.cohort import cohort_rows
from attnunet.comparison.paper.facts import Protocol
from attnunet.comparison.paper.methods import methods
from attnunet.comparison.paper.tables import latex_table, markdown_table
from attnunet.data.files import write_csv


def paper_files(protocol: Protocol, title: str) -> dict[str, str]:
    """Return the text of each file by its name."""
    return {
        "table.tex": latex_table(protocol, title),
        "table.md": markdown_table(protocol),
        "cohort.csv": write_csv(cohort_rows(protocol)),
        "methods.md": methods(protocol),
        "claim.md": claim(protocol),
    }
