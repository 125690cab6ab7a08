"""A kind of stimulus has one place, one name and one color, whoever registered it."""

import numpy as np
import pytest

from pipeline import plotting
from pipeline.mei.controls import control_kinds, in_order
from pipeline.plotting.style import color_of, name_of


@pytest.fixture
def stranger():
    """A kind that no file of the package knows."""
    control_kinds.register("stranger")(lambda context: None)
    yield "stranger"
    del control_kinds._functions["stranger"]


def test_the_published_kinds_come_first_and_variants_stand_together(stranger):
    names = ["zebra", stranger, "gabor:1", "fni", "metamer", "mei", "gabor", "mni", "rf", "gabor"]
    assert in_order(names) == [
        "mei",
        "rf",
        "gabor",
        "gabor:1",
        "mni",
        "fni",
        "metamer",
        stranger,
        "zebra",
    ]


def test_no_two_stimuli_have_one_color(stranger):
    kinds = [*control_kinds, *(f"unknown_{number}" for number in range(40))]
    names = [f"{kind}:{variant}" if variant else kind for kind in kinds for variant in range(4)]
    colors = {name: color_of(name) for name in names}
    assert len(set(colors.values())) == len(names)
    assert {name: color_of(name) for name in reversed(names)} == colors  # whoever asks first


def test_a_variant_is_counted_as_people_count():
    assert name_of("gabor") == "Gabor"
    assert name_of("gabor:1") == "Gabor (2)"
    assert name_of("surround_excite:2") == "surround excite (3)"


def test_a_gallery_leaves_the_place_of_a_missing_image_empty():
    image = np.full((36, 64), 128, np.uint8)
    figure = plotting.gallery_figure(
        {"mei": [image, image], "gabor:1": [None, image]}, labels=["unit 1", "unit 2"]
    )
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 1, 1]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["MEI", "Gabor\n(2)"]
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes[:2]] == [
        [],
        ["not shown"],
    ]


def test_a_two_sided_p_says_whose_effect_it_is():
    from pipeline.closed_loop.verdict.direction import above, tested

    assert above(-0.3, "MEI", "Gabor") == "Gabor above MEI"
    assert above(0.0, "MEI", "Gabor") == "no difference"
    assert above(None, "MEI", "Gabor") == above(float("nan"), "MEI", "Gabor") == "unknown"
    assert tested(0.001, -0.3, "MEI", "Gabor") == "p = 0.001 (two-sided): Gabor above MEI"
    assert tested(None, None, "MEI", "Gabor") == "p unknown: unknown"


def test_a_unit_is_named_by_its_number_and_field_or_its_output():
    from pipeline.dataset.names import unit_name

    assert unit_name(12) == unit_name(np.int32(12), output=3) == "unit 12"
    assert unit_name(200012, 2) == "unit 200012 (field 2)"
    assert unit_name(None, output=7) == "output 7"
    with pytest.raises(ValueError, match="neither"):
        unit_name(None)
