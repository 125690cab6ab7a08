"""Command line: `python -m pipeline.imaging FILES --out DIR`."""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from pipeline.imaging.chain import process
from pipeline.imaging.motion import motion_methods
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.tiff import open_scan


def main(arguments: list[str] | None = None) -> int:
    """Run the chain on files; 0 on success, 1 if the data cannot be used, 2 on a usage error."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.imaging", description=process.__doc__
                                     .splitlines()[0])  # fmt: skip
    parser.add_argument("files", nargs="+", help="TIFF files of one scan, or a folder of them")
    parser.add_argument("--out", help="folder that receives imaging.npz")
    parser.add_argument("--info", action="store_true", help="only say what the files hold")
    parser.add_argument("--fps", type=float, help="frames per second, for a TIFF without header")
    parser.add_argument("--um-per-px", type=float, help="pixel size, where the header lacks it")
    parser.add_argument("--field", type=int, default=0, help="which field, from 0")
    parser.add_argument("--channel", type=int, default=0, help="which channel, from 0")
    parser.add_argument("--soma-diameter-um", type=float)
    parser.add_argument("--motion", choices=list(motion_methods))
    parser.add_argument("--segmenter", choices=[name for name in segmenters if name != "given"])
    parser.add_argument("--deconvolver")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    options = parser.parse_args(arguments)
    if not options.info and not options.out:
        parser.error("--out is needed (or --info)")
    files = options.files[0] if len(options.files) == 1 else options.files
    scale = (options.um_per_px,) * 2 if options.um_per_px else None
    try:
        if options.info:
            report = _info(open_scan(files, fps=options.fps, um_per_px=scale))
        else:
            path = process(
                files, options.out, fps=options.fps, um_per_px=scale, field=options.field,
                channel=options.channel, soma_diameter_um=options.soma_diameter_um,
                motion=options.motion, segmenter=options.segmenter,
                deconvolver=options.deconvolver,
                progress=lambda line: print(line, file=sys.stderr),
            )  # fmt: skip
            with np.load(path) as result:
                report = {
                    "file": str(path), "frames": int(result["traces"].shape[1]),
                    "units": len(result["masks"]), "kept": int(result["keep"].sum()),
                    "raster_px": float(result["raster_px"]),
                    "motion_rms_px": float(np.sqrt(np.mean(
                        result["shifts_y"] ** 2 + result["shifts_x"] ** 2))),
                }  # fmt: skip
    except ValueError as error:  # DataError is one
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {value}")
    return 0


def _info(scan) -> dict[str, object]:
    return {
        "files": [str(file) for file in scan.files], "frames": scan.n_frames, "fps": scan.fps,
        "channels": scan.channel_numbers, "bidirectional": scan.bidirectional,
        "fields": [vars(field) for field in scan.fields],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
