"""What machines read: Prometheus figures, signs of life, JSON log lines."""

import json
import logging
import re
import urllib.error
import urllib.request

import pytest

from workers.compute import logs
from workers.compute.options import Options
from workers.compute.worker import Worker
from workers.database import server
from workers.insight import metrics
from workers.queue import order

SAMPLE = re.compile(r'^[a-z_]+(\{([a-z]+="[^"]*",?)+\})? -?[0-9.e+-]+$')


def get(server, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.tables
def test_figures_follow_the_jobs_and_health_the_database(bench):
    bench.toy.Seed.insert([(n, 0.0, "good") for n in range(3)] + [(9, 0.0, "bad")])
    worker = Worker(
        Options("toy_tables", bench.prefix, bench.home, exit_when_idle=True, sleep_duration=0.3)
    )
    assert worker.life()["alive"]
    worker.run()
    assert worker.life()["outcomes"] == {"done": 3 + 4 + 3, "data": 1}
    loaded = order.load("toy_tables", bench.prefix)
    own = server.new_connection()
    site = metrics.serve(metrics.pages(own, loaded, patience_s=1.0), "127.0.0.1", 0)
    try:
        code, text = get(site, "/metrics")
        assert code == 200
        figures = [line for line in text.splitlines() if not line.startswith("#")]
        assert all(SAMPLE.match(line) for line in figures), figures
        assert 'inception_attempts_total{table="toy_tables.Value",outcome="done"} 3' in figures
        assert 'inception_jobs{table="toy_tables.Value",queue="cpu",state="error"} 1' in figures
        assert 'inception_pending_jobs{queue="cpu"} 0' in figures
        assert 'inception_workers{state="running"} 0' in figures
        code, text = get(site, "/healthz")
        assert (code, json.loads(text)) == (200, {"database": "ok", "workers": 0})
        own.close()  # as after a restart of the database: it comes back by itself
        assert get(site, "/healthz")[0] == 200
        assert get(site, "/loops") == (200, "")
        assert get(site, "/nothing")[0] == 404
    finally:
        site.shutdown()
        own.close()


def test_a_page_that_fails_is_503_with_one_line():
    def broken():
        raise RuntimeError("no\ndatabase")

    site = metrics.serve({"/healthz": broken}, "127.0.0.1", 0)
    try:
        assert get(site, "/healthz") == (503, "RuntimeError: no database\n")
    finally:
        site.shutdown()


def test_labels_are_escaped():
    assert metrics._labels({"a": 'x"y\\z\n'}) == '{a="x\\"y\\\\z\\n"}'


def test_json_log_lines_hold_what_was_given():
    record = logging.makeLogRecord(
        {
            "name": "inception.job",
            "levelno": 30,
            "levelname": "WARNING",
            "msg": "done %s",
            "args": ("x",),
            "table": "imaging.Motion",
            "seconds": 1.5,
        }
    )
    line = json.loads(logs.JsonFormatter().format(record))
    assert line["level"] == "warning"
    assert (line["message"], line["table"], line["seconds"]) == ("done x", "imaging.Motion", 1.5)
    assert line["time"].endswith("+00:00")
