"""Command line: the whole chain, or any one stage, on files.

    python -m pipeline.imaging process scan.tif --out DIR
    python -m pipeline.imaging raster scan.tif --out DIR      then motion, segmentation, extraction
    python -m pipeline.imaging deconvolution DIR/extraction.npz --out DIR --set indicator=GCaMP6s
    python -m pipeline.imaging quality scan.tif --out DIR
    python -m pipeline.imaging import suite2p/plane0 --out DIR
    python -m pipeline.imaging stack zstack.tif --out DIR

Without the name of a command, `process` is meant.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.imaging import stages
from pipeline.imaging.adapters import open_source
from pipeline.imaging.chain import process
from pipeline.imaging.extraction import fluorescence_methods
from pipeline.imaging.motion import motion_methods
from pipeline.imaging.options import add_method, chosen, run
from pipeline.imaging.quality import Evidence, quality_methods
from pipeline.imaging.raster import raster_methods
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.mask_files import read_masks
from pipeline.imaging.structural import read_stack
from pipeline.imaging.summary import summarize
from pipeline.npy import read_npy


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 on success, 1 if the data cannot be used, 2 on a usage error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] not in COMMANDS and arguments[0] not in ("-h", "--help"):
        arguments.insert(0, "process")
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    from pipeline.imaging.deconvolution import deconvolvers  # compiled code: load when needed

    parser = argparse.ArgumentParser(
        prog="python -m pipeline.imaging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    registries = {
        "raster": raster_methods,
        "motion": motion_methods,
        "segmentation": segmenters,
        "extraction": fluorescence_methods,
        "deconvolution": deconvolvers,
        "quality": quality_methods,
    }
    for name, (function, text) in COMMANDS.items():
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(command=function)
        one.add_argument("--json", action="store_true", help="report as JSON")
        if name == "process":
            _process_arguments(one, deconvolvers)
        elif name == "import":
            _import_arguments(one)
        elif name == "stack":
            one.add_argument("file", help="TIFF of a structural stack")
            one.add_argument("--channel", type=int, help="as on the microscope; else the first")
            one.add_argument("--unaligned", action="store_true", help="average pages as they are")
            one.add_argument("--out", required=True, help="folder that receives stack.npy")
        elif name == "deconvolution":
            one.add_argument("traces", help="npz of extraction or import, or npy (units, frames)")
            one.add_argument("--fps", type=float, help="frames per second, for npy")
            one.add_argument("--out", required=True, help="folder that receives deconvolution.npz")
        else:
            _movie_arguments(one)
            one.add_argument("--out", required=name != "info", help="folder of results")
        if name == "extraction":
            one.add_argument("--masks", help="npz with masks, dense or as `import` writes it")
        if name in registries:
            add_method(one, registries[name], leave=("extracted", "given"))
    return parser


def _movie_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        help="TIFF files of one scan, a folder of them, a TIFF "
        "with a JSON file beside it, an NWB file or a zarr array",
    )
    parser.add_argument("--fps", type=float, help="frames per second, for a movie without")
    parser.add_argument("--um-per-px", type=float, help="pixel size, where the header lacks it")
    parser.add_argument("--acquisition", type=int, help="the one that is meant, of several")
    parser.add_argument("--field", type=int, default=0, help="which field, from 0")
    parser.add_argument("--channel", type=int, default=0, help="which channel, from 0")


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option for every parameter of any importer."""
    add = parser.add_argument
    add("path", help="suite2p folder, CaImAn .hdf5, EXTRACT .mat or .nwb")
    add("--out", required=True, help="folder that receives two npz files")
    add("--importer", help="whose file it is, where the ending does not tell")
    add("--fps", type=float, help="frames per second, where the file lacks them or is wrong")
    add("--um-per-px", type=float, nargs="+", metavar="UM", help="size of a pixel: one, or y and x")
    add("--neuropil-coefficient", type=float, help="share of the neuropil that is subtracted: 0.7")
    add("--plane", help="which plane: of suite2p plane0, of NWB the name of a PlaneSegmentation")
    add("--series", help="NWB: which RoiResponseSeries is the fluorescence")
    add(
        "--rows-first",
        action=argparse.BooleanOptionalAction,
        help="NWB: masks are (row, column), not (x, y)",
    )
    add("--height-px", type=int, help="suite2p without ops.npy: height of the field")
    add("--width-px", type=int, help="suite2p without ops.npy: width of the field")


def _process_arguments(parser: argparse.ArgumentParser, deconvolvers) -> None:
    _movie_arguments(parser)
    parser.add_argument("--out", help="folder that receives imaging.npz")
    parser.add_argument("--info", action="store_true", help="only say what the files hold")
    parser.add_argument("--soma-diameter-um", type=float)
    parser.add_argument("--motion", choices=list(motion_methods))
    parser.add_argument("--segmenter", choices=[name for name in segmenters if name != "given"])
    parser.add_argument("--deconvolver", choices=list(deconvolvers))


def _scan(options: argparse.Namespace):
    files = options.files[0] if len(options.files) == 1 else options.files
    scale = (options.um_per_px,) * 2 if options.um_per_px else None
    return open_source(files, fps=options.fps, um_per_px=scale, acquisition=options.acquisition)


def _movie(options: argparse.Namespace):
    scan = _scan(options)
    for finding in getattr(scan, "findings", []):
        print(finding, file=sys.stderr)
    return scan.movie(options.field, options.channel)


def _info(options: argparse.Namespace) -> dict[str, Any]:
    scan = _scan(options)
    return {
        "files": [str(file) for file in scan.files],
        "frames": scan.n_frames,
        "fps": scan.fps,
        "channels": scan.channel_numbers,
        "bidirectional": scan.bidirectional,
        "fields": [asdict(field) for field in scan.fields],
        "findings": [str(finding) for finding in getattr(scan, "findings", [])],
    }


def _stack(options: argparse.Namespace) -> dict[str, Any]:
    found = read_stack(options.file, channel=options.channel, align=not options.unaligned)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "stack.npy", found.volume)
    return {
        "file": str(out / "stack.npy"),
        "slices": len(found.volume),
        "pages_per_slice": found.repeats,
        "um_per_voxel": found.um_per_voxel,
        "findings": [str(finding) for finding in found.findings],
    }


def _process(options: argparse.Namespace) -> dict[str, Any]:
    if options.info:
        return _info(options)
    if not options.out:
        print("error: --out is needed (or --info)", file=sys.stderr)
        raise SystemExit(2)
    files = options.files[0] if len(options.files) == 1 else options.files
    path = process(
        files,
        options.out,
        fps=options.fps,
        um_per_px=options.um_per_px,
        field=options.field,
        channel=options.channel,
        soma_diameter_um=options.soma_diameter_um,
        motion=options.motion,
        segmenter=options.segmenter,
        deconvolver=options.deconvolver,
        progress=lambda line: print(line, file=sys.stderr),
    )
    found = stages.load(path)
    power = found["shifts_y"] ** 2 + found["shifts_x"] ** 2
    return {
        "file": str(path),
        "frames": int(found["traces"].shape[1]),
        "units": len(found["masks"]),
        "kept": int(found["keep"].sum()),
        "raster_px": float(found["raster_px"]),
        "motion_rms_px": float(np.sqrt(power.mean())),
    }


def _raster(options: argparse.Namespace) -> dict[str, Any]:
    method, params = chosen(raster_methods, options)
    found = method(_movie(options), **params)
    path = stages.save(options.out, "raster", **vars(found))
    return {"file": str(path), **vars(found)}


def _motion(options: argparse.Namespace) -> dict[str, Any]:
    method, params = chosen(motion_methods, options)
    moved = method(stages.steady(_movie(options), options.out), **params)
    return {
        "file": str(stages.save_motion(options.out, moved)),
        "accepted": bool(moved.accepted),
        "motion_rms_px": float(moved.rms_px),
        "outliers": int(moved.outliers.sum()),
        "correlation_before": float(moved.correlation_before),
        "correlation_after": float(moved.correlation_after),
    }


def _segmentation(options: argparse.Namespace) -> dict[str, Any]:
    method, params = chosen(segmenters, options)
    cells = method(stages.still(_movie(options), options.out), **params)
    path = stages.save(options.out, "segmentation", **vars(cells))
    somata = int((cells.soma_probability >= 0.5).sum())
    return {"file": str(path), "units": len(cells.masks), "somata": somata}


def _extraction(options: argparse.Namespace) -> dict[str, Any]:
    method, params = chosen(fluorescence_methods, options)
    movie = stages.still(_movie(options), options.out)
    given = Path(options.masks or Path(options.out) / "segmentation.npz")
    if not given.is_file():
        raise DataError("file is missing", file=given, remedy=f"run {given.stem} first")
    weights = read_masks(given, movie.shape[1:])
    masks = weights.as_masks()
    traces = method(movie, masks, weights, **params)
    path = stages.save(options.out, "extraction", fps=movie.fps, **vars(traces))
    return {"file": str(path), "units": len(masks), "median_snr": float(np.median(traces.snr))}


def _deconvolution(options: argparse.Namespace) -> dict[str, Any]:
    from pipeline.imaging.deconvolution import deconvolvers

    method, params = chosen(deconvolvers, options)
    if options.traces.endswith(".npy"):
        traces, fps = read_npy(options.traces), options.fps
    else:
        traces, fps = _stored_traces(options.traces)
        fps = options.fps or fps
    if fps is None:
        raise DataError("frame rate is unknown", file=options.traces, remedy="give --fps")
    result = method(traces, float(fps), **params)
    path = stages.save(options.out, "deconvolution", fps=float(fps), **vars(result))
    return {"file": str(path), "units": len(traces), "activity_unit": result.activity_unit}


def _rate_of(times: np.ndarray) -> float | None:
    return float(1 / np.median(np.diff(times))) if len(times) > 1 else None


def _stored_traces(path: str) -> tuple[np.ndarray, float | None]:
    """Return traces and rate of `extraction.npz`, or of `traces.npz` as `import` writes it."""
    found = stages.load(path)
    if "fluorescence" in found:
        times = np.ravel(found.get("time_s", ()))
        return found["fluorescence"], _rate_of(times)
    said = found.get("fps")
    rate = None if said is None else float(said)
    return stages.load(path, "corrected")["corrected"], rate


def _quality(options: argparse.Namespace) -> dict[str, Any]:
    method, params = chosen(quality_methods, options)
    raw = _movie(options)
    summary = summarize(stages.still(raw, options.out), bin_frames=max(1, round(0.4 * raw.fps)))
    path = stages.save(options.out, "summary", **vars(summary))
    found = method(Evidence(raw, summary.intensity, summary.contrast), **params)
    reasons = [f"{f.name} {f.value:.3g}, allowed {f.limit:.3g}: {f.text}" for f in found.findings]
    numbers = {n: v for n, v in vars(found).items() if isinstance(v, float)}
    return {
        "file": str(path),
        "fit": not reasons,
        **numbers,
        **vars(found.gain),
        "findings": reasons,
    }


def _import(options: argparse.Namespace) -> dict[str, Any]:
    from pipeline.imaging.importers import import_results

    leave = ("path", "out", "importer", "json", "command")
    params = {n: v for n, v in vars(options).items() if n not in leave and v is not None}
    if "um_per_px" in params:
        size = params["um_per_px"]
        if len(size) > 2 or not all(0 < one < 1000 for one in size):
            raise ValueError(f"--um-per-px takes one size above 0, or that of y and x; got {size}")
        params["um_per_px"] = (size[0], size[-1])
    found = import_results(options.path, importer=options.importer, **params)
    written = [str(path) for path in found.write(options.out)]
    return {
        "files": written,
        "units": len(found.pixels),
        "kept": int(found.keep.sum()),
        "frames": len(found.time_s),
        "fps": found.fps,
        "field_px": list(found.pixels.shape[1:]),
        "um_per_px": found.um_per_px,
        "findings": [str(finding) for finding in found.findings],
    }


COMMANDS = {
    "process": (_process, "Turn a movie into traces and activity: imaging.npz."),
    "info": (_info, "Say what the files of a scan hold; frames are not read."),
    "quality": (_quality, "Summary images, photon gain, drift; says whether the scan is fit."),
    "raster": (_raster, "Find the offset between the two scan directions: raster.npz."),
    "motion": (_motion, "Find how the field moved: motion.npz. Takes raster.npz, if there."),
    "segmentation": (_segmentation, "Find cells: segmentation.npz. Takes raster and motion."),
    "extraction": (_extraction, "Traces of the masks: extraction.npz. Takes raster and motion."),
    "deconvolution": (_deconvolution, "Activity of traces: deconvolution.npz."),
    "stack": (_stack, "Average the pages of every slice of a structural stack: stack.npy."),
    "import": (_import, "Take the results of another program: traces.npz and masks.npz."),
}


if __name__ == "__main__":
    sys.exit(main())
