import numpy as np
import pytest

from pipeline.stimulus import MonitorCurve, to_model, to_monitor
from pipeline.stimulus.display import upscale

LEVELS = np.arange(0, 256, 5)
YY, XX = np.mgrid[:36, :64]


def curve(amplitude=100.0, gamma=2.2, offset=0.2):
    return MonitorCurve(LEVELS, amplitude * (LEVELS / 255) ** gamma + offset)


def gabors(sigma=2.5, wavelength=7.0):
    phases = np.linspace(0, 2 * np.pi, 9)[:-1, None, None]
    envelope = np.exp(-((YY - 18) ** 2 + (XX - 30) ** 2) / (2 * sigma**2))
    return 111 + 50 * envelope * np.cos(2 * np.pi * (XX - 30) / wavelength + phases)


def luminance_of(shown, amplitude=100.0, gamma=2.2, offset=0.2):
    """Mean and sd by the true gamma function, not by the code under test."""
    light = amplitude * (shown / 255.0) ** gamma + offset
    return light.mean((1, 2)), light.std((1, 2))


@pytest.mark.parametrize("space", ["pixel", "luminance"])
@pytest.mark.parametrize("goal", [(10.0, 2.0), (16.0, 1.5)])
def test_luminance_of_the_8_bit_image_is_as_wanted(space, goal):
    noise = np.random.default_rng(0).normal(111, 30, (5, 36, 64))
    images = np.concatenate([gabors(), gabors(4, 10), noise])
    done = to_monitor(images, curve(), mean_cd_m2=goal[0], sd_cd_m2=goal[1], space=space)
    assert done.images.shape == (21, 144, 256)
    assert done.images.dtype == np.uint8
    mean, sd = luminance_of(done.images)
    np.testing.assert_allclose(mean, goal[0], rtol=0.01)
    np.testing.assert_allclose(sd, goal[1], rtol=0.01)
    np.testing.assert_allclose(done.mean_cd_m2, mean, rtol=1e-3)
    np.testing.assert_allclose(done.sd_cd_m2, sd, rtol=2e-3)
    assert done.ok.all()
    assert done.reason == [""] * 21


def test_shown_image_is_the_model_image_up_to_contrast():
    images = gabors(5.0, 14.0)
    done = to_monitor(images, curve())
    assert (done.clipped_fraction == 0).all()
    for image, shown in zip(images, to_model(done.images), strict=True):
        assert np.corrcoef(image.ravel(), shown.ravel())[0, 1] > 0.9999


def test_enlarged_image_averages_back_to_the_original():
    images = np.random.default_rng(1).uniform(0, 255, (3, 36, 64))
    np.testing.assert_allclose(to_model(upscale(images, (144, 256))), images, atol=1e-3)
    np.testing.assert_allclose(to_model(upscale(images, (90, 160))), images, atol=1e-3)


def test_images_at_monitor_size_are_not_resampled():
    images = np.random.default_rng(2).integers(0, 256, (2, 144, 256)).astype(np.uint8)
    shown = to_monitor(images, curve()).images.astype(float)
    for image, out in zip(images, shown, strict=True):
        slope, level = np.polyfit(image.ravel(), out.ravel(), 1)
        np.testing.assert_allclose(out, slope * image + level, atol=1.1)  # rounding only


def test_outside_of_the_mask_is_uniform_and_the_mask_counts_in_the_match():
    images = np.random.default_rng(3).normal(111, 40, (4, 36, 64))
    masks = np.exp(-((YY - 18) ** 2 + (XX - 30) ** 2) / (2 * 6.0**2))[None].repeat(4, 0)
    masks[masks < 0.05] = 0
    done = to_monitor(images, curve(), masks=masks)
    mean, sd = luminance_of(done.images)
    np.testing.assert_allclose(mean, 10, rtol=0.01)
    np.testing.assert_allclose(sd, 2, rtol=0.01)
    outside = upscale(masks, (144, 256)) <= 0
    for shown, out in zip(done.images, outside, strict=True):
        assert np.ptp(shown[out]) <= 1  # one gray, dithered between two levels


def test_contrast_that_the_monitor_cannot_give_is_flagged_with_the_reason():
    image = np.full((1, 36, 64), 111.0)
    image[0, 18, 30:32] = 255, 0  # all contrast in two model pixels
    done = to_monitor(np.concatenate([image, gabors()]), curve(25, 1.8))
    assert not done.ok[0]
    assert "clipped" in done.reason[0]
    assert done.clipped_fraction[0] > 0
    assert done.ok[1:].all()


def test_an_image_without_contrast_is_flagged():
    done = to_monitor(np.full((1, 36, 64), 80.0), curve())
    assert not done.ok[0]
    assert "no contrast" in done.reason[0]
    np.testing.assert_allclose(luminance_of(done.images)[0], 10, rtol=0.01)


@pytest.mark.numerical
def test_result_does_not_depend_on_the_batch():
    images = np.random.default_rng(4).normal(111, 30, (70, 36, 64))
    together = to_monitor(images, curve())
    alone = to_monitor(images[66:67], curve())
    np.testing.assert_array_equal(together.images[66], alone.images[0])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="monitor's"):
        to_monitor(gabors(), curve(), mean_cd_m2=500)
    with pytest.raises(ValueError, match="finite"):
        to_monitor(np.full((1, 36, 64), np.nan), curve())
    with pytest.raises(ValueError, match="aspect"):
        to_monitor(gabors(), curve(), size_px=(256, 144))
