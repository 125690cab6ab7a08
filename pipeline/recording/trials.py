"""Trials of a bundle, and the images that they show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.csvfile import read_columns, read_text_columns
from pipeline.dataset.tiers import assign_tiers
from pipeline.errors import DataError, Finding
from pipeline.recording.coverage import UNITS
from pipeline.recording.folder import Bundle, inside
from pipeline.recording.format import INT32
from pipeline.stimulus.images import check_aspect, image_hash, load_images

MOST_BEYOND = 0.01  # share of pixels beyond the measured levels
HASH = re.compile(r"[0-9a-f]{64}")


def check_trials(bundle: Bundle) -> None:
    """Read and check trials.csv and the images that it names.

    Raises
    ------
    DataError
        One line with file, field, what was found and what was expected.
    """
    path = inside(bundle, "trials.csv", "trials")
    bundle.files["trials"] = [path]
    numbers = read_columns(
        path,
        ["trial_idx", "onset_s", "offset_s"],
        optional=["blank_before_s"],
        nan=["blank_before_s"],
        at_least=1,
    )
    names = read_text_columns(path, ["image"])["image"]
    index = numbers["trial_idx"]
    if (index != np.round(index)).any() or index.min() < 0 or index.max() > INT32:
        raise DataError("trial numbers are not whole numbers", file=path, field="trial_idx")
    if len(np.unique(index)) != len(index):
        raise DataError("a trial number comes twice", file=path, field="trial_idx")
    onset, offset = numbers["onset_s"], numbers["offset_s"]
    bad = np.flatnonzero(offset <= onset)
    if len(bad):
        raise DataError(
            "image goes off before it comes on",
            file=path,
            field=f"offset_s, line {bad[0] + 2}",
            found=f"{onset[bad[0]]} to {offset[bad[0]]} s",
            expected="onset_s < offset_s",
        )
    order = np.argsort(onset, kind="stable")
    overlap = np.flatnonzero(onset[order][1:] < offset[order][:-1] - 1e-6)
    if len(overlap):
        raise DataError(
            "trials overlap in time", file=path, field=f"onset_s, line {order[overlap[0] + 1] + 2}"
        )
    _check_times(bundle, path, onset, offset)
    blank = numbers.get("blank_before_s", np.full(len(index), np.nan))
    bundle.trials = {
        "trial_idx": index.astype(int),
        "image_hash": _resolve_images(bundle, names, path),
        "onset_s": onset,
        "offset_s": offset,
        "blank_before_s": blank,
    }
    _check_repeats(bundle, path)
    _check_levels(bundle)


def _check_times(bundle: Bundle, path: Path, onset: NDArray, offset: NDArray) -> None:
    """Raise if most trials lie outside of the frames on the rig's clock; say if some do."""
    if bundle.frames is None:
        return
    clock = bundle.clocks["trials"]
    begin, end = bundle.clocks["frames"].to_rig(np.array(bundle.frames))

    def outside(factor: float = 1.0) -> NDArray[np.bool_]:
        on, off = (clock.to_rig(time * factor) for time in (onset, offset))
        return (on > end) | (off < begin)

    lost = outside()
    if lost.mean() > 0.5:
        guess = [unit for unit, factor in UNITS.items() if outside(factor).mean() < 0.1]
        like = f"; they look like {guess[0]}" if guess else ""
        on = clock.to_rig(onset)
        raise DataError(
            "most trials lie outside of the recording",
            file=path,
            field="onset_s",
            found=f"{on.min():.1f} to {on.max():.1f} s{like}",
            expected=f"within the frames, {begin:.1f} to {end:.1f} s",
            remedy="give all times on one clock, or add clocks.csv",
        )
    if lost.any():
        text = f"{path.name}: {lost.sum()} of {len(lost)} trials lie outside of the frames, "
        bundle.findings.append(Finding("trials-outside", f"{text}{begin:.1f} to {end:.1f} s"))


def _check_repeats(bundle: Bundle, path: Path) -> None:
    """Say if the images, as a default recipe shares them out, leave a tier without any."""
    if bundle.recording.plan is not None:  # day 2 is scored, not trained on
        return
    shown = bundle.trials["image_hash"]
    try:
        tiers = assign_tiers(shown)
    except DataError as error:
        bundle.findings.append(Finding("images-repeated", f"{path.name}: {error}"))
        return
    once = f"{path.name}: {len(set(shown))} images on {len(shown)} trials: "
    if not (tiers == "validation").any():
        text = once + "too few are shown once, none is left for validation"
        bundle.findings.append(Finding("images-repeated", text))
    if not (tiers == "test").any():
        text = once + "none is repeated, so that reliability is not known"
        bundle.findings.append(Finding("images-never-repeated", text))


def _check_levels(bundle: Bundle) -> None:
    """Say which images are flat, and which go beyond the levels that were measured."""
    images = list(bundle.images.values())
    if flat := sum(image.min() == image.max() for image in images):
        text = f"images: {flat} of {len(images)} have one gray level only"
        bundle.findings.append(Finding("images-flat", text))
    if bundle.curve is None or not images:
        return
    low, high = bundle.curve.pixel_range
    beyond = float(np.mean([((image < low) | (image > high)).mean() for image in images]))
    if beyond > MOST_BEYOND:
        text = f"images: {beyond:.1%} of the pixels are beyond the levels of "
        text += f"{bundle.recording.monitor.calibration}, {low:.0f} to {high:.0f}"
        bundle.findings.append(Finding("images-beyond-monitor", text))


def _resolve_images(bundle: Bundle, names: list[str], path: Path) -> list[str]:
    """Return the content hash of the image on every trial."""
    given = _given_images(bundle)
    by_name = {name: image_hash(image) for name, image in given.items()}
    by_hash = {by_name[name]: image for name, image in given.items()}
    hashes, missing = {}, set()
    for line, name in enumerate(names):
        if name in hashes:
            continue
        plain = Path(name).name
        found = by_name.get(name) or by_name.get(plain) or by_name.get(f"{plain}.png")
        stem = plain.lower().removesuffix(".png")
        if found is None and HASH.fullmatch(stem):
            found = stem
            if stem not in by_hash:
                missing.add(stem)
        if found is None:
            raise DataError(
                "image is missing",
                file=path,
                field=f"image, line {line + 2}",
                found=repr(name[:80]),
                expected="a file in images/ or a content hash",
                remedy="copy the whole bundle",
            )
        if HASH.fullmatch(stem) and found != stem and len(stem) == 64:
            raise DataError(
                "image is not what its name says",
                file=bundle.folder / "images",
                field=name,
                found=found,
            )
        hashes[name] = found
    used = set(hashes.values())
    bundle.images = {name: image for name, image in by_hash.items() if name in used}
    bundle.missing = sorted(missing)
    monitor = bundle.recording.monitor
    for image in bundle.images.values():
        try:
            check_aspect(image.shape, (monitor.height_px, monitor.width_px))
        except DataError as error:
            raise DataError(str(error), file=bundle.folder / "images") from None
        break  # load_images has seen that all have one size
    return [hashes[name] for name in names]


def _given_images(bundle: Bundle) -> dict[str, NDArray[np.uint8]]:
    folder, archive = bundle.folder / "images", bundle.folder / "images.npz"
    if folder.is_dir() and any(folder.iterdir()):
        files = sorted(folder.glob("*.png")) or [folder / "images.npz"]
        for file in files:
            inside(bundle, str(file.relative_to(bundle.folder)), "images")
        names, images = load_images(folder)
        bundle.files["images"] = files
    elif archive.is_file():
        names, images = load_images(inside(bundle, "images.npz", "images"))
        bundle.files["images"] = [archive]
    else:
        return {}
    return dict(zip(names, images, strict=True))
