import json

import numpy as np
import pytest
import tifffile
from scipy.ndimage import shift as move

from pipeline.simulate import Detector
from pipeline.simulate.brain.calcium import INDICATORS, draw_spikes, fluorescence, indicator
from pipeline.simulate.microscope.motion import draw_motion
from pipeline.simulate.microscope.movie import MAX_PHOTONS, noise_table, render_frames
from pipeline.simulate.rig.record import draw_day


def _frames(bundle):
    files = json.loads((bundle / "recording.json").read_text())["imaging"]["files"]
    return np.concatenate(
        [np.stack([page.asarray() for page in tifffile.TiffFile(bundle / f).pages]) for f in files]
    )


@pytest.fixture(scope="module")
def field(mouse):
    return draw_day(mouse, 1)


def _still(field, n=1, dy=0.0, dx=0.0, seed=0, first=0):
    """Render a quiet field with many photons, displaced by (dy, dx)."""
    height = field.shape[0]
    return render_frames(
        field,
        Detector(photons=100.0, read_sd=1.0, gain=10.0),
        np.zeros((n, len(field.modes))),
        np.ones((n, len(field.cell))),
        np.full((n, height), dy),
        np.full((n, height), dx),
        seed=seed,
        first_frame=first,
    )


def test_tiff_has_the_pages_and_the_header_of_scanimage(bundle, mouse):
    files = json.loads((bundle / "recording.json").read_text())["imaging"]["files"]
    n_frames = len(np.loadtxt(bundle / "frame_times.csv", delimiter=",", skiprows=1))
    assert len(files) == -(-n_frames // 400)
    counted = 0
    for name in files:
        with tifffile.TiffFile(bundle / name) as tif:
            assert tif.is_bigtiff
            assert tif.is_scanimage
            header = tif.scanimage_metadata
            settings = header["FrameData"]
            assert settings["SI.hRoiManager.scanFrameRate"] == mouse.fps
            assert settings["SI.hRoiManager.linesPerFrame"] == 72
            assert settings["SI.hRoiManager.pixelsPerLine"] == 96
            assert settings["SI.hChannels.channelSave"] == 1
            assert settings["SI.hScan2D.bidirectional"] is True
            roi = header["RoiGroups"]["imagingRoiGroup"]["rois"]["scanfields"]
            assert roi["pixelResolutionXY"] == [96, 72]
            um = np.array(roi["sizeXY"]) * settings["SI.objectiveResolution"]
            np.testing.assert_allclose(um, [96 * 1.5, 72 * 1.5])
            page = tif.pages[0]
            assert page.dtype == np.int16
            assert page.shape == (72, 96)
            assert page.tags["Software"].value.startswith("SI.")
            assert json.loads(page.tags["Artist"].value)["RoiGroups"]
            counted += len(tif.pages)
            last = tif.pages[-1].description
            assert f"frameNumbers = {counted}\n" in last
            seconds = float(last.split("frameTimestamps_sec = ")[1].split("\n")[0])
            assert seconds == pytest.approx((counted - 1) / mouse.fps, rel=1e-3)
    assert counted == n_frames


def test_shift_moves_the_content_down_and_right(field):
    """Also between pixels; the reference is an interpolation of another order."""
    rest = _still(field, 120).mean(0)
    for dy, dx in ((3.0, 0.0), (0.0, -4.0), (1.5, 2.25)):
        moved = _still(field, 120, dy, dx, seed=1).mean(0)
        expected = move(rest, (dy, dx), order=3)
        inner = (slice(8, -8), slice(8, -8))
        error = moved[inner] - expected[inner]
        assert error.std() < 0.05 * rest[inner].std()


@pytest.mark.numerical
def test_frames_do_not_depend_on_how_the_movie_is_cut(field):
    whole = _still(field, 7)
    parts = [_still(field, 3), _still(field, 4, first=3)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole[0], whole[1])


def test_detector_counts_have_the_variance_of_photons_and_pulse_heights():
    detector = Detector(gain=40, gain_cv=0.5, offset=20, read_sd=12)
    table = noise_table(detector).astype(float)
    for row in (150, 400, 900):
        photons = (row / (len(table) - 1)) ** 2 * MAX_PHOTONS
        assert table[row].mean() == pytest.approx(20 + 40 * photons, rel=1e-3)
        variance = 40**2 * photons * (1 + 0.5**2) + 12**2
        assert table[row].var() == pytest.approx(variance, rel=0.01)
    assert table[0].std() == pytest.approx(12, rel=0.01)


def test_movie_is_where_the_truth_says(bundle, mouse):
    """Undo true raster and motion with scipy: the mean image gets sharper and shows the cells."""
    truth = np.load(bundle / "truth" / "truth.npz")
    movie = _frames(bundle)[:500].astype(np.float32)
    aligned = np.zeros(movie.shape[1:])
    for frame, dy, dx in zip(movie, truth["shifts_y"], truth["shifts_x"], strict=False):
        frame = frame.copy()
        frame[1::2] = move(frame[1::2], (0, -mouse.raster_px), order=1, mode="nearest")
        aligned += move(frame, (-dy, -dx), order=1, mode="nearest") / len(movie)
    still = movie.mean(0)
    assert np.diff(aligned, axis=0).std() < 0.75 * np.diff(still, axis=0).std()  # no combing
    seen = truth["masks"][truth["in_field"]]
    inside = seen.any(0)
    assert aligned[inside].mean() > 1.3 * aligned[~inside].mean()
    assert aligned[inside].std() > still[inside].std()


def test_true_masks_recover_the_true_traces(bundle, mouse):
    truth = np.load(bundle / "truth" / "truth.npz")
    movie = _frames(bundle).astype(np.float32)
    whole = truth["masks"].sum((1, 2)) > 60
    index = np.searchsorted(truth["cell_id"], truth["activity_cell_id"])
    keep = np.flatnonzero(whole[index])
    masks = truth["masks"][index[keep]]
    traces = np.zeros((len(keep), len(movie)))
    for t, frame in enumerate(movie):
        frame = frame.copy()
        frame[1::2] = move(frame[1::2], (0, -mouse.raster_px), order=1, mode="nearest")
        still = move(frame, (-truth["shifts_y"][t], -truth["shifts_x"][t]), order=1, mode="nearest")
        traces[:, t] = (masks * still).sum((1, 2))
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(traces, truth["dff"][keep], strict=True)]
    assert 0.75 < np.median(r) < 0.99


def test_one_spike_rises_and_decays_as_the_indicator_does():
    bin_s = 0.001
    for name, kinetics in INDICATORS.items():
        spikes = np.zeros((1, 4000))
        spikes[0, 100] = 1
        trace = fluorescence(spikes, bin_s, kinetics, np.array([1.0]))[0]
        assert trace.max() == pytest.approx(1.0, abs=0.03), name
        assert (trace.argmax() - 100) * bin_s == pytest.approx(kinetics.peak_s, abs=0.002), name
        late = np.log(trace[2000] / trace[2200]) / 0.2 / kinetics.exponent
        assert late == pytest.approx(1 / kinetics.decay_s, rel=0.02), name
    with pytest.raises(ValueError, match="GCaMP6s"):
        indicator("GCaMP5")


def test_spike_trains_have_the_rate_and_regular_ones_a_small_fano_factor():
    rate = np.full((2, 200_000), 5.0)
    counts = draw_spikes(rate, 0.01, np.array([1, 3]), np.random.default_rng(0))
    windows = counts.reshape(2, -1, 100).sum(2)
    np.testing.assert_allclose(windows.mean(1), 5.0, rtol=0.03)
    fano = windows.var(1) / windows.mean(1)
    assert fano[0] == pytest.approx(1.0, rel=0.08)
    assert fano[1] < 0.5


def test_motion_is_larger_while_running_and_warp_leaves_the_mean_alone():
    speed = np.repeat([0.0, 12.0] * 10, 600)
    motion = draw_motion(speed, 12.0, np.random.default_rng(0), nonrigid_px=0.5)
    steps = np.abs(np.diff(motion.shifts_y))
    assert steps[speed[1:] > 1].mean() > 3 * steps[speed[1:] == 0].mean()
    rms = np.sqrt(motion.shifts_y.var() + motion.shifts_x.var())
    assert 0.8 < rms < 3
    lines_y, lines_x = motion.lines(slice(0, 50), 64)
    np.testing.assert_allclose(lines_y.mean(1), motion.shifts_y[:50], atol=1e-12)
    np.testing.assert_allclose(lines_x.mean(1), motion.shifts_x[:50], atol=1e-12)
    assert lines_y.std(1).mean() > 0.2
