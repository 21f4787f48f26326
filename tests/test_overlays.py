"""The pictures of slices on the page, with pixels worked by hand."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from attnunet.figures.overlays import overlay, picture_size
from attnunet.figures.style import PREDICTION

GREY = np.full((4, 4), 100, np.uint8)
OUTLINE = [round(255 * part) for part in to_rgb(PREDICTION)]


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [
        ((10, 20), None, (50, 100)),
        ((20, 10), (5.0, 1.0, 1.0), (100, 50)),
        ((10, 20), (5.0, 2.0, 1.0), (100, 100)),  # 20 mm in both directions
        ((1, 1000), None, (1, 100)),
    ],
)
def test_a_millimetre_has_the_same_length_in_both_directions(
    shape: tuple[int, int], spacing: tuple[float, ...] | None, size: tuple[int, int]
) -> None:
    assert picture_size(shape, spacing, 100) == size


def test_an_image_alone_is_grey() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(overlay(image, (4, 4)), np.repeat(image[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("weight", "fade", "color"),
    [
        (0.0, True, (100, 100, 100)),
        (1.0, True, (192, 179, 62)),  # 0.6 times viridis' yellow (253.3, 231.1, 36.7), and 0.4 times 100
        (1.0, False, (192, 179, 62)),
        (0.0, False, (81, 41, 90)),  # 0.6 times viridis' violet (68.1, 1.2, 84.0), and 0.4 times 100
        (2.0, True, (192, 179, 62)),
    ],
)
def test_weights_are_drawn_in_the_colours_of_viridis(weight: float, fade: bool, color: tuple[int, int, int]) -> None:
    picture = overlay(GREY, (8, 8), weights=np.full((4, 4), weight, np.float32), fade=fade)
    np.testing.assert_array_equal(picture, np.broadcast_to(color, (8, 8, 3)))


def test_an_outline_follows_the_edges_of_the_pixels() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[1:3, 1] = 1
    picture = overlay(GREY, (80, 80), mask)
    there = (picture == OUTLINE).all(axis=-1)
    rows, columns = np.nonzero(there)
    assert (rows.min(), rows.max()) == pytest.approx((20, 59), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((20, 39), abs=1)
    assert (picture[25:55, 25:35] == 100).all()  # inside
    assert (picture[:15] == 100).all()
    assert (picture[:, 45:] == 100).all()
    assert (overlay(GREY, (80, 80), np.zeros((4, 4), np.uint8)) == 100).all()
    frame = (overlay(GREY, (80, 80), np.ones((4, 4), np.uint8)) == OUTLINE).all(axis=-1)
    assert frame[0].all()  # also at the border of the picture
    assert frame[:, -1].all()
