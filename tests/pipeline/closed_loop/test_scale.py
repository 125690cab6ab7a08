"""A day 2 at the paper's scale, from plan to verdict, without database and movies."""

import hashlib
import time

import numpy as np
import pandas as pd

from pipeline.closed_loop.package.files import read_package, write_package
from pipeline.closed_loop.planning.plan import plan_methods
from pipeline.closed_loop.presentation.audit import audit_presentation
from pipeline.closed_loop.verdict.outcome import outcome_methods, sensitivity
from pipeline.stimulus.monitor import MonitorCurve

NEURONS, REPEATS, GAIN = 150, 20, 1.4


def test_150_neurons_with_mei_and_rf_take_a_minute_and_show_their_effect(tmp_path):
    start = time.process_time()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2 * NEURONS + 20, 36, 64), dtype=np.uint8)
    names = [hashlib.sha256(b"36x64:" + image.tobytes()).hexdigest() for image in pixels]
    own = {"mei": names[:NEURONS], "rf": names[NEURONS : 2 * NEURONS]}
    plan = plan_methods["balanced_blocks"](
        {**own, "natural": names[-20:]}, minutes=110, repeats=REPEATS
    )
    assert plan.repeats == REPEATS
    assert not plan.dropped
    kind = {image: k for k, images in (*own.items(), ("natural", names[-20:])) for image in images}
    rows = pd.DataFrame({"image": names, "kind": [kind[name] for name in names]})
    rows["unit_id"] = [*range(NEURONS), *range(NEURONS), *[None] * 20]
    rows = rows.assign(session=1, scan_idx=1, field=0, mean_cd_m2=10.0, sd_cd_m2=2.0)
    level = np.arange(0, 256, 15)
    package = write_package(
        tmp_path / "package",
        plan_id="0" * 16,
        animal_id=1,
        source=[{"session": 1, "scan_idx": 1}],
        monitor={"width_px": 256, "height_px": 144},
        curve=MonitorCurve(level, 0.2 + 30 * (level / 255) ** 2.2),
        seed=0,
        trials=plan.trials,
        images=dict(zip(names, pixels, strict=True)),
        images_table=rows,
        units_table=pd.DataFrame(
            {
                "session": 1,
                "scan_idx": 1,
                "field": 0,
                "unit_id": range(NEURONS),
                "y_px": 0.0,
                "x_px": 0.0,
            }
        ),
    )
    planned = read_package(package).trials
    onset = np.cumsum(planned.blank_before_s + 0.017) + 0.5 * np.arange(len(planned))
    shown = planned.assign(onset_s=onset, offset_s=onset + 0.5)
    shown = shown.drop(index=[100, 3000])  # the rig lost two
    audit = audit_presentation(planned, shown)
    assert audit.summary["dropped"] == 2
    usable = audit.per_trial[audit.per_trial.usable]
    assert len(usable) >= 0.99 * len(planned)
    drive = np.full((len(names), NEURONS), 0.5)
    neuron = np.arange(NEURONS)
    base = rng.gamma(2, 0.5, NEURONS) + 0.3
    drive[neuron, neuron], drive[NEURONS + neuron, neuron] = GAIN * base, base
    row = {name: k for k, name in enumerate(names)}
    mean = drive[[row[name] for name in usable.image]]
    responses = rng.gamma(mean / 0.8, 0.8)
    result = outcome_methods["welch_bh"](responses, usable.image.to_numpy(), own)
    whole = result.populations.iloc[0]
    assert whole.n == NEURONS
    assert whole.fraction > 0.75
    assert whole.wilcoxon_p < 1e-6
    assert result.confusions["mei"].mean_row_rank > 0.8
    assert len(sensitivity(result, np.linspace(0.5, 1, NEURONS), [0.5, 0.9])) == 2
    assert time.process_time() - start < 60
