"""How large an image is made for a model: few rows, and the aspect ratio of the monitor."""

from __future__ import annotations

from collections.abc import Iterable

STORED_HEIGHTS = range(24, 49)  # rows that are tried for another aspect ratio
STORED_TOLERANCE = 0.005


def same_aspect(
    shape: tuple[int, int],
    heights: Iterable[int],
    *,
    tolerance: float,
    multiple: int = 1,
    least_columns: int = 1,
) -> tuple[int, int] | None:
    """Return the first size, among those of some heights, that keeps an aspect ratio.

    Parameters
    ----------
    shape : (int, int)
        Height and width whose ratio is kept.
    heights : iterable of int
        Rows to try, in this order.
    tolerance : float
        Largest relative error of the ratio.
    multiple, least_columns : int
        What the number of columns is a multiple of, and its least.

    Returns
    -------
    (int, int) or None
        Height and width; None if no height is near enough.

    Examples
    --------
    >>> same_aspect((1080, 1920), [36, 40], tolerance=0.01)
    (36, 64)
    >>> same_aspect((1200, 1920), [36, 40], tolerance=0.005)
    (40, 64)
    """
    ratio = shape[1] / shape[0]
    for rows in heights:
        columns = multiple * round(rows * ratio / multiple)
        if columns >= least_columns and abs(columns / (rows * ratio) - 1) <= tolerance:
            return rows, columns
    return None


def stored_shape(shape: tuple[int, int], height: int) -> tuple[int, int]:
    """Return the size of a data set's images: about `height` rows, as the shown images' aspect.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the images that were shown (px).
    height : int
        Wanted rows (px).

    Returns
    -------
    (int, int)
        The images' own size if they have no more rows; `height` rows if no number of rows near it
        keeps the aspect ratio to 0.5 %.
    """
    if shape[0] <= height:
        return shape
    nearest = sorted(STORED_HEIGHTS, key=lambda rows: (abs(rows - height), rows))
    rows = (rows for rows in nearest if rows <= shape[0])
    found = same_aspect(shape, rows, tolerance=STORED_TOLERANCE)
    return found or (height, round(height * (shape[1] / shape[0])))
