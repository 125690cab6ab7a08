"""Another day's natural images of the same cells."""

import pytest
from known_neurons import SHAPE

pytestmark = pytest.mark.tables


def test_another_days_model_wants_the_same_of_the_same_cells(database, loop):
    from schemas import closed_loop, dataset

    other = {"other_ensemble_hash": loop["other"]["ensemble_hash"]}
    masters = (closed_loop.MEIDayStability & other).to_dicts(order_by="batch")
    assert sum(row["n_pairs"] for row in masters) >= 6
    for row in masters:
        if row["n_pairs"] == 0:  # a batch beyond the last target
            continue
        assert row["images"].load().shape == (row["n_pairs"], 2, *SHAPE)
        assert row["median_correlation"] > 0.8  # both models learned the known filters
        assert row["median_correlation"] > row["median_others"] + 0.5
        assert row["median_transfer"] > 0.7
    units = (closed_loop.MEIDayStability.Unit & other).to_dicts()
    label = {
        (row["dataset_hash"], row["unit_index"]): row["label"]
        for row in dataset.Dataset.Unit.to_dicts()
    }
    for row in units:  # the masks of a cell have the same number on all days
        here = label[row["dataset_hash"], row["unit_index"]]
        assert here == label[row["other_dataset_hash"], row["other_unit_index"]]


def test_another_day_is_registered_once_and_only_of_the_same_animal(database, loop):
    from pipeline.errors import DataError
    from schemas import closed_loop
    from schemas.decisions import other_day

    before = len(closed_loop.OtherDayTask())
    again = other_day.register_other_day(loop["day3"], loop["day1"])
    assert (again, len(closed_loop.OtherDayTask())) == (loop["other"], before)
    for scan, source, message in (
        ({**loop["day3"], "session": 9}, loop["day1"], "no such scan"),
        (loop["day1"], loop["day1"], "not another day"),
        (loop["day1"], {**loop["day3"], "animal_id": 5}, "not another day"),
        (loop["day1"], loop["day3"], "no loop is registered"),
    ):
        with pytest.raises(DataError, match=message):
            other_day.register_other_day(scan, source)
