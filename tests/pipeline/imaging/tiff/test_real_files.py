"""Files of real microscopes, with what other programs read from them as the right values."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiff_files import software

from pipeline.errors import DataError
from pipeline.imaging.structural import read_stack
from pipeline.imaging.tiff import open_scan
from pipeline.imaging.tiff.header import parse_header, regions_of, standard_names

REAL = Path(__file__).parents[5] / "shared" / "data" / "real"
if not REAL.is_dir():
    REAL = Path(__file__).parents[4] / "shared" / "data" / "real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the folder of real files is not here")


def names(scan):
    return [finding.name for finding in scan.findings]


def test_scanimage_3_8_has_its_rate_direction_and_channel():
    scan = open_scan(REAL / "scanimage" / "si38_one_channel.tiff")
    assert (scan.n_frames, scan.n_fields, scan.channel_numbers) == (10, 1, [1])
    assert scan.fps == 3.90625
    assert scan.bidirectional
    assert scan.fields[0].line_period_s == pytest.approx(1e-3)
    means = scan.movie()[:].mean((1, 2))
    assert means[0] == pytest.approx(16, abs=1)  # before the shutter
    assert ((means[1:] > 255) & (means[1:] < 315)).all()


def test_scanimage_2021_volume_of_two_channels_with_flyback():
    scan = open_scan(REAL / "scanimage" / "si2021_volume_two_channels")
    assert (scan.n_frames, scan.n_fields, scan.channel_numbers) == (100, 9, [1, 2])
    assert scan.fps == pytest.approx(32.748, rel=2e-4)
    assert [field.z_um for field in scan.fields] == list(range(92, 110, 2))
    assert scan.fields[0].um_per_px == pytest.approx((0.84375, 0.84375))
    later = scan.fields[1].delay_s - scan.fields[0].delay_s
    assert later == pytest.approx(1 / 523.98, rel=2e-4)
    assert scan.frame_seconds[-1] == pytest.approx(3.05166947 - 15 / 523.98, abs=1e-4)
    assert names(scan) == []
    with tifffile.TiffFile(scan.files[0]) as file:  # volume 2, slice 5, both channels
        pages = np.stack([file.pages[2 * (2 * 16 + 5) + c].asarray() for c in (0, 1)])
    found = [scan.movie(5, channel)[2:3][0] for channel in (0, 1)]
    np.testing.assert_array_equal(found, pages)


def test_a_file_that_is_missing_in_the_middle_leaves_a_gap():
    files = sorted((REAL / "scanimage" / "si2021_volume_two_channels").iterdir())
    scan = open_scan(files[:3] + files[4:])
    assert (scan.n_frames, scan.n_fields) == (90, 9)
    assert scan.frame_place.tolist() == [*range(30), *range(40, 100)]
    assert names(scan) == ["frames-missing"]


def test_a_slow_stack_is_no_movie_and_a_structural_stack():
    file = REAL / "scanimage" / "si2023_slow_stack_two_channels.tif"
    with pytest.raises(DataError, match="slow z stack"):
        open_scan(file)
    first, fourth = (read_stack(file, channel=number) for number in (1, 4))
    assert first.volume.shape == fourth.volume.shape == (2, 256, 256)
    assert first.repeats == 6  # three volumes of two frames in every slice
    np.testing.assert_allclose(first.volume.mean((1, 2)), -0.7, atol=0.15)
    np.testing.assert_allclose(fourth.volume.mean((1, 2)), 1.9, atol=0.15)
    with pytest.raises(DataError, match=r"channel was not saved.*\[1, 4\]"):
        read_stack(file, channel=2)


def test_a_header_of_2015_in_json_places_nine_fields_of_a_mesoscope(tmp_path):
    text = (REAL / "scanimage" / "si2015_mesoscope_header.json").read_text()
    entries = standard_names(parse_header(text))
    fly = entries["hScan2D.flytoTimePerScanfield"] / entries["hRoiManager.linePeriod"]
    assert round(fly) == 122
    assert len(regions_of(text)["imagingRoiGroup"]["rois"]) == 9
    page = np.zeros((9 * 464 + 8 * 122, 64), np.int16)
    centers = [-0.03, 7.71, 15.41, 11.58, 3.84, -3.91, -11.68, -15.54, -7.81]
    for index, top in enumerate(range(0, 9 * 586, 586)):
        page[top : top + 464] = 100 + index
    tifffile.imwrite(tmp_path / "m.tif", page[None], software=text, metadata=None)
    scan = open_scan(tmp_path / "m.tif")
    assert scan.n_fields == 9
    assert scan.fps == pytest.approx(1 / 0.219375)
    assert [f.height_px for f in scan.fields] == [464] * 9
    assert [np.unique(scan.movie(k)[:]).tolist() for k in range(9)] == [[100 + k] for k in range(9)]
    np.testing.assert_allclose([f.x_um / 157.5 for f in scan.fields], centers, atol=0.01)
    size = (28 / 464 * 157.5, 3.866077308 / 64 * 157.5)
    assert scan.fields[0].um_per_px == pytest.approx(size)
    assert scan.fields[1].delay_s - scan.fields[0].delay_s == pytest.approx(586 * 4.159925e-5)


def test_bruker_has_two_planes_whoever_gives_the_rate():
    folder = REAL / "other_tiff" / "bruker_two_planes"
    for fps in (None, 10.0):
        scan = open_scan(folder, fps=fps)
        assert (scan.n_frames, scan.n_fields, scan.channel_numbers) == (5, 2, [2])
        assert scan.fps == pytest.approx(10.315 if fps is None else 10.0, rel=1e-3)
        assert [field.z_um for field in scan.fields] == [-130, 130]
        assert scan.fields[0].um_per_px == pytest.approx((1.1078125, 1.1078125))
        means = [scan.movie(k)[:].mean((1, 2)).round() for k in (0, 1)]
        assert [m.tolist() for m in means] == [[721, 696, 696, 702, 704], [147, 146, 149, 151, 152]]
    later = open_scan(folder).fields[1].delay_s - open_scan(folder).fields[0].delay_s
    assert later == pytest.approx(0.048474, rel=1e-3)


def test_bruker_without_its_xml_is_told_by_the_names(tmp_path):
    for file in (REAL / "other_tiff" / "bruker_two_planes").glob("*.tif"):
        (tmp_path / file.name).symlink_to(file)
    scan = open_scan(tmp_path, fps=10.0)
    assert (scan.n_frames, scan.n_fields, scan.channel_numbers) == (5, 2, [2])
    with pytest.raises(DataError, match="frame rate is unknown; found 1 channels, 2 planes"):
        open_scan(tmp_path)


def test_thor_has_its_rate_from_the_file_beside_the_movie():
    scan = open_scan(REAL / "other_tiff" / "thor")
    assert (scan.n_frames, scan.n_fields, scan.n_channels) == (3, 1, 1)
    assert scan.fps == pytest.approx(13.967)
    assert scan.fields[0].um_per_px == pytest.approx((0.884, 0.884))


def test_single_pages_are_in_the_order_of_their_numbers():
    scan = open_scan(REAL / "other_tiff" / "single_pages", fps=30.0)
    assert [file.name for file in scan.files[:3]] == ["Img_1.tif", "Img_2.tif", "Img_3.tif"]
    assert (scan.n_frames, scan.n_fields) == (20, 1)


def test_stitched_frames_of_a_mesoscope():
    scan = open_scan(REAL / "other_tiff" / "mesoscope_stitched", fps=4.558)
    np.testing.assert_allclose(scan.movie()[:].mean((1, 2)), [469.7, 443.7], atol=0.1)


def test_other_kinds_in_one_folder_are_refused(tmp_path):
    """A z stack of the same size beside a movie is not joined to it."""
    stack = REAL / "scanimage" / "si2023_slow_stack_two_channels.tif"
    pages = np.zeros((3, 256, 256), np.int16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pages,
        photometric="minisblack",
        metadata=None,
        software=software(hChannels__channelSave="[1 4]"),
    )
    with pytest.raises(DataError, match=r"slow_stack.*another kind of scan"):
        open_scan([tmp_path / "a.tif", stack])
