"""Whether a day-2 recording answers a package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.closed_loop.package import Package
from pipeline.errors import DataError
from pipeline.stimulus.monitor import MonitorCurve


def check_answer(
    package: Package,
    recording: Mapping[str, Any],
    shown: pd.DataFrame,
    *,
    curve: MonitorCurve | None = None,
    luminance_tolerance: float = 0.05,
) -> list[str]:
    """Check that a day-2 recording answers this package; return what to be warned of.

    Parameters
    ----------
    recording : dict
        The bundle's recording.json.
    shown : DataFrame
        The bundle's trials.csv (`trial_idx, image, ...`).
    curve : MonitorCurve, optional
        The bundle's calibration.
    luminance_tolerance : float
        Largest relative change of luminance between the two calibrations, at mid-grey and white.

    Returns
    -------
    list of str
        One line per flaw that the audit will count: a truncated log, images never shown.

    Raises
    ------
    DataError
        Another plan or animal, no image of the package on any trial, another calibration.
    """
    if recording.get("plan") != package.plan_id:
        raise DataError(
            "recording answers another plan",
            file="recording.json",
            field="plan",
            found=recording.get("plan"),
            expected=package.plan_id,
        )
    if int(recording.get("animal_id", -1)) != package.animal_id:
        raise DataError(
            "recording of another animal",
            file="recording.json",
            field="animal_id",
            found=recording.get("animal_id"),
            expected=package.animal_id,
        )
    _check_calibration(package.curve, curve, luminance_tolerance)
    names = {str(image).rsplit("/", 1)[-1].removesuffix(".png") for image in shown["image"]}
    planned = set(package.trials["image"])
    if not names & planned:
        raise DataError(
            "no image of the plan was shown",
            file="trials.csv",
            found=sorted(names)[:1],
            expected=f"{len(planned)} content hashes",
        )
    warnings = []
    if never := len(planned - names):
        warnings.append(f"{never} of {len(planned)} planned images were never shown")
    if foreign := len(names - planned):
        warnings.append(f"{foreign} images were shown that the plan does not have")
    if (short := len(package.trials) - len(shown)) > 0:
        warnings.append(f"the log has {short} of {len(package.trials)} planned trials too few")
    return warnings


def _check_calibration(
    made_for: MonitorCurve | None, measured: MonitorCurve | None, tolerance: float
) -> None:
    if made_for is None or measured is None or made_for.digest() == measured.digest():
        return
    for pixel in (128, 255):
        before, now = (float(curve.to_luminance(pixel)) for curve in (made_for, measured))
        if abs(now / before - 1) > tolerance:
            raise DataError(
                "monitor is not calibrated as the package assumes",
                file="monitor.csv",
                field=f"luminance of pixel value {pixel}",
                found=f"{now:.3g} cd/m2",
                expected=f"{before:.3g} cd/m2 within {100 * tolerance:g} %",
                remedy="restore the calibration or write the package again",
            )
