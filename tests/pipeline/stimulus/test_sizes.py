import pytest

from pipeline.stimulus.sizes import same_aspect, stored_shape


@pytest.mark.parametrize(
    ("shown", "stored"),
    [((1080, 1920), (36, 64)), ((1200, 1920), (35, 56)), ((1024, 1280), (36, 45))],
)
def test_stored_images_have_the_aspect_of_the_monitor(shown, stored):
    assert stored_shape(shown, 36) == stored


def test_small_images_are_stored_as_they_are():
    assert stored_shape((30, 77), 36) == (30, 77)


def test_an_aspect_that_no_height_keeps_is_stored_at_the_wanted_height():
    assert same_aspect((100, 3), range(24, 49), tolerance=0.005) is None
    assert stored_shape((100, 3), 36) == (36, 1)


def test_columns_are_multiples_and_not_fewer_than_asked_for():
    assert same_aspect((36, 45), [36, 40], tolerance=0.01, multiple=2) == (40, 50)
    assert same_aspect((36, 6), [36], tolerance=0.01, multiple=2, least_columns=8) is None
