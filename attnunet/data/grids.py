"""The positions of a volume's voxels, and the turning of a volume to a plane's orientation and back."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from nibabel import affines, orientations

PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
"""The directions of the slices, rows and columns of each plane, as a reader looks at them.

The letters are nibabel's: S is up, I is down, P is to the back, L is to the left. For example, axial slices are seen from
below, with the front of the head at the top.
"""
CLOSE = 0.1
"""Two grids count as equal if no corner differs by more than this share of a voxel's smallest side."""
TILT = 30.0
"""The largest angle in degrees between the slices of a scan and the plane for which a network was trained.

Slices along the line from the anterior to the posterior commissure are tilted by 10 to 20 degrees. From 45 degrees on, another
axis of the file lies closer to the plane.
"""
STRETCH = 2.0
"""The largest ratio of the sides of a pixel in slices that were not acquired in their plane."""
LARGER = 1.01
"""A spacing counts as the largest if it exceeds the others by this factor. Smaller differences come from rounding."""


@dataclass(frozen=True)
class Grid:
    """The grid of a volume, with the axes in the order of the volume's file.

    Attributes:
        shape: (x, y, z).
        affine: (4, 4), from voxel indices to millimetres. The millimetres run to the right, to the front and up.
        known: whether the file tells the orientation. If not, `affine` is a guess.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    known: bool = True

    @cached_property
    def axes(self) -> np.ndarray:
        """nibabel's orientation of the file's axes, (3, 2). An oblique grid has the nearest orientation."""
        return orientations.io_orientation(self.affine)

    def turn(self, plane: str) -> np.ndarray:
        """Return nibabel's transform from the file's axes to the slices, rows and columns of a plane."""
        return orientations.ornt_transform(self.axes, orientations.axcodes2ornt(PLANES[plane]))

    def show(self, voxels: np.ndarray, plane: str) -> np.ndarray:
        """Return voxels (x, y, z, ...), turned to (slices, rows, columns, ...) of a plane."""
        return np.ascontiguousarray(orientations.apply_orientation(voxels, self.turn(plane)))

    def restore(self, values: np.ndarray, plane: str) -> np.ndarray:
        """Return values (slices, rows, columns) of a plane, turned back to the order of the file, (x, y, z)."""
        back = orientations.ornt_transform(orientations.axcodes2ornt(PLANES[plane]), self.axes)
        return orientations.apply_orientation(values, back)

    def shown(self, plane: str) -> "Grid":
        """Return the grid of the voxels that `show` returns. Its axes are slices, rows and columns."""
        turn = self.turn(plane)
        shape = tuple(int(size) for size in np.array(self.shape)[np.argsort(turn[:, 0])])
        return Grid(shape, self.affine @ orientations.inv_ornt_aff(turn, self.shape), self.known)

    def spacing(self, plane: str) -> tuple[float, float, float]:
        """Return the distances in mm between the slices, between the rows and between the columns of a plane."""
        slices, rows, columns = affines.voxel_sizes(self.shown(plane).affine)
        return float(slices), float(rows), float(columns)

    @property
    def plane(self) -> str:
        """The plane across the axis with the largest spacing, or axial if no spacing counts as the largest."""
        between = {plane: self.spacing(plane)[0] for plane in PLANES}
        largest = max(between, key=between.__getitem__)
        others = (spacing for plane, spacing in between.items() if plane != largest)
        return largest if between[largest] > LARGER * max(others) else "axial"

    def tilt(self, plane: str) -> float:
        """Return the angle in degrees between the line from slice to slice and the axis of the body across a plane.

        An angle above 45 degrees cannot occur, because `show` takes the axis of the file that lies closest.
        """
        across = ("sagittal", "coronal", "axial").index(plane)
        return float(np.degrees(affines.obliquity(self.affine)[across]))

    def refusal(self, plane: str) -> str | None:
        """Return why a network for slices of `plane` cannot segment the volume; None if it can.

        The slices must not be tilted by more than TILT. If the scanner acquired slices of another plane, the sides of a pixel
        must not differ by more than the factor STRETCH.
        """
        if (tilt := self.tilt(plane)) > TILT:
            return f"its {plane} slices are tilted by {tilt:.3g} degrees; allowed: up to {TILT:.0f}, so resample the scan"
        _, rows, columns = self.spacing(plane)
        if self.plane != plane and max(rows, columns) > STRETCH * min(rows, columns):
            return (
                f"acquired in {self.plane} slices, and a pixel of its {plane} slices measures {rows:.3g} x {columns:.3g} mm; "
                f"allowed: {plane} slices, or sides that differ by up to a factor of {STRETCH:.0f}, so resample the scan"
            )
        return None

    def differs(self, other: "Grid") -> str | None:
        """Return a text that tells how another grid differs from this grid, or None if the two count as equal.

        The two files may have their axes in different orders.
        """
        if self.shape == other.shape and np.array_equal(self.affine, other.affine):
            return None  # the usual case, and much faster: a data set has thousands of grids
        mine, theirs = self.shown("axial"), other.shown("axial")
        if mine.shape != theirs.shape:
            return f"{mine.shape} voxels against {theirs.shape} (slices, rows, columns)"
        ends = np.array(np.meshgrid(*((0, size - 1) for size in mine.shape))).reshape(3, -1).T
        apart = np.abs(affines.apply_affine(mine.affine, ends) - affines.apply_affine(theirs.affine, ends)).max()
        return f"corners {apart:.3g} mm apart" if apart > CLOSE * min(self.spacing("axial")) else None
