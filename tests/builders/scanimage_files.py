"""Movies as ScanImage writes them: a number and a time stamp in every page."""

import json

import numpy as np
import tifffile
from tiff_files import software


def volume_header(slices, *, flyback=0, channels="1", rate=10.0, **changes):
    """Header lines of a fast volume of some slices, and frames of flyback."""
    written = slices + flyback
    return software(
        hChannels__channelSave=channels,
        hFastZ__enable="true",
        hStackManager__numSlices=str(slices),
        hStackManager__zs="[" + " ".join(str(20 * i) for i in range(slices)) + "]",
        hStackManager__numFramesPerVolumeWithFlyback=str(written),
        hRoiManager__scanFrameRate=str(rate),
        hRoiManager__scanVolumeRate=str(rate / written),
        **changes,
    )


def page_text(number, *, acquisition=1, within=None, seconds=0.0):
    lines = [f"frameNumbers = {number}", f"acquisitionNumbers = {acquisition}"]
    if within is not None:
        lines.append(f"frameNumberAcquisition = {within}")
    return "\n".join([*lines, f"frameTimestamps_sec = {seconds:.9f}", "I2CData = {}"])


def write_scan(
    path,
    pages,
    header,
    *,
    numbers=None,
    channels=1,
    acquisitions=None,
    within=None,
    seconds=None,
    period=0.1,
    artist=None,
    text=None,
):
    """Write pages; `numbers`, `acquisitions`, `within` and `seconds` are those of the frames."""
    frames = -(-len(pages) // channels)
    numbers = list(range(1, frames + 1)) if numbers is None else list(numbers)
    tags = [] if artist is None else [(315, "s", 0, json.dumps(artist), True)]
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for index, page in enumerate(pages):
            frame = index // channels
            number = numbers[frame]
            description = (text or page_text)(
                number,
                acquisition=1 if acquisitions is None else acquisitions[frame],
                within=(number if acquisitions is None else None)
                if within is None
                else within[frame],
                seconds=(number - 1) * period if seconds is None else seconds[frame],
            )
            file.write(
                np.asarray(page, np.int16),
                photometric="minisblack",
                description=description,
                metadata=None,
                software=header,
                extratags=tags,
                contiguous=False,
            )
    return path


def levels(*values):
    """Return one page of a constant gray level for every value."""
    return [np.full((12, 16), value, np.int16) for value in values]


def planes(scan, channel=0):
    """Return the gray levels that occur in every field."""
    return [np.unique(scan.movie(k, channel)[:]).tolist() for k in range(scan.n_fields)]
