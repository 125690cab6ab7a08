import numpy as np
import pytest
import torch

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.errors import DataError

TINY = {"core": {"channels": 6, "hidden_kernels": [3]}, "training": {"batch_size": 32}}
CORTICAL = {**TINY, "readout": {"name": "cortical"}}


@pytest.fixture(scope="module")
def mapped(small):
    """The population with a retinotopic map: 10 um a pixel, turned by 30 degrees."""
    population, simulated, _ = small
    at = np.stack([population.cells.x_px, population.cells.y_px], axis=1)
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    xyz = np.column_stack([10 * at @ turn.T + 500, np.full(len(at), 200.0)])
    return population, Dataset(**{**simulated.arguments(), "um_xyz": xyz})


def error_px(encoder, population):
    y, x = encoder.readout_px().T
    return np.hypot(y - population.cells.y_px, x - population.cells.x_px)


def test_neighbors_say_where_a_cell_looks_that_does_not_say_it_itself(mapped):
    population, whole = mapped
    data = whole.select(trials=np.arange(whole.n_trials))
    deaf, others = [2, 7], np.delete(np.arange(12), [2, 7])
    data.responses[:, deaf] = np.random.default_rng(0).gamma(1.0, size=(data.n_trials, 2))
    alone = error_px(model.build_encoder(TINY, data), population)
    together = error_px(model.build_encoder(CORTICAL, data), population)
    assert together[deaf].max() < 3
    assert alone[deaf].min() > 6
    assert np.median(together[others]) < np.median(alone[others])


def test_map_and_offsets_learn_and_come_back_from_disk(mapped, tmp_path):
    _, dataset = mapped
    small = dataset.select(trials=np.arange(0, dataset.n_trials, 5))
    encoder = model.build_encoder(CORTICAL, small)
    before = encoder.readout_px()
    model.train(encoder, small, max_epochs=2)
    after = encoder.readout_px()
    assert np.abs(after - before).max() > 0.01
    model.save_encoder(encoder, tmp_path / "c.safetensors")
    again = model.load_encoder(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(again.readout_px(), after)
    images = small.images[:3]
    np.testing.assert_array_equal(again.predict(images), encoder.predict(images))
    frozen = model.Ensemble([encoder]).frozen()
    z = encoder.zscore_images(images)
    np.testing.assert_allclose(frozen(z), encoder.predict(images), rtol=1e-4, atol=1e-5)


def test_without_offsets_places_are_an_affine_map_of_the_cortex(mapped):
    _, dataset = mapped
    config = {**TINY, "readout": {"name": "cortical", "offset_gamma": None}}
    encoder = model.build_encoder(config, dataset)
    design = np.column_stack([dataset.um_xyz[:, :2], np.ones(dataset.n_units)])
    places = encoder.readout_px()
    fit = design @ np.linalg.lstsq(design, places, rcond=None)[0]
    np.testing.assert_allclose(places, fit, atol=1e-3)
    assert not encoder.readout.offset.requires_grad


def test_cells_without_positions_are_refused(small):
    with pytest.raises(DataError, match="um_xyz"):
        model.build_encoder(CORTICAL, small[2])


@pytest.mark.numerical
def test_some_units_are_predicted_in_one_call(small):
    dataset = small[2]
    encoder = model.build_encoder(TINY, dataset)
    everyone = encoder.predict(dataset.images[:4])
    units = [7, 0, 7]
    np.testing.assert_array_equal(
        encoder.predict(dataset.images[:4], units=units), everyone[:, units]
    )
    together = model.Ensemble([encoder]).predict(dataset.images[:4], units=units)
    np.testing.assert_allclose(together, everyone[:, units], rtol=1e-6)
    assert torch.is_grad_enabled()
