"""Frames get the times of their own pulses, whatever was lost on either side."""

import numpy as np
import pytest
import tifffile
from scanimage_files import levels, volume_header, write_scan
from tiff_files import software

from pipeline.errors import DataError
from pipeline.recording.frames import open_timed, pair_by_count

PERIOD = 0.1


def rig(pulses, *, drift=50e-6, jitter=2e-3, start=100.0, seed=0):
    """Return times on a rig's clock of pulses of given numbers (float: in between)."""
    noise = np.random.default_rng(seed).normal(0, jitter, len(pulses))
    return start + np.asarray(pulses) * PERIOD * (1 + drift) + noise


def movie(path, numbers, **options):
    pages = levels(*[number % 30_000 for number in numbers])
    return write_scan(path, pages, software(), numbers=numbers, **options)


def names(timed):
    return [finding.name for finding in timed.findings]


def check(timed, pulses, numbers):
    """Compare every frame's time with that of the pulse of its number."""
    by_number = dict(zip(pulses, rig(pulses), strict=True))
    expected = [by_number[number - 1] for number in numbers]
    np.testing.assert_allclose(timed.time_s, expected, atol=1e-9)


def test_whole_scan_keeps_its_times_to_the_bit(tmp_path):
    numbers = list(range(1, 201))
    times = rig(range(200))
    timed = open_timed(movie(tmp_path / "a.tif", numbers), times, file="frame_times.csv")
    np.testing.assert_array_equal(timed.time_s, times)
    assert names(timed) == []


@pytest.mark.parametrize("stamped", [True, False])
def test_frames_dropped_in_mid_scan_shift_no_later_one(tmp_path, stamped):
    numbers = [*range(1, 101), *range(103, 251), *range(252, 301)]
    seconds = None if stamped else [0.0] * len(numbers)
    file = movie(tmp_path / "a.tif", numbers, seconds=seconds)
    timed = open_timed(file, rig(range(300)), file="frame_times.csv")
    check(timed, range(300), numbers)
    assert names(timed) == ["frames-missing", "frame-times-left-over"]
    assert "3 are of frames that are missing in mid-scan" in timed.findings[1].text


def test_spurious_and_missing_pulses_are_told_apart(tmp_path):
    numbers = list(range(1, 201))
    pulses = np.delete(np.arange(200.0), [40, 41, 150])
    pulses = np.sort(np.append(pulses, [20.3, 90.25]))
    times = rig(pulses, jitter=0)
    timed = open_timed(movie(tmp_path / "a.tif", numbers), times, file="frame_times.csv")
    np.testing.assert_allclose(timed.time_s, rig(range(200), jitter=0), atol=1e-4)
    assert names(timed) == ["frame-times-filled", "frame-times-left-over"]
    assert "3 frames have no pulse" in timed.findings[0].text
    assert "2 are spurious" in timed.findings[1].text


def test_equal_counts_do_not_hide_a_drop_and_a_spurious_pulse(tmp_path):
    numbers = [*range(1, 81), *range(82, 202)]
    pulses = np.sort(np.append(np.arange(201.0), []))
    timed = open_timed(movie(tmp_path / "a.tif", numbers), rig(pulses), file="frame_times.csv")
    check(timed, pulses, numbers)
    spurious = np.sort(np.append(np.delete(np.arange(201.0), [200]), [120.3]))
    short = [n for n in numbers if n <= 200]
    times = rig(spurious, jitter=0)
    timed = open_timed(movie(tmp_path / "b.tif", short), times, file="frame_times.csv")
    expected = rig(np.array(short) - 1, jitter=0)
    np.testing.assert_allclose(timed.time_s, expected, atol=1e-4)


def test_a_missing_file_leaves_its_times_unused(tmp_path):
    first = movie(tmp_path / "s_00001.tif", list(range(1, 101)))
    third = movie(tmp_path / "s_00003.tif", list(range(201, 301)))
    timed = open_timed([first, third], rig(range(300)), file="frame_times.csv")
    check(timed, range(300), [*range(1, 101), *range(201, 301)])
    assert names(timed) == ["frames-missing", "frame-times-left-over"]
    only = open_timed([third], rig(range(300)), file="frame_times.csv")
    check(only, range(300), list(range(201, 301)))


def test_a_tail_that_was_cut_and_pulses_that_stop_early(tmp_path):
    file = movie(tmp_path / "a.tif", list(range(1, 151)))
    timed = open_timed(file, rig(range(200)), file="frame_times.csv")
    check(timed, range(200), list(range(1, 151)))
    assert "50 come after the last frame" in timed.findings[0].text
    early = open_timed(file, rig(range(146)), file="frame_times.csv")
    assert names(early) == ["frame-times-filled"]
    np.testing.assert_allclose(early.time_s, rig(range(150)), atol=0.02)
    with pytest.raises(DataError, match=r"frame_times\.csv: frame times do not fit the frames"):
        open_timed(file, rig(range(100)), file="frame_times.csv")


def test_an_odd_first_pulse_does_not_shift_the_others(tmp_path):
    file = movie(tmp_path / "a.tif", list(range(1, 101)))
    times = rig(np.append([-0.35], np.arange(100.0)))
    timed = open_timed(file, times, file="frame_times.csv")
    np.testing.assert_array_equal(timed.time_s, times[1:])
    late = rig(np.append([0.3], np.arange(1.0, 100)))
    np.testing.assert_array_equal(open_timed(file, late, file="f.csv").time_s, late)


def test_a_pulse_for_every_page_of_a_volume_is_understood(tmp_path):
    pages = levels(*[1, 2, 3, 9] * 30)
    file = write_scan(tmp_path / "v.tif", pages, volume_header(3, flyback=1), period=PERIOD)
    timed = open_timed(file, rig(range(120)), file="frame_times.csv")
    np.testing.assert_array_equal(timed.time_s, rig(range(120))[::4])
    assert timed.scan.fps == pytest.approx(2.5, rel=0.01)
    assert names(timed) == ["frame-times-per-page"]
    later = timed.scan.fields[1].delay_s - timed.scan.fields[0].delay_s
    assert later == pytest.approx(PERIOD, rel=0.01)
    volumes = open_timed(file, rig(np.arange(0, 120, 4)), file="frame_times.csv")
    assert names(volumes) == []
    assert volumes.scan.fps == pytest.approx(2.5, rel=0.01)


def test_acquisitions_find_their_times_after_the_pause(tmp_path):
    one = movie(tmp_path / "s_00001.tif", list(range(1, 61)))
    two = movie(tmp_path / "s_00002.tif", list(range(1, 81)), acquisitions=[2] * 80)
    pulses = [*np.arange(61.0), *(100.37 + np.arange(80.0))]  # a pulse of a frame that was lost
    timed = open_timed([one, two], rig(pulses), file="frame_times.csv")
    expected = [*rig(pulses)[:60], *rig(pulses)[61:]]
    np.testing.assert_array_equal(timed.time_s, expected)
    assert names(timed) == ["acquisitions-joined", "frame-times-left-over"]


def test_times_at_another_rate_are_refused(tmp_path):
    file = movie(tmp_path / "a.tif", list(range(1, 101)))
    with pytest.raises(DataError, match=r"another rate than the frames; found 8 Hz; expected 10"):
        open_timed(file, np.arange(100) * 0.125, file="frame_times.csv")
    with pytest.raises(DataError, match="another rate"):
        open_timed(file, np.arange(100) * 100.0, file="frame_times.csv")


def test_without_numbers_a_difference_is_explained_or_said():
    even = np.arange(100) * PERIOD
    times, findings = pair_by_count(100, even, file="f.csv")
    assert findings == []
    np.testing.assert_array_equal(times, even)
    spurious = np.sort(np.append(even, [3.03, 7.02]))
    times, findings = pair_by_count(100, spurious, file="f.csv")
    np.testing.assert_array_equal(times, even)
    assert findings[0].name == "frame-times-spurious"
    times, findings = pair_by_count(100, np.delete(even, [50, 51, 80]), file="f.csv")
    np.testing.assert_allclose(times, even)
    assert findings[0].name == "frame-times-filled"
    times, findings = pair_by_count(98, even, file="f.csv")
    np.testing.assert_array_equal(times, even[:98])
    assert findings[0].name == "frame-times-uneven"
    with pytest.raises(DataError, match=r"f\.csv: frame times do not fit the frames; found 100"):
        pair_by_count(90, even, file="f.csv")


def test_a_plain_movie_is_opened_at_the_rate_of_its_times(tmp_path):
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((50, 12, 16), np.int16))
    timed = open_timed(tmp_path / "p.tif", rig(range(50), jitter=0), file="f.csv")
    assert timed.scan.fps == pytest.approx(10.0, rel=1e-3)
    assert names(timed) == []


def test_a_file_of_bruker_that_is_missing_shifts_no_later_frame(tmp_path):
    for index in range(1, 31):
        if index != 12:
            name = f"S-001_Cycle00001_Ch1_{index:06d}.ome.tif"
            page = np.full((12, 16), index, np.uint16)
            tifffile.imwrite(tmp_path / name, page, software="Prairie View", metadata=None)
    timed = open_timed(tmp_path, rig(range(30)), file="frame_times.csv")
    kept = np.delete(np.arange(30), 11)
    np.testing.assert_array_equal(timed.scan.movie()[:][:, 0, 0], kept + 1)
    np.testing.assert_array_equal(timed.time_s, rig(range(30))[kept])
