import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.stimulus import MonitorCurve

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
        ([0, 128, 300], [0.1, 20, 50], "out of range"),
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
