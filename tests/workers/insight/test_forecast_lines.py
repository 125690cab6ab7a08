import datetime

import pytest

from workers.commands.screens import ahead_lines


def lines(seconds: float, unmeasured: list[str]) -> str:
    loop = {
        "scan": "1/1/1",
        "plan_id": "p",
        "jobs": 40,
        "seconds": seconds,
        "ready_at": datetime.datetime.now().isoformat(timespec="minutes"),
        "deadline": None,
        "in_time": None,
        "unmeasured": unmeasured,
        "stuck": [],
        "stopped": None,
    }
    return "\n".join(ahead_lines({"loops": [loop], "slots": 2, "queue_s": 0.0}))


@pytest.mark.parametrize(
    ("seconds", "unmeasured", "expected"),
    [
        (0.0, ["mei.MEI"], "40 jobs left, for how long is not known yet"),
        (90.0, ["mei.MEI"], "40 jobs left, at least 90 s"),
        (90.0, [], "40 jobs left, 90 s"),
    ],
)
def test_what_was_never_measured_is_not_called_no_time(
    seconds: float, unmeasured: list[str], expected: str
) -> None:
    text = lines(seconds, unmeasured)
    assert expected in text
    assert ("not before" in text) == bool(unmeasured)
