"""Structural stacks: what the file says of slices, repeats, channels and flyback."""

import numpy as np
import pytest
import tifffile
from scanimage_files import levels, volume_header, write_scan
from scipy.ndimage import gaussian_filter, shift
from tiff_files import software

from pipeline.errors import DataError
from pipeline.imaging.__main__ import main
from pipeline.imaging.structural import read_stack


def slow(slices, frames, average=1, **more):
    return software(
        hStackManager__enable="true",
        hStackManager__stackMode="'slow'",
        hStackManager__framesPerSlice=str(frames),
        hStackManager__numSlices=str(slices),
        hStackManager__zs="[" + " ".join(str(2 * i) for i in range(slices)) + "]",
        hScan2D__logAverageFactor=str(average),
        **more,
    )


def levels_of(stack):
    return stack.volume.mean((1, 2)).tolist()


def test_repeats_of_a_slice_are_averaged(tmp_path):
    pages = levels(*[100 * (z + 1) + k for z in range(5) for k in (-1, 0, 1)])
    stack = read_stack(write_scan(tmp_path / "s.tif", pages, slow(5, 3)))
    assert levels_of(stack) == [100, 200, 300, 400, 500]
    assert stack.repeats == 3
    assert stack.um_per_voxel[0] == 2.0


def test_a_page_that_scanimage_averaged_is_a_slice(tmp_path):
    stack = read_stack(write_scan(tmp_path / "s.tif", levels(1, 2, 3, 4), slow(4, 10, 10)))
    assert levels_of(stack) == [1, 2, 3, 4]
    assert stack.repeats == 1


def test_channels_and_repeated_volumes_are_told_apart(tmp_path):
    pages = [
        c * 1000 + 10 * z for _ in range(3) for z in range(2) for _ in range(2) for c in (1, 2)
    ]
    header = slow(2, 2, hChannels__channelSave="[1;4]")
    file = write_scan(tmp_path / "s.tif", levels(*pages), header, channels=2)
    assert levels_of(read_stack(file, channel=1)) == [1000, 1010]
    assert levels_of(read_stack(file, channel=4)) == [2000, 2010]
    assert [f.name for f in read_stack(file).findings] == ["stack-channel"]
    with pytest.raises(
        DataError, match=r"channel was not saved; found 3; expected one of \[1, 4\]"
    ):
        read_stack(file, channel=3)


def test_flyback_of_a_fast_stack_is_left_out(tmp_path):
    pages = levels(*[1, 2, 3, 99] * 5)
    stack = read_stack(write_scan(tmp_path / "s.tif", pages, volume_header(3, flyback=1)))
    assert levels_of(stack) == [1, 2, 3]
    assert (stack.repeats, stack.um_per_voxel[0]) == (5, 20.0)


def test_a_stack_that_ends_early_is_refused(tmp_path):
    file = write_scan(tmp_path / "s.tif", levels(*range(11)), slow(4, 3))
    with pytest.raises(DataError, match=r"s\.tif: stack ends within its first volume; found 11"):
        read_stack(file)


@pytest.mark.parametrize("kind", ["plain", "ome", "imagej", "axes", "float"])
def test_stacks_of_other_programs(tmp_path, kind):
    volume = np.zeros((6, 12, 16), np.float32 if kind == "float" else np.uint16)
    volume += np.arange(6, dtype=volume.dtype)[:, None, None]
    file, options = tmp_path / "s.tif", {"metadata": {"axes": "ZYX"}}
    if kind == "ome":
        file = tmp_path / "s.ome.tif"
        options["metadata"] |= {"PhysicalSizeZ": 3.0, "PhysicalSizeZUnit": "µm"}
    elif kind == "imagej":
        options["imagej"] = True
    elif kind in ("plain", "float"):
        options = {}
    tifffile.imwrite(file, volume, photometric="minisblack", **options)
    stack = read_stack(file)
    assert levels_of(stack) == [0, 1, 2, 3, 4, 5]
    if kind == "ome":
        assert stack.um_per_voxel[0] == 3.0


def test_repeats_are_aligned_before_they_are_averaged(tmp_path):
    rng = np.random.default_rng(0)
    still = gaussian_filter(rng.normal(size=(80, 80)), 1.5) * 2000 + 300
    pages = []
    for y, x in rng.normal(0, 2, (12, 2)):
        moved = shift(still, (y, x), mode="nearest") + rng.normal(0, 30, still.shape)
        pages.append(moved[8:72, 8:72].astype(np.int16))
    file = write_scan(tmp_path / "s.tif", [*pages, *pages], slow(2, 12))
    aligned, plain = (read_stack(file, align=align).volume[0] for align in (True, False))
    assert aligned.std() > 0.95 * still.std()
    assert plain.std() < 0.8 * still.std()


def test_a_stack_from_the_shell(tmp_path, capsys):
    pages = levels(*[100 * (z + 1) + k for z in range(5) for k in (-1, 0, 1)])
    file = write_scan(tmp_path / "s.tif", pages, slow(5, 3))
    assert main(["stack", str(file), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert '"pages_per_slice": 3' in capsys.readouterr().out
    volume = np.load(tmp_path / "out" / "stack.npy")
    assert volume.mean((1, 2)).tolist() == [100, 200, 300, 400, 500]
