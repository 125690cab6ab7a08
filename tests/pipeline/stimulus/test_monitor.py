from pathlib import Path

import numpy as np
import pytest

from pipeline.csvfile import read_columns
from pipeline.errors import DataError
from pipeline.stimulus import MonitorCurve

REAL = Path(__file__).parents[4] / "shared" / "data" / "real" / "monitor"
LEVELS = np.arange(0, 256, 5)


def gamma_curve(amplitude=60.0, gamma=2.2, offset=0.3):
    return MonitorCurve(LEVELS, amplitude * (LEVELS / 255) ** gamma + offset)


def test_pixel_and_luminance_are_inverse_and_follow_the_true_curve():
    curve = gamma_curve()
    pixels = np.linspace(1, 255, 777)
    np.testing.assert_allclose(curve.to_pixel(curve.to_luminance(pixels)), pixels, atol=1e-3)
    truth = 60 * (pixels / 255) ** 2.2 + 0.3
    np.testing.assert_allclose(curve.to_luminance(pixels), truth, atol=0.02)


def test_gamma_fit_finds_the_true_parameters():
    fit = gamma_curve().gamma_fit()
    np.testing.assert_allclose([fit.amplitude, fit.gamma, fit.offset], [60, 2.2, 0.3], rtol=1e-4)
    assert fit.rmse < 1e-4


def test_gamma_fit_survives_measurement_noise():
    noise = np.random.default_rng(0).normal(0, 0.1, len(LEVELS))
    curve = MonitorCurve(LEVELS, np.maximum(60 * (LEVELS / 255) ** 2.2 + 0.3 + noise, 0))
    fit = curve.gamma_fit()
    assert abs(fit.gamma - 2.2) < 0.03
    assert 0.06 < fit.rmse < 0.14
    assert (np.diff(curve.to_luminance(np.arange(256))) >= 0).all()


def test_nothing_beyond_the_measured_levels_is_ever_asked_for():
    curve = MonitorCurve([20, 120, 220], [1.0, 12.0, 40.0])
    np.testing.assert_array_equal(curve.to_pixel([-5, 0.1, 100]), [20, 20, 220])
    np.testing.assert_array_equal(curve.to_luminance([0, 255]), [1, 40])


@pytest.mark.parametrize(
    ("pixel", "luminance", "problem"),
    [
        ([0, 128, 255], [0.1, 0.1, 0.12], "no luminance measured"),
        ([0, 64, 128, 255], [0.1, 20, 5, 50], "falls"),
        ([0, 255], [0.1, 20], "too few"),
        ([0, 128, 300], [0.1, 20, 50], "another scale"),
        ([0, 128, 255], [-3.0, 20, 50], "luminance is negative"),
        ([0, 128, 255], [0.1, np.nan, 50], "missing"),
    ],
)
def test_unusable_calibrations_are_refused(pixel, luminance, problem):
    with pytest.raises(DataError, match=problem):
        MonitorCurve(pixel, luminance)


def test_csv_round_trip_keeps_the_digest(tmp_path):
    curve = gamma_curve(gamma=1.9)
    curve.write_csv(tmp_path / "monitor.csv")
    again = MonitorCurve.read_csv(tmp_path / "monitor.csv")
    assert again.digest() == curve.digest() != gamma_curve().digest()


def test_csv_errors_name_the_file(tmp_path):
    path = tmp_path / "monitor.csv"
    path.write_text("pixel_value,luminance\n0,1\n")
    with pytest.raises(DataError, match=r"monitor\.csv.*column is missing"):
        MonitorCurve.read_csv(path)
    path.write_text("pixel_value,luminance_cd_m2\n0,dark\n")
    with pytest.raises(DataError, match="not a number"):
        MonitorCurve.read_csv(path)


POINTS = [(level, 0.2 + 100 * (level / 255) ** 2.2) for level in range(0, 256, 15)]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(p / 255, y) for p, y in POINTS], "pixel_value.*0 to 1.*multiply levels of 0-1 by 255"),
        ([(p / 2.55, y) for p, y in POINTS], "pixel_value.*0 to 100.*percent"),
        ([(p / 2, y) for p, y in POINTS], "pixel_value.*0 to 127.5"),
        ([(p * 257, y) for p, y in POINTS], "0 to 65535; expected 0-255"),
        ([(p, y / 101) for p, y in POINTS], "luminance_cd_m2.*scale of its own"),
    ],
)
def test_a_calibration_on_another_scale_is_one_line_with_the_file(tmp_path, points, message):
    path = tmp_path / "monitor.csv"
    lines = "".join(f"{p:.4f},{y:.4f}\n" for p, y in points)
    path.write_text("pixel_value,luminance_cd_m2\n" + lines)
    with pytest.raises(DataError, match=rf"monitor\.csv.*{message}"):
        MonitorCurve.read_csv(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_calibration_reads_the_same_however_a_program_writes_text(tmp_path, encoding, delimiter):
    path, usual = tmp_path / "monitor.csv", MonitorCurve(*zip(*POINTS, strict=True))
    lines = [("pixel_value", "luminance_cd_m2"), *((str(p), repr(y)) for p, y in POINTS)]
    text = "\r\n".join(delimiter.join(line) for line in lines)
    text = text if delimiter == "," else text.replace(".", ",")
    path.write_bytes(text.encode(encoding))
    assert MonitorCurve.read_csv(path).digest() == usual.digest()


def test_a_decimal_comma_between_commas_is_refused_not_cut_off(tmp_path):
    path = tmp_path / "monitor.csv"
    path.write_text("pixel_value,luminance_cd_m2\n0,0,2\n128,25,4\n255,100,0\n")
    with pytest.raises(DataError, match=r"line has more values than columns.*semicolons"):
        MonitorCurve.read_csv(path)


def test_noise_of_a_photometer_in_the_dark_is_no_light():
    curve = MonitorCurve([0, 64, 128, 255], [-0.05, 1.0, 20.0, 90.0])
    assert curve.luminance_range == (0.0, 90.0)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real calibrations here")
@pytest.mark.parametrize(
    ("file", "column", "gamma", "rms"),
    [
        ("physion_gamma_photometer.csv", "Value", 1.548, 0.19),
        ("tft_samsung4_green_spectra.csv", None, 2.09, 1.4),
        ("tft_samsung4_blue_spectra.csv", None, 1.85, 1.0),
    ],
)
def test_real_calibrations_have_their_known_gamma(file, column, gamma, rms):
    if column:
        measured = read_columns(REAL / file, [column])[column]
        level = np.linspace(0, 255, len(measured))
    else:
        level = np.arange(0, 256, 17)
        names = [f"raw_avg{pixel}" for pixel in level]
        measured = np.array([c.sum() for c in read_columns(REAL / file, names).values()])
        measured *= 100 / measured.max()
    fit = MonitorCurve(level, measured).gamma_fit()
    assert fit.gamma == pytest.approx(gamma, abs=0.01)
    assert fit.rmse == pytest.approx(rms, rel=0.1)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real calibrations here")
@pytest.mark.parametrize("file", ["physion_gamma_photometer.csv", "iblrig_f2ttl_brightness.ssv"])
def test_a_real_file_of_another_form_is_refused_by_its_columns(file):
    with pytest.raises(DataError, match=rf"{file}: pixel_value: column is missing"):
        MonitorCurve.read_csv(REAL / file)
