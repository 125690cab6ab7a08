"""The report's chapter on a recording draws what the tables of imaging and behavior hold."""

import numpy as np
import pytest

pytestmark = pytest.mark.tables


@pytest.fixture
def chapter(database, write_bundle, tmp_path, monkeypatch):
    """Return a function that computes a recording and its chapter, and what the figures got."""
    from pipeline import plotting
    from schemas import behavior, closed_loop, imaging
    from schemas.ingest import ingest_bundle
    from workers.report.context import Loop
    from workers.report.recording import recording

    def make(**bundle):
        key = ingest_bundle(write_bundle(**bundle))
        closed_loop.register_loop(key, targets=3, minutes=3)
        for table in (
            imaging.ScanInfo,
            imaging.RasterPhase,
            imaging.Motion,
            imaging.SummaryImages,
            imaging.Quality,
            imaging.Segmentation,
            behavior.Sync,
            behavior.Pupil,
            behavior.Treadmill,
        ):
            table.populate(key, suppress_errors=False)
        seen = {}
        for name in ("summary_figure", "motion_figure", "behavior_figure"):
            draw = getattr(plotting, name)

            def wrapped(*arguments, _name=name, _draw=draw, **named):
                seen[_name] = (arguments, named, _draw(*arguments, **named))
                return seen[_name][2]

            monkeypatch.setattr(plotting, name, wrapped)
        page = Loop((closed_loop.Loop & key).fetch1(), tmp_path, "loop")
        found = recording(page, key, page.imaging["imaging_hash"], "day1", "The recording")
        return key, found, seen

    return make


def test_a_movie_has_its_quality_motion_pupil_and_running(chapter, tmp_path):
    from schemas import behavior, imaging

    key, found, seen = chapter(tiff=True)
    assert [picture.title for picture in found.pictures] == [
        "Quality of field 0",
        "Motion of field 0",
        "Pupil and running",
    ]
    assert all((tmp_path / picture.file).stat().st_size > 5000 for picture in found.pictures)
    (images, _), named, figure = seen["summary_figure"]
    row = (imaging.SummaryImages & key).fetch1()
    np.testing.assert_array_equal(images["L6"], row["l6_image"].load())
    findings = (imaging.Quality.Finding & key).to_arrays("finding").tolist()
    assert named["findings"] == sorted(set(findings))
    assert len(found.remarks) == len(findings)
    ((_, frame),) = found.tables
    assert bool(frame["fit"][0]) == (not findings)
    (time_s, y, x), named, figure = seen["motion_figure"]
    motion = (imaging.Motion & key).fetch1()
    np.testing.assert_allclose([y / 1.5, x / 1.5], motion["shifts"].load(), rtol=1e-5)  # um
    np.testing.assert_allclose(time_s, (behavior.Sync & key).fetch1("frame_times").load())
    rms = 1.5 * motion["motion_rms_px"]
    assert f"rms displacement {rms:.2f} µm" in figure.get_suptitle()
    (time_s, pupil, _, speed, _), _, figure = seen["behavior_figure"]
    tracked = (behavior.Pupil & key).fetch1()
    np.testing.assert_array_equal(pupil.radius_px, tracked["pupil"].load()[:, 3])
    assert f"seen in {tracked['valid_fraction']:.1%}" in figure.get_suptitle()
    np.testing.assert_array_equal(speed, (behavior.Treadmill & key).fetch1("speed").load()[:, 1])


def test_traces_alone_say_nothing_of_a_movie_that_nobody_has(chapter):
    _, found, seen = chapter(tiff=False, eye=False)
    assert list(seen) == ["behavior_figure"]
    assert [picture.title for picture in found.pictures] == ["Pupil and running"]
    assert found.tables == []


def test_a_recording_of_which_nothing_was_measured_has_no_chapter(chapter):
    _, found, seen = chapter(tiff=False, eye=False, running=False, treadmill=None)
    assert found is None
    assert seen == {}
