import json

import pytest

from pipeline import model
from pipeline.registry import config_hash

CONFIGS = [
    model.default_config,
    model.ln_config,
    model.paper_config,
    model.paper_ln_config,
]


@pytest.mark.parametrize("make", CONFIGS)
def test_configuration_is_json_complete_and_hashes_the_same_after_a_database(make):
    config = make()
    back = json.loads(json.dumps(config))
    assert back == config
    assert model.complete_config(back) == config
    assert config_hash(model.complete_config(back)) == config_hash(config)


def test_the_four_configurations_differ_and_their_training_is_fair():
    default, linear, paper, paper_ln = (make() for make in CONFIGS)
    assert len({config_hash(c) for c in (default, linear, paper, paper_ln)}) == 4
    for nonlinear, twin in ((default, linear), (paper, paper_ln)):
        for section in ("readout", "shifter", "modulator", "loss", "training"):
            assert nonlinear[section] == twin[section]


def test_an_unknown_section_name_or_parameter_is_named():
    with pytest.raises(ValueError, match="backbone"):
        model.complete_config({"backbone": {}})
    with pytest.raises(ValueError, match="resnet"):
        model.complete_config({"core": {"name": "resnet"}})
    with pytest.raises(ValueError, match="depth"):
        model.complete_config({"core": {"depth": 3}})
