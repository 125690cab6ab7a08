"""What a file says of channels, planes, rate, pixel size and offset is understood or refused."""

import contextlib
import json
import time

import numpy as np
import pytest
import tifffile
from scanimage_files import levels, planes, write_scan
from tiff_files import pages_of, software

from pipeline.errors import DataError
from pipeline.imaging.adapters import open_source
from pipeline.imaging.tiff import open_scan

RAMP = (np.arange(20)[:, None, None] * 10 + np.zeros((1, 12, 16))).astype(np.int16)


def by_channel(scan):
    return [np.unique(scan.movie(0, c)[:]).tolist() for c in range(scan.n_channels)]


JSON_HEADER = {
    "VERSION_MAJOR": "2018a",
    "objectiveResolution": 59.7,
    "hChannels": {"channelSave": [1, 2]},
    "hScan2D": {"bidirectional": 1, "logAverageFactor": 1},
    "hFastZ": {"enable": 0, "numFramesPerVolume": None},
    "hRoiManager": {
        "scanFrameRate": 10.0,
        "linePeriod": 6.3e-5,
        "mroiEnable": 0,
        "imagingFovUm": [[-96, -96], [96, -96], [96, 96], [-96, 96]],
    },
    "hStackManager": {"enable": 0, "zs": 0, "framesPerSlice": "_Inf_"},
}


def json_page(number, *, acquisition, within, seconds):
    page = {"frameNumbers": number, "acquisitionNumbers": acquisition}
    page |= {"frameNumberAcquisition": within, "frameTimestamps_sec": seconds}
    return json.dumps(page, indent=2)


@pytest.mark.parametrize("wrapped", [True, False])
def test_header_of_scanimage_in_json(tmp_path, wrapped):
    text = json.dumps({"SI": JSON_HEADER} if wrapped else JSON_HEADER, indent=2)
    pages = levels(*[10, 500] * 6)
    file = write_scan(tmp_path / "j.tif", pages, text, channels=2, text=json_page)
    scan = open_scan(file)
    assert (scan.fps, scan.n_channels, scan.n_frames) == (10.0, 2, 6)
    assert by_channel(scan) == [[10], [500]]
    assert scan.fields[0].um_per_px == pytest.approx((192 / 12, 192 / 16))
    assert scan.numbered
    assert scan.frame_seconds == pytest.approx(np.arange(6) / 10)


def test_header_of_scanimage_4(tmp_path):
    lines = {
        "channelsSave": "[1;2]",
        "fastZEnable": "1",
        "stackNumSlices": "2",
        "fastZDiscardFlybackFrames": "1",
        "fastZNumDiscardFrames": "1",
        "scanFrameRate": "30",
        "scanMode": "'bidirectional'",
        "stackZStepSize": "15",
        "acqNumAveragedFrames": "1",
    }
    header = "\n".join(f"scanimage.SI4.{name} = {value}" for name, value in lines.items())
    pages = levels(*[1, 2, 11, 12, 99, 99] * 4)

    def text(number, *, acquisition, within, seconds):
        return f"Frame Number = {number}\nFrame Timestamp(s) = {seconds:.9f}\n{header}"

    file = write_scan(tmp_path / "4.tif", pages, None, channels=2, text=text, period=1 / 30)
    scan = open_scan(file)
    assert (scan.n_frames, scan.n_fields, scan.channel_numbers) == (4, 2, [1, 2])
    assert scan.fps == pytest.approx(10.0)
    assert scan.bidirectional
    assert [field.z_um for field in scan.fields] == [0, 15]
    assert [planes(scan, 0), planes(scan, 1)] == [[[1], [11]], [[2], [12]]]


@pytest.mark.parametrize("text", ["scanimage.SI9.x = 1", "state.x", "ScanImage 2", "SI.acq = 1"])
def test_a_header_of_scanimage_that_is_not_understood_is_refused(tmp_path, text):
    tifffile.imwrite(tmp_path / "a.tif", RAMP, description=text, metadata=None)
    with pytest.raises(DataError, match=r"a\.tif"):
        open_scan(tmp_path / "a.tif", fps=10.0)


def ome(path, data, axes, **more):
    more = {"TimeIncrement": 0.1, "TimeIncrementUnit": "s"} | more
    tifffile.imwrite(path, data, metadata={"axes": axes, **more})
    return path


@pytest.mark.parametrize("axes", ["TCYX", "CTYX", "TZCYX", "TCZYX", "ZTCYX"])
def test_ome_has_channels_planes_interval_and_pixel_size(tmp_path, axes):
    shape = {"T": 5, "Z": 2 if "Z" in axes else 1, "C": 2}
    t, z, c = np.indices([shape[a] for a in "TZC"])
    value = (10 * t + 100 * z + 1000 * c).astype(np.int16)
    order = ["TZC".index(axis) for axis in axes[:-2]]
    lead = value if len(order) == 3 else value[:, 0]
    order = order if len(order) == 3 else [min(k, 1) for k in order]
    data = np.zeros((*lead.transpose(order).shape, 12, 16), np.int16)
    data += lead.transpose(order)[..., None, None]
    sizes = {f"PhysicalSize{a}": 1100.0 for a in "XY"}
    sizes |= {f"PhysicalSize{a}Unit": "nm" for a in "XY"}
    for fps in (None, 5.0):
        scan = open_source(ome(tmp_path / "o.ome.tif", data, axes, **sizes), fps=fps)
        assert (scan.n_frames, scan.n_fields, scan.n_channels) == (5, shape["Z"], 2)
        assert scan.fps == pytest.approx(fps or 10.0)
        assert scan.fields[0].um_per_px == pytest.approx((1.1, 1.1))
        for z in range(shape["Z"]):
            for c in (0, 1):
                found = scan.movie(z, c)[:][:, 0, 0]
                assert found.tolist() == [10 * k + 100 * z + 1000 * c for k in range(5)]


def test_ome_of_a_z_stack_is_no_movie(tmp_path):
    file = ome(tmp_path / "z.ome.tif", RAMP, "ZYX")
    with pytest.raises(DataError, match="is one z stack"):
        open_scan(file, fps=10.0)
    assert open_scan(file, stack=True).n_fields == 20


def test_ome_that_does_not_fit_the_pages_is_refused(tmp_path):
    file = ome(tmp_path / "o.ome.tif", np.stack([RAMP, RAMP], 1), "TCYX")
    text = tifffile.TiffFile(file).pages[0].description
    for old, new in (('SizeT="20"', 'SizeT="9"'), ("<Pixels", "<Pix"), ('SizeC="2"', 'SizeC="x"')):
        tifffile.imwrite(
            tmp_path / "b.tif", RAMP, description=text.replace(old, new), metadata=None
        )
        with pytest.raises(DataError, match=r"b\.tif"):
            open_scan(tmp_path / "b.tif", fps=10.0)
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><OME xmlns="o">&a;</OME>'
    tifffile.imwrite(tmp_path / "c.tif", RAMP, description=bomb, metadata=None)
    with pytest.raises(DataError, match=r"c\.tif: XML cannot be read"):
        open_scan(tmp_path / "c.tif", fps=10.0)


def test_fiji_has_signed_levels_scale_and_interval(tmp_path):
    moved = RAMP - 50
    text = (
        "ImageJ=1.53t\nimages=20\nframes=20\ncf=0\nc0=-32768.0\nc1=1.0\nfinterval=100\ntunit=ms\n"
    )
    stored = (moved.astype(np.int32) + 32768).astype(np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", stored, description=text, metadata=None)
    scan = open_scan(tmp_path / "s.tif")
    movie = scan.movie()[:]
    np.testing.assert_array_equal(movie, moved)
    assert movie.dtype == np.int16
    assert scan.fps == pytest.approx(10.0)
    text = text.replace("c1=1.0", "c1=0.5")
    tifffile.imwrite(tmp_path / "h.tif", stored, description=text, metadata=None)
    half = open_scan(tmp_path / "h.tif").movie()[:]
    np.testing.assert_allclose(half, stored * 0.5 - 32768)
    text = text.replace("cf=0", "cf=4")
    tifffile.imwrite(tmp_path / "c.tif", stored, description=text, metadata=None)
    with pytest.raises(DataError, match=r"c\.tif: cf, c0, c1: gray levels are calibrated by"):
        open_scan(tmp_path / "c.tif")


@pytest.mark.parametrize(("unit", "size"), [("micron", 1.5), ("\\u00B5m", 1.5), ("mm", 0.0015)])
def test_fiji_has_the_size_of_a_pixel(tmp_path, unit, size):
    tifffile.imwrite(
        tmp_path / "s.tif",
        RAMP,
        imagej=True,
        metadata={"axes": "TYX", "finterval": 0.1, "unit": unit},
        resolution=(1 / size, 1 / size),
    )
    assert open_scan(tmp_path / "s.tif").fields[0].um_per_px == pytest.approx((1.5, 1.5), rel=1e-3)


def test_fiji_hyperstack_has_planes_and_no_playback_rate(tmp_path):
    data = np.zeros((4, 3, 2, 12, 16), np.int16) + np.arange(24).reshape(4, 3, 2, 1, 1)
    data = data.astype(np.int16)
    tifffile.imwrite(tmp_path / "h.tif", data, imagej=True, metadata={"axes": "TZCYX", "fps": 7.0})
    with pytest.raises(DataError, match="frame rate is unknown; found 2 channels, 3 planes"):
        open_scan(tmp_path / "h.tif")
    scan = open_scan(tmp_path / "h.tif", fps=5.0)
    assert (scan.n_frames, scan.n_fields, scan.n_channels) == (4, 3, 2)
    assert scan.movie(1, 1)[:][:, 0, 0].tolist() == [3, 9, 15, 21]


def test_tifffile_says_axes_or_is_refused(tmp_path):
    file = tmp_path / "t.tif"
    tifffile.imwrite(file, RAMP, truncate=True)
    np.testing.assert_array_equal(open_scan(file, fps=10.0).movie()[:], RAMP)
    both = np.stack([RAMP, RAMP + 1000], 1)
    tifffile.imwrite(file, both)
    with pytest.raises(DataError, match=r"t\.tif: shape: has several axes, .* which is time"):
        open_scan(file, fps=10.0)
    tifffile.imwrite(file, both, metadata={"axes": "TCYX"})
    scan = open_scan(file, fps=10.0)
    assert (scan.n_frames, scan.n_channels) == (20, 2)
    np.testing.assert_array_equal(scan.movie(0, 1)[:], RAMP + 1000)
    tifffile.imwrite(file, both.transpose(1, 0, 2, 3), metadata={"axes": "CTYX"})
    np.testing.assert_array_equal(open_scan(file, fps=10.0).movie(0, 1)[:], RAMP + 1000)
    (tmp_path / "t.json").write_text('{"fps": 10, "channels": 2}')
    tifffile.imwrite(file, both)
    np.testing.assert_array_equal(open_source(file).movie(0, 1)[:], RAMP + 1000)
    with tifffile.TiffWriter(file) as writer:
        for frame in RAMP:
            writer.write(frame, contiguous=False)
    np.testing.assert_array_equal(open_scan(file, fps=10.0).movie()[:], RAMP)


def test_micromanager_numbers_every_page(tmp_path):
    file = tmp_path / "mm.tif"
    with tifffile.TiffWriter(file) as writer:
        for frame in range(6):
            for channel in range(2):
                said = {"FrameIndex": frame, "ChannelIndex": channel, "SliceIndex": 0}
                said |= {"ElapsedTime-ms": 200 * frame + 3 * channel, "PixelSizeUm": 0.65}
                writer.write(
                    np.full((12, 16), 10 * frame + channel, np.uint16),
                    metadata=None,
                    contiguous=False,
                    extratags=[(51123, "s", 0, json.dumps(said), True)],
                )
    scan = open_scan(file)
    assert (scan.n_frames, scan.n_channels) == (6, 2)
    assert scan.fps == pytest.approx(5.0)
    assert scan.fields[0].um_per_px == (0.65, 0.65)
    assert scan.movie(0, 1)[:][:, 0, 0].tolist() == [1, 11, 21, 31, 41, 51]


def test_pages_of_scanimage_without_their_header_show_their_channels(tmp_path):
    file = write_scan(tmp_path / "p.tif", levels(*[10, 500] * 5), None, channels=2)
    scan = open_scan(file, fps=10.0)
    assert by_channel(scan) == [[10], [500]]


def test_formats_with_private_tags_are_refused_by_name(tmp_path):
    for tag, name in ((34412, "Zeiss LSM"), (34361, "Olympus FluoView")):
        tifffile.imwrite(
            tmp_path / "x.lsm.tif", pages_of(2), metadata=None, extratags=[(tag, "B", 8, b"\0" * 8)]
        )
        with pytest.raises(DataError, match=f"is a {name} file.*OME-TIFF"):
            open_scan(tmp_path / "x.lsm.tif", fps=10.0)


def test_no_description_takes_long(tmp_path):
    for text in (
        "ImageJ=1\n" + "images=" + "9" * 200_000,
        '{"shape": [' + "[" * 50_000,
        "<OME" + " a" * 100_000,
        "frameNumbers = " + "1" * 200_000,
        "frameNumbers" + " " * 200_000 + "= 1",
        json.dumps({"SI": {"hChannels": {"channelSave": [[[[1]]]]}}}),
        '{"SI": ' * 5_000,
    ):
        tifffile.imwrite(tmp_path / "a.tif", RAMP[:2], description=text, metadata=None)
        began = time.process_time()
        with contextlib.suppress(DataError):
            open_scan(tmp_path / "a.tif", fps=10.0)
        assert time.process_time() - began < 2


def test_a_folder_is_opened_by_the_json_of_its_first_file(tmp_path):
    for index in range(3):
        page = RAMP[:4] + index
        tifffile.imwrite(tmp_path / f"a_{index}.tif", page, metadata=None, photometric="minisblack")
    (tmp_path / "a_0.json").write_text('{"fps": 10, "channels": 2}')
    scan = open_source(tmp_path)
    assert (scan.n_frames, scan.n_channels, scan.fps) == (6, 2, 10.0)


@pytest.mark.parametrize(
    ("flags", "offset", "said"),
    [("[false true]", "[-120 9]", True), ("[true false]", "[-120 9]", False), ("false", "7", True)],
)
def test_an_offset_that_scanimage_left_in_the_pixels_is_said(tmp_path, flags, offset, said):
    header = software(hChannels__channelSubtractOffset=flags, hChannels__channelOffset=offset)
    scan = open_scan(write_scan(tmp_path / "s.tif", levels(1, 2, 3), header))
    assert ["offset-kept"] * said == [finding.name for finding in scan.findings]
