"""Tables of behavior: a pupil that most frames do not show."""

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.tables


def video(path, *, frames=24, seen=10):
    """Write an eye that shuts after some frames, and stays shut."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:72, :96]
    fur = cv2.GaussianBlur(rng.normal(150, 60, (72, 96)).astype(np.float32), (0, 0), 2)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (96, 72))
    for k in range(frames):
        image = fur.copy()
        if k < seen:
            image[((x - 48) / 40) ** 2 + ((y - 36) / 28) ** 2 < 1] = 95
            image[np.hypot(x - 45 - 0.5 * k, y - 35) < 11 + 0.3 * k] = 30
        image = cv2.GaussianBlur(image, (0, 0), 0.8) + rng.normal(0, 2, image.shape)
        writer.write(cv2.cvtColor(np.clip(image, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR))
    writer.release()


def test_a_pupil_that_most_frames_do_not_show_is_a_row_that_says_why(database, write_bundle):
    from schemas import behavior
    from schemas.closed_loop import default_recipe
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle(eye=False, running=False, treadmill=None)
    video(folder / "eye.avi")
    rows = "".join(f"{k},{2 * k}\n" for k in range(24))
    (folder / "eye_times.csv").write_text("frame,time_s\n" + rows)
    key = ingest_bundle(folder)
    tasks.scan_tasks(key, default_recipe())
    for table in (behavior.Sync, behavior.Pupil):
        table.populate(key, suppress_errors=False)
    assert (behavior.Pupil & key).fetch1("valid_fraction") == pytest.approx(10 / 24)
    row = (behavior.Pupil.Failure & key).fetch1()
    assert row["problem"].startswith("no pupil in 14 of 24 frames (")
    picture = row["tried"].load()
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
