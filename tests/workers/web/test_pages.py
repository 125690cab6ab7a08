"""The page's answers from real tables: a day of known neurons."""

import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from pipeline.stages import STAGES

pytestmark = pytest.mark.tables
TOKEN = "a-token-that-nobody-guesses"
HERE = "http://127.0.0.1:8765"


@pytest.fixture
def site(database, loop, ledger, _bound, monkeypatch):
    """The page of these tables, and a browser of somebody who has the token."""
    import datajoint as dj

    from workers.queue import order
    from workers.queue.lease import Ledger
    from workers.web.app import make_app
    from workers.web.desk import Desk
    from workers.web.guard import HEADER, Keys

    monkeypatch.setenv("INCEPTION_HOME", str(_bound[1]))  # of the process that draws figures
    plan = order.load("schemas", _bound[2])
    app = make_app(Desk(Ledger(dj.conn()), plan, _bound[2]), Keys(TOKEN))
    one = TestClient(app, base_url=HERE, follow_redirects=False, raise_server_exceptions=False)
    one.token = {HEADER: TOKEN, "origin": HERE}
    yield one
    app.state.site.figures.close()


@pytest.fixture
def base(loop):
    from schemas import closed_loop

    row = (closed_loop.PlanTask & loop["plan"]).fetch1()
    names = ("animal_id", "session", "scan_idx", "recipe_hash")
    return "/loops/" + "/".join(str(row[name]) for name in names)


def found(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_page_of_a_loop_is_shown(site, base):
    for path in ("", "/live", "/field", "/plan", "/day2", "/day2/live"):
        answer = site.get(base + path)
        assert answer.status_code == 200, answer.text
        assert "Traceback" not in answer.text
    assert base in site.get("/").text
    assert site.get("/healthz").json()["database"] == "ok"


@pytest.mark.parametrize(
    "path",
    [
        "/loops/1/1/1/nothing",
        "/loops/999999999999999999999999/1/1/x/plan",
        "/api/fields/58/1/1/nothing/0/outlines",
        "/images/nothing.png",
        "/images/../../etc/passwd.png",
        "/static/../app.py",
        "/nothing",
    ],
)
def test_what_is_not_there_is_not_found(site, base, path):
    answer = site.get(path)
    assert answer.status_code == 404, answer.text
    assert "Traceback" not in answer.text


def test_the_steps_of_a_computed_plan_are_all_done(site, loop):
    from workers.web.queries import loops

    desk = site.app.state.site.desk
    steps = loops.steps(desk.ledger, desk.plan, loop["plan"]["plan_id"])
    stages = {stage["stage"]: stage for stage in steps["stages"]}
    assert set(STAGES[4:]) <= set(stages)  # from the data set on
    tables = {row["table"]: row for stage in steps["stages"] for row in stage["tables"]}
    for name in ("imaging.Activity", "dataset.Dataset", "mei.Display", "closed_loop.Plan"):
        assert tables[name]["done"] == tables[name]["jobs"] > 0
    assert (tables["mei.Targets"]["done"], tables["mei.Targets"]["jobs"]) == (1, 1)
    assert [name for name, row in tables.items() if row["done"] != row["jobs"]] == []
    assert steps["stuck"] == []
    rows = loops.all_loops(desk.ledger, desk.plan)
    mine = next(row for row in rows if loop["plan"]["plan_id"] in row["plans"])
    assert mine["state"] == "ready"


def test_outlines_enclose_their_masks(site, loop):
    """Masks are squares of six pixels: the outline is theirs, half a pixel around the centers."""
    import base64

    from schemas import imaging

    key = (imaging.Segmentation & loop["day1"]).keys()[0]
    recipe = (imaging.ImagingTask & loop["day1"]).fetch1("imaging_hash")
    path = f"/api/fields/58/1/1/{recipe}/0/outlines"
    packed = found(site.get(path))
    assert packed["unit_id"] == imaging.Segmentation.fetch_units(key)
    points = np.frombuffer(base64.b64decode(packed["points"]), "<u2").reshape(-1, 2) / 2
    assert sum(packed["lines"]) == len(points)
    ends = np.cumsum(packed["lines"])
    rows = (imaging.Segmentation.Unit & key).to_dicts(order_by="unit_id")
    for unit, end, length in zip(packed["unit"], ends, packed["lines"], strict=True):
        x, y = points[end - length : end].T
        assert (x.max() + x.min()) / 2 == rows[unit]["x_px"] + 0.5
        assert (y.max() + y.min()) / 2 == rows[unit]["y_px"] + 0.5
        assert (np.ptp(x), np.ptp(y)) == (6, 6)
    again = site.get(path, headers={"if-none-match": site.get(path).headers["etag"]})
    assert again.status_code == 304


def test_a_cell_has_stimuli_with_predictions(site, base, loop):
    from schemas import closed_loop, dataset

    units = found(site.get(f"/api{base}/fields/0"))
    targets = [u for u, rank in zip(units["unit_id"], units["rank"], strict=True) if rank == 0]
    cell = found(site.get(f"/api{base}/cells/{targets[0]}"))
    assert cell["target"]["kept"]
    assert [s["kind"] for s in cell["stimuli"]] == ["mei", "rf", "mni"]
    own = dataset.Dataset.Unit & {"unit_id": targets[0], "dataset_hash": cell["responses"]}
    mei = {"unit_index": own.fetch1("unit_index"), "kind": "mei", "variant": 0}
    row = (closed_loop.Plan.Target & loop["plan"] & mei).fetch1()
    shown = cell["stimuli"][0]
    assert shown["predicted"] == pytest.approx(row["predicted"], abs=1e-3)
    assert shown["measured"] == []
    assert cell["place"]["area_px"] == 36
    image = site.get(shown["image"])
    assert image.headers["content-type"] == "image/png"
    assert "immutable" in image.headers["cache-control"]


def test_a_trace_is_what_was_recorded_with_the_images_shown_meanwhile(site, base, loop):
    from schemas import imaging

    address = f"/api{base}/cells/1/trace"
    part = found(site.get(address, params={"start": 10, "span": 20}))
    recorded = (imaging.Fluorescence & loop["day1"]).fetch1("corrected").load()[0]
    frames = np.round(np.array(part["time"]) * 10).astype(int)  # 10 frames a second
    np.testing.assert_allclose(part["fluorescence"], recorded[frames], rtol=1e-3, atol=1e-4)
    assert all(off > 10 and on < 30 for on, off, _ in part["images"])
    assert len(part["images"]) in (18, 19)  # one every 1.1 s
    whole = found(site.get(address, params={"span": 1e6}))
    assert len(whole["time"]) <= 1500
    assert max(whole["fluorescence"]) == pytest.approx(recorded.max(), rel=1e-3)  # no peak is lost
    for bad in ("-1", "nan", "x", "inf"):
        assert site.get(address, params={"start": bad}).status_code == 404


def test_deciding_and_labeling_are_rows_with_names_and_reasons(site, base, loop):
    from schemas import imaging, mei

    cell = f"/api{base}/cells/2"
    for content in (
        {"include": False, "why": "", "who": "ada"},
        {"include": False, "why": "a vessel", "who": ""},
        {"include": "no", "why": "a vessel", "who": "ada"},
        {"include": False, "why": "a vessel", "who": "ada", "more": 1},
        [],
    ):
        answer = site.post(cell + "/decide", json=content, headers=site.token)
        assert answer.status_code == 400, answer.text
    unit = {**loop["day1"], "unit_id": 2}
    assert not mei.TargetDecision & unit
    try:
        content = {"include": False, "why": "a <b>vessel</b>", "who": "ada"}
        found(site.post(cell + "/decide", json=content, headers=site.token))
        assert (mei.TargetDecision & unit).fetch1("why", "who") == ("a <b>vessel</b>", "ada")
        units = found(site.get(f"/api{base}/fields/0"))
        assert units["decided"][units["unit_id"].index(2)] is False
        assert found(site.get(cell))["decisions"][0]["why"] == "a <b>vessel</b>"
        for soma in (True, False):
            content = {"is_soma": soma, "who": "ada"}
            found(site.post(cell + "/label", json=content, headers=site.token))
            assert bool((imaging.MaskLabel & unit).fetch1("is_soma")) is soma
    finally:
        (mei.TargetDecision & unit).delete(prompt=False)
        (imaging.MaskLabel & unit).delete(prompt=False)


def test_without_the_token_nothing_changes(site, base):
    from schemas import mei

    content = {"include": False, "why": "a vessel", "who": "ada"}
    answer = site.post(f"/api{base}/cells/2/decide", json=content, headers={"origin": HERE})
    assert answer.status_code == 401
    assert site.post("/api/retry", json={}, headers={"origin": HERE}).status_code == 401
    assert site.post(base + "/package", headers={"origin": HERE}).status_code == 401
    assert not mei.TargetDecision & {"animal_id": 58}


def test_the_token_opens_the_buttons_until_one_locks(site, base):
    page = f"{base}/plan"
    assert "Download the package" not in site.get(page).text
    wrong = site.post("/unlock", data={"token": "x"}, headers={"origin": HERE})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (403, False)
    right = site.post("/unlock", data={"token": TOKEN, "back": page}, headers={"origin": HERE})
    cookie = right.headers["set-cookie"].lower()
    assert (right.status_code, right.headers["location"]) == (303, page)
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert "Download the package" in site.get(page).text
    site.post("/lock", headers={"origin": HERE})
    assert "Download the package" not in site.get(page).text


def test_the_package_that_is_downloaded_is_verified(site, base, loop, tmp_path):
    from workers import package

    answer = site.post(base + "/package", headers=site.token)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    path = tmp_path / "package.zip"
    path.write_bytes(answer.content)
    assert package.verify(loop["day1"], path) == loop["plan"]["plan_id"]


def test_a_job_set_aside_is_shown_escaped_and_tried_again(site, ledger):
    from workers.queue.lease import Ledger

    desk = site.app.state.site.desk
    own = Ledger(desk.ledger.connection)
    key = {"animal_id": 58, "session": 1, "scan_idx": 1}
    own.execute(
        f"INSERT INTO {ledger.Job.full_table_name} (job_id, table_name, job_key, status, queue, "
        "priority, stage_order, created_at, not_before, attempts, crashes, retries, token, "
        "error_class, error_message) VALUES (%s, 'imaging.ScanInfo', %s, 'error', 'cpu', 5, 0, "
        f"{own.now()}, {own.now()}, 1, 0, 0, 1, 'data', %s)",
        ("a" * 32, json.dumps(key), "<script>alert(1)</script>"),
    )
    text = site.get("/errors").text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "inception ignore" in text  # the advice
    for content in ({"table": "nothing"}, {"key": key}, {"table": 3}):
        assert site.post("/api/retry", json=content, headers=site.token).status_code == 400
    content = {"table": "imaging.ScanInfo", "key": key}
    assert found(site.post("/api/retry", json=content, headers=site.token)) == {"retried": 1}
    assert "<h1>Jobs set aside" in site.get("/errors").text
    assert (ledger.Job & {"job_id": "a" * 32}).fetch1("status") == "pending"


def test_an_account_that_only_reads_has_no_buttons(site, base):
    desk = site.app.state.site.desk
    desk.writes = False
    text = site.get(base + "/plan").text
    assert "read only" in text
    assert "Unlock" not in text
