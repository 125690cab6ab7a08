"""Images, presentations and the monitor into an NWB file."""

from __future__ import annotations

import numpy as np
from hdmf.common import VectorData
from pynwb import NWBFile
from pynwb.base import ImageReferences, Images
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, IndexSeries

from pipeline.recording.nwb.session import Session
from pipeline.recording.nwb.timing import timing
from pipeline.recording.nwb.write_imaging import packed, plain

TEMPLATES, PLANNED, PRESENTED = "images", "planned_images", "presented_images"


def add_stimuli(file: NWBFile, session: Session) -> None:
    """Add every image once, by its content hash, the order in which they came, and the trials.

    Images are (x, y), as the standard says. What was planned of this scan, but shown on another
    day, is a collection of its own.
    """
    shown = [str(name) for name in session.trials.columns["image"].values]
    order = sorted(set(shown))
    templates = _images(session, TEMPLATES, order, "Images that were shown in this scan.")
    if templates is not None:
        file.add_stimulus_template(templates)
        index = {name: row for row, name in enumerate(order)}
        onset = np.asarray(session.trials.columns["start_time"].values, np.float64)
        sequence = np.argsort(onset, kind="stable")
        file.add_stimulus(
            IndexSeries(
                name=PRESENTED,
                description="Row of the image in order_of_images that came on at every time; "
                "off times are in the table of trials.",
                data=np.array([index[shown[row]] for row in sequence], np.uint32),
                indexed_images=templates,
                unit="N/A",
                **timing(onset[sequence]),
            )
        )
    planned = sorted(set(session.images) - set(order))
    others = _images(session, PLANNED, planned, "Images made for units of this scan.")
    if others is not None:
        file.add_stimulus_template(others)
    file.trials = TimeIntervals(
        name="trials",
        description=session.trials.meaning,
        columns=[
            VectorData(name=name, description=column.meaning, data=plain(column.values))
            for name, column in session.trials.known().items()
        ],
    )


def _images(session: Session, name: str, hashes: list[str], meaning: str) -> Images | None:
    if not hashes:
        return None
    images = [
        GrayscaleImage(
            name=image,
            data=packed(np.ascontiguousarray(session.images[image].T)),
            description=session.about.get(image, "image; its kind is not known"),
        )
        for image in hashes
    ]
    return Images(
        name=name,
        images=images,
        description=f"{meaning} 8-bit gray levels of the monitor, (x, y); the name of an image is "
        "the SHA-256 of its content, row by row; processing/misc/image_provenance says whence.",
        order_of_images=ImageReferences(name="order_of_images", data=images),
    )
