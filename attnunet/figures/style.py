"""The style of all figures: sizes, colours for colour-blind readers, names, contours and files."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

# The colours are from Okabe and Ito 2008.
TRUTH, PREDICTION, THIRD = "#E69F00", "#56B4E9", "#009E73"
WIDTH = 7.0  # inches, the width of two columns of a paper
FONT = 7  # points
DPI = 150


@cache
def font() -> FT2Font:
    """Return the font of all figures. It is DejaVu Sans from matplotlib, unless a matplotlibrc names another font."""
    loaded = FT2Font(findfont(FontProperties()))
    loaded.set_size(1000, 72)
    return loaded


@cache
def glyph(character: str) -> str:
    """Return a character in a form that a figure can draw. Different characters always have different forms.

    Line breaks, control characters, backslashes and characters that the font lacks become Python escapes, for example
    \\u5f20. A dollar sign becomes matplotlib's escape, because matplotlib sets the text between two dollar signs as a formula.
    """
    if character == "$":
        return r"\$"
    shown = character.isprintable() and character != "\\" and font().get_char_index(ord(character))
    return character if shown else character.encode("unicode_escape").decode()


@cache
def advance(text: str) -> float:
    """Return the width of a text, in units of the font size."""
    return sum(font().load_char(ord(c)).linearHoriAdvance for c in text.replace(r"\$", "$")) / 65536 / 1000


def format_name(text: str, width: float, size: float = FONT) -> str:
    """Return a name in a form that a figure can draw. It is at most `width` inches wide at a font size of `size` points.

    A name that is too long loses its middle, which "…" replaces.
    """
    glyphs = [glyph(character) for character in text]
    room = width * 72 / size
    if sum(map(advance, glyphs)) <= room:
        return "".join(glyphs)
    room = (room - advance("…")) / 2
    start, end = (np.cumsum([advance(g) for g in ordered]).searchsorted(room, "right") for ordered in (glyphs, glyphs[::-1]))
    return "".join([*glyphs[:start], "…", *glyphs[len(glyphs) - end :]])


def labels(names: Sequence[str], width: float, size: float = FONT) -> list[str]:
    """Return a label for each name, in the form that `format_name` gives.

    If several labels would look the same, each of them gets a suffix: the place of its name in the list, from 1.
    """
    shown = [format_name(name, width, size) for name in names]
    times = Counter(shown)
    return [
        label if times[label] == 1 else f"{format_name(name, width - 5 * size / 72, size)} ({place})"
        for place, (name, label) in enumerate(zip(names, shown, strict=True), 1)
    ]


def name_places(axes: Axes, names: Sequence[str], width: float) -> None:
    """Set labels at the positions 0, 1, 2, ... of the horizontal axis, which is `width` inches wide.

    If the labels do not fit side by side, they are vertical. If they still do not fit, some labels are left out.
    """
    level = labels(names, width)
    if max(map(advance, level)) * FONT / 72 * 1.1 * len(names) <= width:
        axes.set_xticks(range(len(names)), level)
        return
    step = math.ceil(1.2 * FONT / 72 * len(names) / width)
    axes.set_xticks(range(0, len(names), step), labels(names, 1)[::step], rotation=90)


def show_image(axes: Axes, image: np.ndarray, title: str) -> None:
    """Draw an image (h, w) with values in [0, 255] in grey, with a title and without ticks."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=FONT)
    axes.set_xticks([])
    axes.set_yticks([])


def contour(axes: Axes, mask: np.ndarray, color: str, style: str) -> None:
    """Draw the outline of a mask, also where it touches the edge of the image. Draw nothing for an empty mask."""
    if not mask.any():
        return
    height, width = mask.shape
    drawn = axes.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        np.pad(mask, 1),
        levels=[0.5],
        colors=[color],
        linewidths=1.0,
        linestyles=[style],
    )
    drawn.set_path_effects([withStroke(linewidth=1.8, foreground="black")])  # visible on bright tissue
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def legend(figure: Figure, **lines: tuple[str, Any]) -> None:
    """Draw a legend below the figure. `lines` holds the colour and the style of each line by its label."""
    handles = [Line2D([], [], color=color, linestyle=style, label=label) for label, (color, style) in lines.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=FONT)


def lay_out(figure: Figure) -> None:
    """Lay out a figure once and for all, instead of twice for each of its files."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)


def save_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each figure as a PNG file and as a PDF file with vector lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.set_dpi(DPI)  # the PNG's resolution; another one changes the widths of letters and cuts them
        lay_out(figure)
        figure.savefig(folder / f"{name}.png", dpi=DPI)
        figure.savefig(folder / f"{name}.pdf")
