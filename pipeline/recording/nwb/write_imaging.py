"""Movies, motion, masks and traces into an NWB file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.data_utils import GenericDataChunkIterator
from numpy.typing import NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.base import Images
from pynwb.image import GrayscaleImage
from pynwb.ophys import (
    Fluorescence,
    ImageSegmentation,
    ImagingPlane,
    OpticalChannel,
    PlaneSegmentation,
    RoiResponseSeries,
    TwoPhotonSeries,
)

from pipeline.recording.nwb.session import Plane, Session
from pipeline.recording.nwb.timing import timing

CHUNK_BYTES = 1 << 20
BUFFER_BYTES = 1 << 25  # of a movie that is in memory at a time
CCF = {
    "V1": "VISp",
    "LM": "VISl",
    "AL": "VISal",
    "RL": "VISrl",
    "AM": "VISam",
    "PM": "VISpm",
    "LI": "VISli",
    "POR": "VISpor",
}
"""Areas as laboratories call them, and in the Allen Mouse Brain Atlas."""


class MovieChunks(GenericDataChunkIterator):
    """Frames of a movie as (frame, x, y), a buffer at a time."""

    def __init__(self, movie: Any) -> None:
        self.movie = movie
        frames, height, width = movie.shape
        first = np.asarray(movie[0:1])
        self.kind = first.dtype
        chunk = max(1, min(frames, CHUNK_BYTES // max(1, first.nbytes)))
        buffer = min(frames, chunk * max(1, BUFFER_BYTES // max(1, chunk * first.nbytes)))
        super().__init__(buffer_shape=(buffer, width, height), chunk_shape=(chunk, width, height))

    def _get_data(self, selection: tuple[slice, ...]) -> NDArray:
        frames, x, y = selection
        return np.asarray(self.movie[frames]).transpose(0, 2, 1)[:, x, y]

    def _get_maxshape(self) -> tuple[int, int, int]:
        frames, height, width = self.movie.shape
        return frames, width, height

    def _get_dtype(self) -> np.dtype:
        return self.kind


def plain(values: Sequence[Any] | NDArray) -> NDArray | list[str]:
    """Return a column of numbers or text without None: NaN, or ""."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values
    values = list(values)
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, (bool, np.bool_)) for value in known):
        if len(known) == len(values):
            return np.array(values, bool)
    elif all(isinstance(value, (int, float, np.number)) for value in known):
        if len(known) == len(values) and all(isinstance(v, (int, np.integer)) for v in values):
            return np.array(values, np.int64)
        return np.array([np.nan if v is None else v for v in values], np.float64)
    return ["" if value is None else str(value) for value in values]


def packed(array: NDArray) -> H5DataIO:
    """Return an array that is compressed when it is written."""
    return H5DataIO(array, compression="gzip", compression_opts=1, shuffle=True)


def add_imaging(file: NWBFile, session: Session, folder: Path) -> None:
    """Add devices, planes, movies, and all that was computed of them.

    Parameters
    ----------
    file : NWBFile
    session : Session
    folder : path
        Where the file will lie; linked movies are named from there.
    """
    said = session.said
    rig = str(session.entries.get("rig", "unknown"))
    device = file.create_device(
        name=str(said.get("microscope", rig)).replace("/", "_").replace(":", "_"),
        description=f"Two-photon microscope of rig {rig!r}.",
        manufacturer=said.get("manufacturer"),
    )
    if session.monitor is not None:
        size = [session.entries["monitor"].get(name) for name in ("width_px", "height_px")]
        file.create_device(
            name="monitor",
            description=f"Monitor of {size[0]} x {size[1]} px; its measured curve is in "
            "processing/misc/monitor_calibration.",
        )
    module = file.create_processing_module(
        name="ophys", description="Motion, summary images, masks, traces and activity by field."
    )
    segmentation = None
    boxes: dict[str, Fluorescence] = {}
    times = timing(session.frame_times)
    for plane in session.planes:
        place = _imaging_plane(file, session, plane, device)
        _add_movie(file, session, plane, place, folder, times)
        _add_motion(module, plane, _first(session.frame_times, plane))
        if plane.images:
            module.add(
                Images(
                    name=f"summary_images_{plane.index}",
                    description=f"Images of field {plane.index} after correction of motion.",
                    images=[
                        GrayscaleImage(
                            name=name, data=packed(image.T), description=f"{name}, (x, y)"
                        )
                        for name, image in plane.images.items()
                    ],
                )
            )
        if plane.masks is None or not len(plane.units):
            continue
        if segmentation is None:
            segmentation = ImageSegmentation()
            module.add(segmentation)
        table = _plane_segmentation(plane, plane.masks, place)
        segmentation.add_plane_segmentation(table)
        _add_traces(module, boxes, session, plane, table)


def _imaging_plane(file: NWBFile, session: Session, plane: Plane, device: Any) -> ImagingPlane:
    said, entries = session.said, session.entries
    area = str(entries.get("brain_area", "unknown"))
    depth = entries.get("depth_um")
    about = [f"Field {plane.index}", f"area {area} as the rig calls it"]
    if depth is not None:
        about.append(f"first field {depth:g} um below the surface")
    channel = entries.get("imaging", {}).get("channel", 1)
    unknown = [n for n in ("excitation_nm", "emission_nm") if n not in said]
    if unknown:
        about.append(f"{' and '.join(unknown)} not known (NaN)")
    spatial: dict[str, Any] = {}
    if plane.um_per_px is not None:
        down, right = (float(size) for size in plane.um_per_px)
        spatial |= {"grid_spacing": [right, down], "grid_spacing_unit": "micrometers"}
        x, y, z = plane.center_um
        if x is not None and y is not None and z is not None:
            height, width = plane.shape
            corner = [x - (width - 1) / 2 * right, y - (height - 1) / 2 * down, z]
            spatial |= {"origin_coords": corner, "origin_coords_unit": "micrometers"}
        spatial["reference_frame"] = (
            "Coordinates of the microscope: x to the right, y down, z deeper."
        )
    return file.create_imaging_plane(
        name=f"field_{plane.index}",
        optical_channel=OpticalChannel(
            name=f"channel_{channel}",
            description=f"Channel {channel} of the microscope, counted from 1.",
            emission_lambda=float(said.get("emission_nm", np.nan)),
        ),
        description="; ".join(about) + ".",
        device=device,
        excitation_lambda=float(said.get("excitation_nm", np.nan)),
        indicator=str(entries.get("indicator", "unknown")),
        location=str(said.get("location", CCF.get(area, area))),
        imaging_rate=_rate(session),
        **spatial,
    )


def _rate(session: Session) -> float:
    return float(1 / np.median(np.diff(session.frame_times)))


def _first(times: NDArray, plane: Plane) -> NDArray:
    """Return the frame times of the frames that a plane's motion has."""
    return times if plane.motion is None else times[: plane.motion.shape[1]]


def _add_movie(
    file: NWBFile, session: Session, plane: Plane, place: Any, folder: Path, times: dict
) -> None:
    movie = plane.movie
    common: dict[str, Any] = {
        "name": f"raw_movie_{plane.index}",
        "imaging_plane": place,
        "unit": "gray levels of the digitizer",
        "scan_line_rate": 1 / plane.line_period_s if plane.line_period_s > 0 else None,
    }
    if movie is not None:
        frames = min(len(movie), len(session.frame_times))
        file.add_acquisition(
            TwoPhotonSeries(
                description="Raw frames, not corrected; times are the starts of the frames.",
                data=H5DataIO(
                    MovieChunks(_Head(movie, frames)),
                    compression="gzip",
                    compression_opts=1,
                    shuffle=True,
                ),
                **common,
                **(times if frames == len(session.frame_times) else _cut(session, frames)),
            )
        )
    elif plane.linked:
        height, width = plane.shape
        file.add_acquisition(
            TwoPhotonSeries(
                description="Raw frames in the files of the rig, all fields and channels together.",
                external_file=[os.path.relpath(path, folder) for path, _ in plane.linked],
                format="external",
                starting_frame=[first for _, first in plane.linked],
                dimension=[width, height],
                num_samples=len(session.frame_times) if "rate" in times else None,
                **common,
                **times,
            )
        )


class _Head:
    """The first frames of a movie."""

    def __init__(self, movie: Any, frames: int) -> None:
        self.movie, self.shape = movie, (frames, *movie.shape[1:])

    def __getitem__(self, frames: slice) -> NDArray:
        start, stop, _ = frames.indices(self.shape[0])
        return self.movie[start:stop]


def _cut(session: Session, frames: int) -> dict[str, Any]:
    return timing(session.frame_times[:frames])


def _add_motion(module: Any, plane: Plane, times: NDArray) -> None:
    if plane.motion is None:
        return
    count = min(plane.motion.shape[1], len(times))
    when = timing(times[:count])
    module.add(
        TimeSeries(
            name=f"motion_{plane.index}",
            description="Displacement of the content of every raw frame, down (y) and right (x); "
            f"the correction moves it back. Odd rows were {plane.raster_px or 0:g} px to the right "
            "of even ones before.",
            data=packed(np.asarray(plane.motion[:, :count].T)),
            unit="pixels",
            **when,
        )
    )
    if plane.blocks is not None:
        shifts, rows, columns = plane.blocks
        flat = np.moveaxis(shifts[:, :count], 1, 0).reshape(count, -1)
        module.add(
            TimeSeries(
                name=f"motion_of_blocks_{plane.index}",
                description="Displacement of blocks beyond none: of every frame y of all blocks, "
                f"then x, row by row; centers at rows {[round(r, 1) for r in rows]} and columns "
                f"{[round(c, 1) for c in columns]} px.",
                data=packed(flat),
                unit="pixels",
                **when,
            )
        )


def _plane_segmentation(
    plane: Plane, masks: tuple[NDArray, NDArray, NDArray], place: ImagingPlane
) -> PlaneSegmentation:
    start, pixel, weight = (np.asarray(part) for part in masks)
    y, x = np.divmod(pixel, plane.shape[1])
    table = PlaneSegmentation(
        name=f"units_{plane.index}",
        description=f"Masks of field {plane.index}, {plane.shape[0]} rows x {plane.shape[1]} "
        "columns; the weight of a pixel is its share in the raw trace.",
        imaging_plane=place,
    )
    ids = plain(plane.units.columns["unit_id"].values)
    for row, unit in enumerate(ids):
        part = slice(int(start[row]), int(start[row + 1]))
        mask = zip(x[part].tolist(), y[part].tolist(), weight[part].tolist(), strict=True)
        table.add_roi(pixel_mask=list(mask), id=int(unit))
    for name, column in plane.units.known().items():
        table.add_column(name=name, description=column.meaning, data=plain(column.values))
    return table


def _add_traces(
    module: Any, boxes: dict[str, Fluorescence], session: Session, plane: Plane, table: Any
) -> None:
    for name, trace in plane.traces.items():
        if name not in boxes:
            boxes[name] = Fluorescence(name=name)
            module.add(boxes[name])
        data = trace.load().T
        count = min(len(data), len(session.frame_times))
        region = table.create_roi_table_region(
            description=f"all units of field {plane.index}", region=list(range(data.shape[1]))
        )
        boxes[name].add_roi_response_series(
            RoiResponseSeries(
                name=f"{name}_{plane.index}",
                description=trace.meaning,
                data=packed(data[:count]),
                rois=region,
                unit=trace.unit,
                **timing(session.frame_times[:count]),
            )
        )
