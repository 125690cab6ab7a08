"""Is a recording fit for use: summary images with their findings, motion, pupil and running."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from pipeline import plotting
from pipeline.behavior.pupil import PupilResult
from pipeline.behavior.treadmill import running_periods
from pipeline.behavior.video import frames_of
from pipeline.errors import DataError
from schemas import behavior, dataset, experiment, imaging
from workers.report.context import LoopPage
from workers.report.page import Picture, Section

IMAGES = {
    "mean": "mean_image",
    "correlation": "correlation_image",
    "maximum": "max_image",
    "L6": "l6_image",
}
EYE_FRAMES, EYE_SPAN = 10, 1000  # frames shown, out of the first so many
NUMBERS = (
    "field",
    "fit",
    "mean_intensity",
    "contrast",
    "intensity_drift",
    "photons",
    "saturated",
    "epileptiform_per_min",
)


def recording(
    page: LoopPage, scan: Mapping[str, Any], imaging_hash: str | None, tag: str, title: str
) -> Section | None:
    """Return what was measured of a scan itself; None if nothing was.

    Parameters
    ----------
    page : LoopPage
    scan : mapping
        Names one scan.
    imaging_hash : str or None
        Which of its processings.
    tag, title : str
        Of the files, and of the chapter.
    """
    key = {name: scan[name] for name in ("animal_id", "session", "scan_idx")}
    section = Section(title)
    if imaging_hash is not None:
        recipe = imaging.ImagingRecipe & {"imaging_hash": imaging_hash}
        rows: list[dict[str, Any]] = []
        for field in (imaging.Segmentation & key & recipe).keys(order_by="field"):
            rows += _field(page, section, field, tag)
        if rows:
            frame = pd.DataFrame(rows)
            page.csv(frame, f"{tag}_quality")
            section.tables.append(("Quality of the fields", frame[list(NUMBERS)]))
    _behavior(page, section, key, tag)
    return section if section.pictures else None


def _field(page: LoopPage, section: Section, key: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """Draw one field; return its rows of `Quality`. Nothing of traces extracted elsewhere."""
    motion = (imaging.Motion & key).fetch1()
    images = (imaging.SummaryImages & key).to_dicts()
    if motion["correlation_before"] is None or not images:
        return []
    number = key["field"]
    quality = (imaging.Quality & key).to_dicts(order_by="quality_hash")
    found = (imaging.Quality.Finding & key).to_dicts(order_by=["quality_hash", "finding"])
    masks, _ = imaging.load_masks(imaging.Segmentation.fetch_masks(key))
    figure = plotting.summary_figure(
        {name: images[0][column].load() for name, column in IMAGES.items()},
        masks,
        um_per_px=(imaging.ScanInfo.Field & key).fetch1("um_per_px_x"),
        findings=sorted({row["finding"] for row in found}) if quality else None,
    )
    name, title = f"{tag}_quality{number}", f"Quality of field {number}"
    caption = "Summary images of the corrected movie; below, with the masks."
    section.pictures.append(page.picture(figure, name, title, caption))
    section.remarks += [
        f"Field {number}: {row['finding']} {row['value']:.3g}, allowed {row['allowed']:.3g}: "
        f"{row['meaning']}."
        for row in found
    ]
    section.pictures.append(_motion(page, key, motion, images[0]["intensity"].load(), tag))
    return quality


def _motion(
    page: LoopPage, key: dict[str, Any], motion: dict[str, Any], intensity: np.ndarray, tag: str
) -> Picture:
    y, x = motion["shifts"].load()
    times = (behavior.Sync & key).to_dicts()
    fps = (imaging.ScanInfo & key).fetch1("fps")
    time_s = times[0]["frame_times"].load() if times else np.arange(len(y)) / fps
    size = (imaging.ScanInfo.Field & key).fetch1("um_per_px_y", "um_per_px_x")
    known = None not in size
    n = min(len(time_s), len(y), len(intensity))
    figure = plotting.motion_figure(
        time_s[:n],
        y[:n] * (size[0] if known else 1),
        x[:n] * (size[1] if known else 1),
        correlation=(motion["correlation_before"], motion["correlation_after"]),
        intensity=intensity[:n],
        unit="µm" if known else "px",
    )
    caption = (
        f"Displacement of the frame as a whole; {100 * motion['outlier_fraction']:.1f} % of the "
        "frames had a shift that was not believed."
    )
    if not motion["accepted"]:
        caption += " Correction would have made the frames less alike, so that none was made."
    number = key["field"]
    return page.picture(figure, f"{tag}_motion{number}", f"Motion of field {number}", caption)


def _behavior(page: LoopPage, section: Section, scan: dict[str, Any], tag: str) -> None:
    """Draw pupil and running, by the methods that the loop's data set is made with."""
    eyes = (behavior.Pupil & scan & "n_samples > 0").to_dicts(order_by="pupil_hash")
    wheels = (behavior.Treadmill & scan & "n_samples > 0").to_dicts(order_by="treadmill_hash")
    used = _methods(page)
    eye = next(
        (row for row in eyes if row["pupil_hash"] == used.get("pupil_hash")),
        eyes[0] if eyes else None,
    )
    wheel = next(
        (row for row in wheels if row["treadmill_hash"] == used.get("treadmill_hash")),
        wheels[0] if wheels else None,
    )
    if eye is None and wheel is None:
        return
    pupil = np.zeros((0, 5)) if eye is None else eye["pupil"].load()
    speed = np.zeros((0, 2)) if wheel is None else wheel["speed"].load()
    figure = plotting.behavior_figure(
        pupil[:, 0],
        PupilResult(*pupil[:, 1:].T),
        speed[:, 0],
        speed[:, 1],
        running_periods(*speed.T) if len(speed) else np.zeros((0, 2)),
    )
    section.pictures.append(page.picture(figure, f"{tag}_behavior", "Pupil and running"))
    if eye is not None and eye["pupil_source"] == "video":
        _eye(page, section, scan, PupilResult(*pupil[:, 1:].T), tag)


def _eye(
    page: LoopPage, section: Section, scan: dict[str, Any], pupil: PupilResult, tag: str
) -> None:
    """Draw the pupil on frames from the beginning of the video, if the video is still there."""
    try:
        (video,) = experiment.existing(experiment.Scan.files(scan, "eye_video"))
    except DataError as error:
        section.remarks.append(f"No frames of the eye are shown. {error}")
        return
    every = max(1, min(EYE_SPAN, len(pupil.radius_px)) // EYE_FRAMES)
    frames = list(islice(frames_of(video, every), EYE_FRAMES))[: len(pupil.radius_px)]
    figure = plotting.pupil_figure(np.stack(frames), every * np.arange(len(frames)), pupil)
    caption = f"Every {every}th frame from the beginning; the circle has the area of the pupil."
    section.pictures.append(page.picture(figure, f"{tag}_eye", "The pupil in the video", caption))


def _methods(page: LoopPage) -> dict[str, Any]:
    """Return the hashes of the methods by which the loop's data set reads pupil and running."""
    data = {"dataset_hash": page.dataset_hash}
    rows = (dataset.DatasetSpec.Scan & page.scan & data).to_dicts()
    return rows[0] if rows else {}
