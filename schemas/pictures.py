"""Tables that show the images that their rows hold, where a notebook shows the table."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

MOST = 8  # images below a table
HEIGHT_PX = 108

Pictures = list[tuple[str, NDArray]]


class ShowsPictures:
    """Mixin of a table: its HTML ends with the images of its first rows.

    A table says by `pictures` what they are. It comes before `dj.Manual`, `dj.Part` and so on.
    """

    def pictures(self, most: int) -> Pictures:
        """Return labels and images (H, W), in any units, of the first rows."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        table: str = super()._repr_html_()  # type: ignore[misc]
        try:
            found = self.pictures(MOST)
        except (DataError, OSError, FileNotFoundError) as error:  # a store that is not there
            return f"{table}<p>The images cannot be read: {escape(str(error))}</p>"
        return table + _strip(found)


def rows_of(table: Any, most: int) -> list[dict[str, Any]]:
    """Return the first rows of a query in the order of its key."""
    return table.to_dicts(order_by="KEY", limit=most)


def eight_bit(image: NDArray) -> NDArray[np.uint8]:
    """Return an image from its 1st to its 99.5th percentile as gray levels; 8 bits stay."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    low, high = np.nanpercentile(image, [1, 99.5])
    scaled = (image - low) / max(float(high - low), 1e-12)
    return (np.nan_to_num(np.clip(scaled, 0, 1)) * 255).round().astype(np.uint8)


def _strip(pictures: Pictures) -> str:
    from pipeline.stimulus.images import png_bytes

    figures = []
    for label, image in pictures:
        data = base64.b64encode(png_bytes(eight_bit(image))).decode()
        name = escape(label)
        figures.append(
            f'<figure style="margin:0 6px 6px 0"><img alt="{name}" height="{HEIGHT_PX}" '
            f'style="image-rendering:pixelated" src="data:image/png;base64,{data}">'
            f'<figcaption style="font-size:smaller">{name}</figcaption></figure>'
        )
    return f'<div style="display:flex;flex-wrap:wrap">{"".join(figures)}</div>'
