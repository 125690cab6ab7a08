"""An independent rig reads the package and answers it: the simulated one."""

import numpy as np
import pandas as pd

from pipeline.closed_loop.package.files import read_package, write_package
from pipeline.closed_loop.planning.plan import plan_methods
from pipeline.closed_loop.presentation.audit import audit_presentation
from pipeline.simulate.rig.schedule import present
from pipeline.simulate.rig.schedule import read_package as rig_reads


def test_every_fault_of_the_simulated_rig_is_found(tmp_path, contents):
    by_kind = {kind: rows.image.tolist() for kind, rows in contents["images_table"].groupby("kind")}
    contents["trials"] = plan_methods["balanced_blocks"](by_kind, minutes=30, repeats=100).trials
    package = write_package(tmp_path / "package", **contents)
    schedule = rig_reads(package, contents["animal_id"])
    assert schedule.plan == contents["plan_id"]
    shown = present(
        schedule, 12.0, np.random.default_rng(0), dropped=0.02, late=0.02, repeated=0.02
    )
    faults = dict(shown.faults)
    assert {*faults.values()} == {"dropped", "late", "repeated"}
    log = pd.DataFrame(
        {
            "trial_idx": shown.trial_idx,
            "image": [schedule.files[i] for i in shown.image_index],
            "onset_s": shown.onset_s,
            "offset_s": shown.offset_s,
            "blank_before_s": shown.blank_before_s,
        }
    )
    table = audit_presentation(read_package(package).trials, log).per_trial
    found = dict(zip(table.trial_idx, table.status, strict=True))
    assert all(found[i] in ("late", "ok") for i, fault in faults.items() if fault == "late")
    for i in range(len(contents["trials"])):
        after_gap = faults.get(i - 1) == "dropped"  # how late is not known there
        if not (after_gap and faults.get(i) == "late"):
            assert found[i] == faults.get(i, "ok"), i
