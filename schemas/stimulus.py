"""Images, by content, and the trials that showed them."""

from __future__ import annotations

from collections.abc import Sequence

import datajoint as dj
import numpy as np
from numpy.typing import NDArray

from pipeline.registry import config_hash
from schemas import experiment  # noqa: F401  named in definitions
from schemas.pictures import ShowsPictures, rows_of

schema = dj.Schema()


@schema
class Image(ShowsPictures, dj.Manual):
    definition = """
    # An 8-bit gray image, named by its content
    image_hash      : char(64)       # SHA-256 of b'{height}x{width}:' and the pixels row by row
    ---
    height_px       : int32          # height (px)
    width_px        : int32          # width (px)
    """

    def pictures(self, most):
        """Return the first images whose pixels are in a set."""
        hashes = [row["image_hash"] for row in rows_of(self, most)]
        found = load_images(ImageSet.locate(hashes))
        return [(name[:8], found[name]) for name in hashes if name in found]


@schema
class ImageSet(dj.Manual):
    definition = """
    # Images of one size that came together; the array holds their pixels
    imageset_hash   : char(16)       # hash of the sorted image hashes
    ---
    imageset_name='' : varchar(128)  # where the images came from
    n_images        : int32          # number of images
    images          : <npy@main>     # uint8 (images, height, width), in gray levels
    """

    class Member(dj.Part):
        definition = """
        # Where in the array an image is
        -> master
        -> Image
        ---
        set_index   : int32          # row of the array, from 0
        """

    @classmethod
    def add(cls, hashes: Sequence[str], images: NDArray[np.uint8], name: str = "") -> dict:
        """Insert images of one size, unless they are there, and return the key of their set.

        Parameters
        ----------
        hashes : sequence of str
            Content hash of every image; may repeat.
        images : uint8 array, shape (images, height, width)
        name : str
            Where they came from.
        """
        order = {image_hash: index for index, image_hash in enumerate(hashes)}
        hashes = sorted(order)
        key = {"imageset_hash": config_hash(hashes)}
        if cls & key:
            return key
        height, width = images.shape[1:]
        Image.insert(
            (
                {"image_hash": name, "height_px": int(height), "width_px": int(width)}
                for name in hashes
            ),
            skip_duplicates=True,
        )
        stacked = np.ascontiguousarray(images[[order[image_hash] for image_hash in hashes]])
        cls.insert1({**key, "imageset_name": name, "n_images": len(hashes), "images": stacked})
        cls.Member.insert(
            {**key, "image_hash": image_hash, "set_index": index}
            for index, image_hash in enumerate(hashes)
        )
        return key

    @classmethod
    def locate(cls, hashes: Sequence[str]) -> list[tuple]:
        """Return where images lie: (reference to an array, list of rows, list of hashes) per set.

        Every image is read from the first set that holds it. Nothing is loaded.
        """
        wanted = sorted(set(hashes))
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(wanted), 1000):  # bounded length of the query
            rows = cls.Member & [{"image_hash": h} for h in wanted[start : start + 1000]]
            for row in rows.to_dicts(order_by=["image_hash", "imageset_hash"]):
                found.setdefault(row["image_hash"], (row["imageset_hash"], row["set_index"]))
        by_set: dict[str, list[tuple[int, str]]] = {}
        for image_hash, (imageset, index) in found.items():
            by_set.setdefault(imageset, []).append((index, image_hash))
        return [
            (
                (cls & {"imageset_hash": imageset}).fetch1("images"),
                [index for index, _ in sorted(members)],
                [image_hash for _, image_hash in sorted(members)],
            )
            for imageset, members in sorted(by_set.items())
        ]


def load_images(located: list[tuple]) -> dict[str, NDArray[np.uint8]]:
    """Return image hash -> pixels, uint8 (height, width), of what `ImageSet.locate` found."""
    images = {}
    for reference, indices, hashes in located:
        array = reference.load(mmap_mode="r")
        images.update(zip(hashes, np.asarray(array[indices]), strict=True))
    return images


@schema
class Trial(dj.Manual):
    definition = """
    # One presentation of an image, as the rig reported it
    -> experiment.Scan
    trial_idx       : int32          # number of the trial
    ---
    -> Image
    onset_s         : float64        # image on (s, clock of the stimulus computer)
    offset_s        : float64        # image off (s, same clock)
    blank_before_s=null : float64    # gray screen before the image (s)
    """
