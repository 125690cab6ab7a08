"""Light that falls on the detector for a moment: a monitor that blinks, a door that opens.

It adds to whole rows, those scanned while it was on, and is gone within a few frames, which no
indicator is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

SLOWEST_HZ = 15.0  # at fewer frames per second a transient can be as brief as a flash
LONGEST_S = 0.1
BACK = 0.8  # share of a leap that has to be undone again
FEWEST = 16


def without_flashes(frames: NDArray[np.float32], *, limit: float = 8.0) -> NDArray[np.float32]:
    """Take from rows what suddenly brightens all of them.

    Parameters
    ----------
    frames : array, shape (frames, H, W)
        Some tens of successive frames; of fewer than `FEWEST` nothing is taken.
    limit : float
        Least excess of a row's mean over its median in these frames, in robust standard
        deviations.
    """
    if len(frames) < FEWEST:
        return frames
    row = frames.mean(axis=2)
    excess = row - np.median(row, axis=0)
    spread = 1.4826 * np.median(np.abs(excess), axis=0)
    spread = np.maximum(spread, np.median(spread))
    flash = (excess > limit * spread) & (spread > 0)
    if flash.any():
        which = np.flatnonzero(flash.any(axis=1))
        frames = frames.copy()  # they may be the movie itself
        frames[which] -= np.where(flash, excess, 0)[which, :, None]
    return frames


def flash_frames(
    surroundings: NDArray[np.floating], fps: float, *, limit: float = 8.0
) -> NDArray[np.bool_]:
    """Return where the surroundings of a unit leap up and back within a tenth of a second.

    Parameters
    ----------
    surroundings : array, shape (units, frames)
        Mean of pixels around every unit.
    fps : float
        Frames per second (Hz); at fewer than 15 nothing is found.
    limit : float
        Least height over the frames before, in standard deviations of the frame-to-frame noise.

    Returns
    -------
    array of bool, shape (units, frames)
    """
    if fps < SLOWEST_HZ or surroundings.shape[1] < 3 or not len(surroundings):
        return np.zeros(surroundings.shape, bool)
    width = 2 * max(1, round(LONGEST_S * fps / 2)) + 1
    middle = median_filter(surroundings, (1, width), mode="nearest")
    frame, reach = np.arange(surroundings.shape[1]), width // 2 + 1
    before = middle[:, np.maximum(frame - reach, 0)]
    after = middle[:, np.minimum(frame + reach, frame[-1])]
    leap, fall = surroundings - before, surroundings - after
    step = np.median(np.abs(np.diff(surroundings, axis=1)), axis=1, keepdims=True)
    noise = 1.4826 / np.sqrt(2) * step
    brief = fall > BACK * leap  # the fastest indicators have lost 0.73 by then, at 15 Hz
    return (leap > limit * noise) & brief & (noise > 0)


def bridged(traces: NDArray[np.float32], gone: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return traces (units, frames) with straight lines over the frames that are gone."""
    out = traces.copy()
    for unit in np.flatnonzero(gone.any(axis=1) & ~gone.all(axis=1)):
        good = np.flatnonzero(~gone[unit])
        lost = np.flatnonzero(gone[unit])
        out[unit, lost] = np.interp(lost, good, traces[unit, good])
    return out
