"""Whether a day-2 recording answers a package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.closed_loop.package.files import Package
from pipeline.errors import DataError, Finding
from pipeline.stimulus.monitor import MonitorCurve


@dataclass(frozen=True)
class Asked:
    """What a package asked for, where the package itself is not at hand; as in `Package`.

    Attributes
    ----------
    digests : collection of str
        Digests of the packages that were written of the plan.
    """

    plan_id: str
    animal_id: int
    trials: pd.DataFrame
    curve: MonitorCurve | None
    digests: Collection[str] = ()


def check_answer(
    package: Package | Asked,
    recording: Mapping[str, Any],
    shown: pd.DataFrame,
    *,
    curve: MonitorCurve | None = None,
    player: Mapping[str, Any] | None = None,
    luminance_tolerance: float = 0.05,
) -> list[Finding]:
    """Check that a day-2 recording answers this package; return what to be warned of.

    Parameters
    ----------
    recording : dict
        The bundle's recording.json.
    shown : DataFrame
        The bundle's trials.csv (`trial_idx, image, ...`).
    curve : MonitorCurve, optional
        The bundle's calibration.
    player : dict, optional
        What the player wrote into player.json: the package that it showed.
    luminance_tolerance : float
        Largest relative change of luminance between the two calibrations, at mid-gray and white.

    Returns
    -------
    list of Finding
        One per flaw that the audit will count: a truncated log, images never shown; and
        per thing that the player had to do worse than planned.

    Raises
    ------
    DataError
        Another plan or animal, a package that is not the one written, no image of the package on
        any trial, another calibration.
    """
    asked = _asked(package)
    if recording.get("plan") != asked.plan_id:
        raise DataError(
            "recording answers another plan",
            file="recording.json",
            field="plan",
            found=recording.get("plan"),
            expected=asked.plan_id,
        )
    if int(recording.get("animal_id", -1)) != asked.animal_id:
        raise DataError(
            "recording of another animal",
            file="recording.json",
            field="animal_id",
            found=recording.get("animal_id"),
            expected=asked.animal_id,
        )
    if player is not None:
        _check_player(asked, player)
    _check_calibration(asked.curve, curve, luminance_tolerance)
    names = {str(image).rsplit("/", 1)[-1].removesuffix(".png") for image in shown["image"]}
    planned = set(asked.trials["image"])
    if not names & planned:
        raise DataError(
            "no image of the plan was shown",
            file="trials.csv",
            found=sorted(names)[:1],
            expected=f"{len(planned)} content hashes",
        )
    findings = []
    if never := len(planned - names):
        text = f"{never} of {len(planned)} planned images were never shown"
        findings.append(Finding("plan-not-shown", f"trials.csv: {text}"))
    if foreign := len(names - planned):
        text = f"{foreign} images were shown that the plan does not have"
        findings.append(Finding("plan-foreign", f"trials.csv: {text}"))
    if (short := len(asked.trials) - len(shown)) > 0:
        text = f"the log has {short} of {len(asked.trials)} planned trials too few"
        findings.append(Finding("plan-not-shown", f"trials.csv: {text}"))
    return findings + worse_than_planned(player or {})


def worse_than_planned(player: Mapping[str, Any]) -> list[Finding]:
    """Return what a player noted that makes a recording worse than planned."""

    def lines(name: str) -> list[str]:
        found = player.get(name) or []
        return [str(one)[:300] for one in found] if isinstance(found, list) else [str(found)[:300]]

    found = lines("backends_failed") + lines("warnings")
    backend = player.get("backend")
    if backend == "dry-run":
        found.append("it was a dry run: nothing was on the screen")
    elif backend == "opencv" and "vsync" not in player:  # of an earlier player
        found.append("opencv has no vertical synchronisation")
    return [Finding("player-worse", f"player.json: {line}") for line in found]


def _asked(package: Package | Asked) -> Asked:
    if isinstance(package, Asked):
        return package
    digests = (package.manifest["digest"],)
    return Asked(package.plan_id, package.animal_id, package.trials, package.curve, digests)


def _check_player(asked: Asked, player: Mapping[str, Any]) -> None:
    expected = {"plan": asked.plan_id, "animal_id": asked.animal_id}
    for field, value in expected.items():
        if player.get(field) != value:
            raise DataError(
                "the player showed a package of another plan or animal",
                file="player.json",
                field=field,
                found=player.get(field),
                expected=value,
            )
    if asked.digests and player.get("package_digest") not in asked.digests:
        raise DataError(
            "the player showed a package that was edited or written elsewhere",
            file="player.json",
            field="package_digest",
            found=player.get("package_digest"),
            expected=" or ".join(asked.digests),
            remedy="show the package as it was written",
        )


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
                remedy="restore the calibration of day 1",
            )
