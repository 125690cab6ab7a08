import numpy as np
import pytest

from pipeline.dataset import unit_filters
from pipeline.dataset.filters import UnitTable, apply_filter
from pipeline.errors import DataError


@pytest.fixture
def units():
    return UnitTable(
        area=np.array(["V1", "V1", "LM", "V1", "V1", ""]),
        depth_um=np.array([50.0, 150.0, 200.0, 309.9, 310.0, np.nan]),
        soma_probability=np.array([0.9, 0.2, 0.9, np.nan, 0.5, 0.9]),
        snr=np.array([5.0, 5.0, 2.0, 3.0, np.nan, 5.0]),
    )


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"areas": ["V1"]}, [0, 1, 3, 4]),
        ({"areas": ["V1", "LM"]}, [0, 1, 2, 3, 4]),
        ({"layers": ["L2/3"]}, [1, 2, 3]),
        ({"layers": ["L1", "L4"]}, [0, 4]),
        ({"layers": ["mine"], "layer_borders_um": {"mine": [0, 200]}}, [0, 1]),
        ({"min_depth_um": 150}, [1, 2, 3, 4]),
        ({"max_depth_um": 150}, [0, 1]),
        ({"min_soma_probability": 0.5}, [0, 2, 3, 4, 5]),
        ({"min_snr": 3.0}, [0, 1, 3, 5]),
        ({"areas": ["V1"], "layers": ["L2/3"], "min_soma_probability": 0.5, "min_snr": 3.0}, [3]),
    ],
)
def test_every_criterion_keeps_exactly_whom_it_says(units, params, kept):
    assert np.flatnonzero(unit_filters["criteria"](units, **params)).tolist() == kept


def test_an_unknown_layer_and_a_filter_that_keeps_none_are_errors(units):
    with pytest.raises(ValueError, match=r"L7.*L2/3"):
        unit_filters["criteria"](units, layers=["L7"])
    with pytest.raises(DataError, match="0 of 6 units"):
        apply_filter(units, "criteria", {"areas": ["S1"]})


def test_parameters_survive_a_database_and_have_one_hash():
    import json

    params = {"layers": ["L2/3"]}
    full = json.loads(json.dumps(unit_filters.complete("criteria", params)))
    assert unit_filters.hash("criteria", full) == unit_filters.hash("criteria", params)


def test_a_prepared_data_set_knows_depth_only_from_its_positions():
    xyz = np.array([[0, 0, -150.0], [5, 5, 320.0]])
    known, unknown = UnitTable.unknown(2, xyz), UnitTable.unknown(2)
    assert unit_filters["criteria"](known, layers=["L2/3"]).tolist() == [True, False]
    assert unit_filters["criteria"](unknown, layers=["L2/3"]).tolist() == [False, False]
