"""The movie of a recording at the door: what its header says, and a look at some of its frames.

A movie that motion correction would refuse, or a digitizer at its ceiling, is known the moment the
scan ends; a night later nothing can be done about it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.importers.extracted import open_extracted
from pipeline.imaging.motion.fixed import without_fixed
from pipeline.imaging.quality import saturated_share
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.base import diameter_px
from pipeline.recording.folder import Bundle, inside
from pipeline.recording.frames import TimedScan, open_timed
from pipeline.recording.streams import read_times

MIN_FRAMES = 10
MIN_SECONDS = 1.0
MOST_SATURATED = 0.01  # share of pixels, as the quality check `limits` has it
FIXED_SAID = 0.05  # share of a field that is fixed to the scanner
SIZES_APART = 0.05  # by which two sizes of a pixel may differ
GAP = 1.5  # usual intervals between two frames


def check_imaging(bundle: Bundle) -> None:
    """Open the movie, or the traces and masks, and pair its frames with their times.

    Raises
    ------
    DataError
        One line with file, field, what was found and what was expected.
    """
    imaging = bundle.recording.imaging
    if bool(imaging.files) == bool(imaging.traces):
        raise DataError(
            "imaging needs either files or traces",
            file="recording.json",
            field="imaging",
            found=sorted(imaging.model_fields_set),
        )
    path = _open_traces(bundle) if imaging.traces else _open_movie(bundle)
    timed = bundle.timed
    assert timed is not None
    times = timed.time_s
    if len(times) < 2:
        raise DataError("recording is too short", file=path, found=f"{len(times)} frames")
    fps = 1 / float(np.median(np.diff(times)))
    if not 0.1 <= fps <= 2000:
        raise DataError(
            "frame rate is absurd",
            file=path,
            field="time_s",
            found=f"{fps:.3g} Hz",
            expected="0.1 to 2000 Hz: times are in seconds",
        )
    if len(times) < MIN_FRAMES or times[-1] - times[0] < MIN_SECONDS:
        raise DataError(
            "recording is too short",
            file=path,
            field="time_s",
            found=f"{len(times)} frames in {times[-1] - times[0]:.2g} s",
            expected=f"{MIN_FRAMES} frames and {MIN_SECONDS:g} s, or more",
        )
    bundle.frames = float(times[0]), float(times[-1])
    bundle.findings += timed.findings
    _check_gaps(bundle, path)
    _check_pixel_size(bundle)


def check_pixels(bundle: Bundle) -> None:
    """Look at some frames of every field for a pattern of the scanner, and a ceiling.

    Raises
    ------
    DataError
        If motion correction would refuse the movie.
    """
    if bundle.timed is None or not bundle.recording.imaging.files:
        return
    scan = bundle.timed.scan
    channel = list(scan.channel_numbers).index(bundle.recording.imaging.channel)
    name = bundle.files["tiff"][0].name
    for field in range(scan.n_fields):
        where = name if scan.n_fields == 1 else f"{name}: field {field}"
        movie = scan.movie(field, channel)
        try:
            _, fixed = without_fixed(movie)
        except DataError as error:
            raise DataError(str(error), file=where) from None
        if (share := float(fixed.mean())) > FIXED_SAID:
            text = f"{where}: {share:.0%} of the field is fixed to the scanner and is masked"
            bundle.findings.append(Finding("movie-fixed", text))
        if (share := saturated_share(movie)) > MOST_SATURATED:
            text = f"{where}: {share:.1%} of the pixels are at the digitizer's ceiling"
            bundle.findings.append(Finding("movie-saturated", text))


def gaps_of(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return begin and end (s) of every interval that is longer than usual, shape (gaps, 2)."""
    steps = np.diff(time_s)
    if not len(steps):
        return np.zeros((0, 2))
    wide = np.flatnonzero(steps > GAP * np.median(steps))
    return np.stack([time_s[wide], time_s[wide + 1]], axis=1)


def _check_gaps(bundle: Bundle, path: Path) -> None:
    timed = bundle.timed
    assert timed is not None
    gaps = gaps_of(timed.time_s)
    said = {finding.name for finding in timed.findings}
    if len(gaps) and not said & {"frames-missing", "acquisitions-joined", "pages-missing"}:
        longest = gaps[np.argmax(np.diff(gaps, axis=1))]
        text = f"{path.name}: {len(gaps)} gaps between frames, the longest {np.ptp(longest):.3g} s "
        bundle.findings.append(Finding("frame-times-gaps", f"{text}at {longest[0]:.1f} s"))


def _check_pixel_size(bundle: Bundle) -> None:
    """Say if the size of a pixel is unknown, contradicted, or makes a soma of an odd size."""
    timed, said = bundle.timed, bundle.recording.imaging.um_per_px
    assert timed is not None
    where = "recording.json: imaging.um_per_px"
    own = [field.um_per_px for field in timed.scan.fields]
    if said is None and None in own:
        text = f"{where}: is not said, and the header of the movie does not say it"
        bundle.findings.append(Finding("pixel-size-unknown", text))
        return
    if said is not None and own[0] is not None and bundle.recording.imaging.files:
        ratios = np.array(said) / np.array(own[0])
        if (np.abs(np.log(ratios)) > SIZES_APART).any():
            text = f"{where}: {_size(said)} um, the movie's header says {_size(own[0])} um; "
            bundle.findings.append(
                Finding("pixel-size-contradicted", text + "recording.json is believed")
            )
    if not bundle.recording.imaging.files:
        return
    soma = segmenters.spec(None).get("soma_diameter_um")
    movie = timed.scan.movie(0, 0)
    movie.um_per_px = said or own[0]
    try:
        if soma is not None:
            diameter_px(movie, soma, 1.0)
    except ValueError as error:
        bundle.findings.append(Finding("pixel-size-implausible", f"{where}: {error}"))


def _size(um_per_px: tuple[float, float]) -> str:
    return " x ".join(f"{one:.4g}" for one in um_per_px)


def _open_traces(bundle: Bundle) -> Path:
    imaging = bundle.recording.imaging
    if not imaging.masks:
        raise DataError("traces come without masks", file="recording.json", field="imaging.masks")
    traces = inside(bundle, str(imaging.traces), "imaging.traces")
    masks = inside(bundle, imaging.masks, "imaging.masks")
    bundle.files |= {"traces": [traces], "masks": [masks]}
    scan = open_extracted(traces, masks, um_per_px=imaging.um_per_px)
    _check_traces(traces, scan.movie().fluorescence)
    bundle.timed = TimedScan(scan, scan.time_s, list(scan.findings))
    return traces


def _check_traces(path: Path, fluorescence: NDArray[np.float32]) -> None:
    """Raise if a trace is all NaN or infinite somewhere, or if no trace ever varies."""
    known = np.isfinite(fluorescence)
    silent = np.flatnonzero(~known.any(axis=1))
    unfit = partial(DataError, file=path, field="fluorescence")
    if len(silent):
        raise unfit("a trace is all NaN", found=f"unit {silent[0]}", expected="numbers")
    endless = np.flatnonzero(np.isinf(fluorescence).any(axis=1))
    if len(endless):
        raise unfit(
            "a trace is infinite",
            found=f"unit {endless[0]}",
            expected="finite numbers, or NaN where a frame is missing",
        )
    low = np.where(known, fluorescence, np.inf).min(axis=1)
    high = np.where(known, fluorescence, -np.inf).max(axis=1)
    if (low == high).all():
        raise unfit(
            "no trace ever varies",
            found=f"{high[0]:g} in every frame",
            expected="fluorescence (a.u.)",
        )


def _open_movie(bundle: Bundle) -> Path:
    """Open the movie (page directories only) with the times of its frames."""
    imaging = bundle.recording.imaging
    if len(set(imaging.files)) != len(imaging.files):
        raise DataError(
            "file is named twice",
            file="recording.json",
            field="imaging.files",
            found=imaging.files,
        )
    bundle.files["tiff"] = [inside(bundle, name, "imaging.files") for name in imaging.files]
    path = inside(bundle, "frame_times.csv", "frame_times")
    bundle.files["frame_times"] = [path]
    times = read_times(path, ["frame"])["time_s"]
    bundle.pulses = len(times)
    timed = bundle.timed = open_timed(bundle.files["tiff"], times, file=path)
    if imaging.channel not in timed.scan.channel_numbers:
        raise DataError(
            "channel was not saved",
            file="recording.json",
            field="imaging.channel",
            found=imaging.channel,
            expected=f"one of {list(timed.scan.channel_numbers)}",
        )
    return path
