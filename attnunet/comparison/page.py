"""The comparison as a single HTML file, which needs no network connection and no script."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attnunet.comparison.pairs import decimals, millions
from attnunet.comparison.shared import describe_choices, list_origins, list_settings
from attnunet.comparison.table import Comparison, summary
from attnunet.figures.comparison import choose_pairs, draw_all


def page(
    comparison: Comparison,
    title: str,
    left_out: Sequence[str],
    notes: Sequence[str],
    facts: Mapping[str, str],
    server: str = "",
) -> str:
    """Return the HTML text of the page.

    `left_out` holds a line for each run that was left out. `notes` are shown after the notes of the comparison. `facts` tell
    where the page comes from. Each fact has a name and a text, for example the command. `server` is the command that must run
    for the links to MLflow's pages to open, if there is one.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["score"] = decimals
    environment.filters["millions"] = millions
    settings = list_settings(comparison)
    return environment.get_template("page.html").render(
        comparison=comparison,
        title=title,
        summary=summary(comparison),
        figures=draw_all(comparison),
        verdicts=list(zip(comparison.pairs, comparison.sentences, strict=True)),
        drawn_pairs=len(choose_pairs(comparison.pairs)),
        choices=describe_choices(settings),
        settings=settings,
        origins=list_origins(comparison),
        left_out=left_out,
        server=server,
        notes=[*comparison.notes(), *notes],
        facts=facts,
    )
