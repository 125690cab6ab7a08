"""The report's chapter on a recording draws what the tables of imaging and behavior hold."""

import numpy as np
import pytest

pytestmark = pytest.mark.tables


@pytest.fixture
def chapter(database, write_bundle, tmp_path, monkeypatch):
    """Return a function that computes a recording and its chapter, and what the figures got."""
    from pipeline import plotting
    from schemas import behavior, closed_loop, imaging
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle
    from workers.report.context import LoopPage
    from workers.report.recording import recording

    def make(**bundle):
        key = ingest_bundle(write_bundle(**bundle))
        tasks.register_loop(key, targets=3, minutes=3)
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
                figure = _draw(*arguments, **named)
                seen[_name] = (arguments, named, figure.get_suptitle())  # cleared once written
                return figure

            monkeypatch.setattr(plotting, name, wrapped)
        page = LoopPage((closed_loop.Loop & key).fetch1(), tmp_path, "loop")
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
    (images, _), named, _ = seen["summary_figure"]
    row = (imaging.SummaryImages & key).fetch1()
    np.testing.assert_array_equal(images["L6"], row["l6_image"].load())
    findings = (imaging.Quality.Finding & key).to_arrays("finding").tolist()
    assert named["findings"] == sorted(set(findings))
    assert len(found.remarks) == len(findings)
    ((_, frame),) = found.tables
    assert bool(frame["fit"][0]) == (not findings)
    (time_s, y, x), named, title = seen["motion_figure"]
    motion = (imaging.Motion & key).fetch1()
    np.testing.assert_allclose([y / 1.5, x / 1.5], motion["shifts"].load(), rtol=1e-5)  # um
    np.testing.assert_allclose(time_s, (behavior.Sync & key).fetch1("frame_times").load())
    rms = 1.5 * motion["motion_rms_px"]
    assert f"rms displacement {rms:.2f} µm" in title
    (time_s, pupil, _, speed, _), _, title = seen["behavior_figure"]
    tracked = (behavior.Pupil & key).fetch1()
    np.testing.assert_array_equal(pupil.radius_px, tracked["pupil"].load()[:, 3])
    assert f"seen in {tracked['valid_fraction']:.1%}" in title
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


def test_a_video_that_is_gone_is_said_so_and_one_that_is_there_is_shown(
    database, write_bundle, tmp_path
):
    import cv2

    from pipeline.behavior.pupil import PupilResult
    from workers.report.page import Section
    from workers.report.recording import _eye

    class Page:
        """Keep what is drawn."""

        def picture(self, figure, name, title, caption=""):
            self.figure = figure
            return name

    video = tmp_path / "eye.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48), False)
    for grey in range(40):
        writer.write(np.full((48, 64), 4 * grey, np.uint8))
    writer.release()
    key = register_video(write_bundle(), video)
    known = np.where(np.arange(40) % 8 == 4, np.nan, 9.0)
    pupil = PupilResult(known, known, known, np.ones(40))
    page, section = Page(), Section("")
    _eye(page, section, key, pupil, "day1")
    assert section.pictures == ["day1_eye"]
    shown = [axes.images[0].get_array().mean() for axes in page.figure.axes]
    np.testing.assert_allclose(shown, 4 * np.arange(0, 40, 4), atol=3)  # every fourth
    seen = [len(axes.patches) for axes in page.figure.axes]
    assert seen == [int(np.isfinite(known[k])) for k in range(0, 40, 4)]
    video.unlink()
    section = Section("")
    _eye(page, section, key, pupil, "day1")
    assert section.pictures == []
    assert "raw file is gone" in section.remarks[0]


def register_video(folder, video):
    """Ingest a recording, and add a video to its files."""
    from schemas import experiment
    from schemas.decisions.ingest import ingest_bundle

    key = ingest_bundle(folder)
    row = {"path": str(video), "size_bytes": video.stat().st_size, "fingerprint": "0" * 64}
    experiment.Scan.File.insert1({**key, "file_kind": "eye_video", "file_idx": 0, **row})
    return key
