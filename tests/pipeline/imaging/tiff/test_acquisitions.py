"""Pages are put into frames by the numbers that ScanImage wrote, never by counting."""

import os

import numpy as np
import pytest
from scanimage_files import levels, planes, volume_header, write_scan
from tiff_files import software

from pipeline.errors import DataError
from pipeline.imaging.tiff import open_scan


def names(scan):
    return [finding.name for finding in scan.findings]


def test_an_aborted_volume_does_not_swap_the_planes_of_the_next_acquisition(tmp_path):
    header = volume_header(3)
    first = levels(*[100, 200, 300] * 4, 100, 200)
    a = write_scan(tmp_path / "s_00001_00001.tif", first, header)
    b = levels(*[100, 200, 300] * 5)
    b = write_scan(tmp_path / "s_00002_00001.tif", b, header, acquisitions=[2] * 15)
    scan = open_scan([a, b])
    assert scan.n_frames == 9
    assert planes(scan) == [[100], [200], [300]]
    assert names(scan) == ["acquisitions-joined"]
    assert scan.acquisitions == [1, 2]
    for number, frames in ((1, 4), (2, 5)):
        one = open_scan([a, b], acquisition=number)
        assert (one.n_frames, names(one)) == (frames, [])
        assert planes(one) == [[100], [200], [300]]
    with pytest.raises(DataError, match=r"no such acquisition; found 3; expected one of \[1, 2\]"):
        open_scan([a, b], acquisition=3)


def test_an_acquisition_may_be_split_into_files_within_a_volume(tmp_path):
    pages, header = levels(*[100, 200, 300] * 6), volume_header(3)
    write_scan(tmp_path / "s_00001.tif", pages[:10], header)
    write_scan(tmp_path / "s_00002.tif", pages[10:], header, numbers=range(11, 19))
    scan = open_scan(tmp_path)
    assert (scan.n_frames, planes(scan), names(scan)) == (6, [[100], [200], [300]], [])


def test_a_lost_page_costs_its_own_frame_of_two_channels(tmp_path):
    header = software(hChannels__channelSave="[1;2]")
    write_scan(tmp_path / "s_00001.tif", levels(*[10, 500] * 5, 10), header, channels=2)
    second = levels(*[10, 500] * 5)
    write_scan(tmp_path / "s_00002.tif", second, header, channels=2, acquisitions=[2] * 5)
    scan = open_scan(tmp_path)
    assert scan.n_frames == 10
    assert [planes(scan, channel) for channel in (0, 1)] == [[[10]], [[500]]]


@pytest.mark.parametrize("within", [True, False])
def test_a_frame_dropped_within_a_volume_leaves_its_volume_out(tmp_path, within):
    pages = levels(*[100, 200, 300, 900] * 6)
    numbers = list(range(1, 25))
    for lost in (9, 7):  # slice 1 of volume 2, flyback of volume 1
        del pages[lost], numbers[lost]
    given = numbers if within else [-1] * len(numbers)
    file = write_scan(
        tmp_path / "s.tif", pages, volume_header(3, flyback=1), numbers=numbers, within=given
    )
    scan = open_scan(file)
    assert scan.frame_place.tolist() == [0, 1, 3, 4, 5]
    assert planes(scan) == [[100], [200], [300]]
    assert names(scan) == ["frames-missing"]


def test_many_acquisitions_in_one_file_keep_their_planes(tmp_path):
    numbers, acquisitions, within, pages, seconds = [], [], [], [], []
    for trial in range(4):
        for index in range(7 if trial % 2 else 6):
            numbers.append(len(numbers) + 1)
            acquisitions.append(trial + 1)
            within.append(index + 1)
            seconds.append(trial * 5.3 + index / 30)
            pages.append([100, 200, 300][index % 3])
    file = write_scan(
        tmp_path / "loop.tif",
        levels(*pages),
        volume_header(3, rate=30.0),
        numbers=numbers,
        acquisitions=acquisitions,
        within=within,
        seconds=seconds,
    )
    scan = open_scan(file)
    assert scan.n_frames == 8
    assert planes(scan) == [[100], [200], [300]]
    assert scan.frame_run.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert scan.fps == pytest.approx(10.0)


def test_numbers_that_contradict_the_channels_are_refused(tmp_path):
    one = write_scan(tmp_path / "a.tif", levels(*[10, 500] * 5), software(), channels=2)
    with pytest.raises(DataError, match=r"a\.tif: frameNumbers: .*contradict the saved channels"):
        open_scan(one)
    two = software(hChannels__channelSave="[1 2]")
    with pytest.raises(DataError, match="contradict the saved channels"):
        open_scan(write_scan(tmp_path / "b.tif", levels(*range(10)), two))


def test_time_stamps_that_jump_are_missing_frames(tmp_path):
    seconds = [k / 10 + (0.5 if k >= 6 else 0) for k in range(12)]
    scan = open_scan(
        write_scan(tmp_path / "s.tif", levels(*range(12)), software(), seconds=seconds)
    )
    assert scan.frame_place.tolist() == [*range(6), *range(11, 17)]
    assert names(scan) == ["frames-missing"]


def test_rate_is_that_of_the_stamps_where_the_header_differs(tmp_path):
    header = software()  # says 10 Hz
    scan = open_scan(write_scan(tmp_path / "s.tif", levels(*range(12)), header, period=0.125))
    assert scan.fps == pytest.approx(8.0)
    assert names(scan) == ["rate-contradicted"]


def test_frames_averaged_while_logging_come_at_a_lower_rate(tmp_path):
    header = software(hScan2D__logAverageFactor="4")
    pages = levels(*range(20))
    for start in (1, 4):  # numbered by the first or by the last of the four
        numbers = list(range(start, start + 80, 4))
        scan = open_scan(write_scan(tmp_path / "s.tif", pages, header, numbers=numbers))
        assert scan.fps == pytest.approx(2.5)
        assert scan.frame_place.tolist() == list(range(20))
        plain = open_scan(write_scan(tmp_path / "p.tif", pages, software()))
        later = scan.fields[0].delay_s - plain.fields[0].delay_s
        assert later == pytest.approx(1.5 * 0.1)  # mean of four frames


def test_delays_and_line_times_go_with_a_rate_that_is_given(tmp_path):
    file = write_scan(
        tmp_path / "s.tif", levels(*[1, 2] * 6), volume_header(2, rate=30.0), period=1 / 30
    )
    own, given = open_scan(file), open_scan(file, fps=7.5)
    assert (own.fps, given.fps, given.own_fps) == (15.0, 7.5, 15.0)
    for one, other in zip(own.fields, given.fields, strict=True):
        assert other.line_period_s == pytest.approx(2 * one.line_period_s)
        assert other.delay_s == pytest.approx(2 * one.delay_s)


def test_a_file_of_another_scan_is_refused_by_name(tmp_path):
    a = write_scan(
        tmp_path / "a.tif", levels(*[1, 2] * 6), volume_header(2, rate=30.0), period=1 / 30
    )
    numbers = range(13, 25)
    others = {
        "n_slices": volume_header(3, rate=30.0),
        "channels": volume_header(2, channels="2", rate=30.0),
        "rate": volume_header(2, rate=31.0),
        "fields": volume_header(2, rate=30.0, hRoiManager__imagingFovUm="[-9 -5;9 -5;9 5;-9 5]"),
    }
    for what, header in others.items():
        b = write_scan(tmp_path / "b.tif", levels(*[1, 2] * 6), header, numbers=numbers)
        with pytest.raises(DataError, match=rf"b\.tif.*(another kind of scan|another {what})"):
            open_scan([a, b])


def test_a_file_that_was_cut_is_followed_by_the_next_in_its_place(tmp_path):
    pages, header = levels(*[100, 200, 300] * 6), volume_header(3)
    a = write_scan(tmp_path / "s_00001.tif", pages[:9], header)
    write_scan(tmp_path / "s_00002.tif", pages[9:], header, numbers=range(10, 19))
    os.truncate(a, a.stat().st_size - 100)
    scan = open_scan(tmp_path)
    assert scan.frame_place.tolist() == [0, 1, 3, 4, 5]
    assert planes(scan) == [[100], [200], [300]]
    assert names(scan) == ["file-cut", "frames-missing"]


def test_hundreds_of_files_are_read_with_few_of_them_open(tmp_path):
    import resource

    import tifffile

    for index in range(300):
        page = np.full((8, 8), index, np.uint16)
        tifffile.imwrite(tmp_path / f"Img_{index + 1}.tif", page, metadata=None)
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 32, usual[1]))
    try:
        movie = open_scan(tmp_path, fps=30.0).movie()[:]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    np.testing.assert_array_equal(movie[:, 0, 0], np.arange(300))
