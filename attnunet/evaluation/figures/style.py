"""The one look of all figures: sizes, colours that the colour-blind tell apart, contours, files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

# Okabe and Ito 2008.
TRUTH, PREDICTION, THIRD = "#E69F00", "#56B4E9", "#009E73"
WIDTH = 7.0  # inches, two columns
FONT = 7  # points


def show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=FONT)
    axes.set_xticks([])
    axes.set_yticks([])


def contour(axes: Axes, mask: np.ndarray, color: str, style: str) -> None:
    """The outline of a mask, closed along the image's edge; nothing for an empty one."""
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
    drawn.set_path_effects([withStroke(linewidth=1.8, foreground="black")])  # to stand out on bright tissue
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def legend(figure: Figure, **lines: tuple[str, Any]) -> None:
    """Below the whole figure: each line's label with its colour and style."""
    handles = [Line2D([], [], color=color, linestyle=style, label=label) for label, (color, style) in lines.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=FONT)


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Each figure as PNG and as PDF, whose lines stay lines in a paper."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        if engine := figure.get_layout_engine():  # once; with an engine, each file has the figure laid out and drawn twice
            engine.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(folder / f"{name}.png", dpi=150)
        figure.savefig(folder / f"{name}.pdf")
