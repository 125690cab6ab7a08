import json

import numpy as np
import pytest
import torch

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.model.encoder import model_shape
from pipeline.model.shifters import move_images


@pytest.mark.numerical
def test_prediction_is_the_same_at_every_size_of_an_image(small):
    encoder = model.build_encoder(None, small[2])
    images = small[2].images[:5]
    large = images.repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_allclose(encoder.predict(large), encoder.predict(images), rtol=1e-4)
    with pytest.raises(DataError, match="aspect"):
        encoder.predict(images[:, :, :50])


def test_none_is_the_training_mean(small):
    dataset = small[2]
    encoder = model.build_encoder(None, dataset)
    torch.nn.init.normal_(encoder.modulator.out.weight)
    torch.nn.init.normal_(encoder.shifter.layer.weight, 0, 0.1)
    images, stats = dataset.images[:5], dataset.stats
    mean = encoder.predict(images, stats.behavior_mean, stats.pupil_mean)
    np.testing.assert_allclose(encoder.predict(images), mean, rtol=1e-4)
    assert np.abs(encoder.predict(images, stats.behavior_mean + 3) - mean).max() > 0.01


def test_only_training_data_reaches_an_untrained_encoder(small):
    _, simulated, dataset = small
    arguments = simulated.arguments()
    arguments["responses"] = np.where((dataset.tiers == "train")[:, None], dataset.responses, 100.0)
    state = model.build_encoder(None, Dataset(**arguments)).state_dict()
    for name, tensor in model.build_encoder(None, dataset).state_dict().items():
        torch.testing.assert_close(state[name], tensor)


def test_first_places_lie_near_the_true_receptive_fields(small):
    population, _, dataset = small
    y, x = model.build_encoder(None, dataset).readout_px().T
    error = np.hypot(y - population.cells.y_px, x - population.cells.x_px)
    assert np.median(error) < 2.5


def test_initial_mean_prediction_is_the_mean_response(small):
    dataset = small[2]
    encoder = model.build_encoder({"readout": {"gamma": 0.0}}, dataset)
    torch.nn.init.zeros_(encoder.readout.features)
    predicted = encoder.predict(dataset.images[:3])
    np.testing.assert_allclose(predicted[0], dataset.stats.response_mean, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    "make", [model.default_config, model.ln_config, model.paper_config, model.paper_ln_config]
)
@pytest.mark.numerical
def test_saved_encoders_predict_the_same(small, make, tmp_path):
    dataset = small[2]
    encoder = model.build_encoder(make(), dataset, seed=3)
    model.save_encoder(encoder, tmp_path / "m.safetensors")
    again = model.load_encoder(tmp_path / "m.safetensors")
    arguments = (dataset.images[:4], dataset.behavior[:4], dataset.pupil_center[:4])
    np.testing.assert_array_equal(again.predict(*arguments), encoder.predict(*arguments))
    assert again.config == encoder.config
    np.testing.assert_array_equal(again.unit_ids, encoder.unit_ids)
    (tmp_path / "cut").write_bytes((tmp_path / "m.safetensors").read_bytes()[:1000])
    with pytest.raises(DataError, match="cut"):
        model.load_encoder(tmp_path / "cut")


@pytest.mark.parametrize("change", [lambda core: core.pop("stride"), lambda core: core.update(x=1)])
def test_files_of_other_parameters_are_refused_not_completed(small, tmp_path, change):
    encoder = model.build_encoder(None, small[2])
    change(encoder.config["core"])
    model.save_encoder(encoder, tmp_path / "old.safetensors")
    with pytest.raises(DataError, match="another version"):
        model.load_encoder(tmp_path / "old.safetensors")


def test_files_of_another_training_are_read(small, tmp_path):
    dataset = small[2]
    encoder = model.build_encoder(None, dataset)
    wanted = encoder.predict(dataset.images[:4])
    encoder.config["training"].pop("averaged")
    encoder.config["loss"]["of_another_version"] = 1
    model.save_encoder(encoder, tmp_path / "old.safetensors")
    again = model.load_encoder(tmp_path / "old.safetensors")
    np.testing.assert_array_equal(again.predict(dataset.images[:4]), wanted)


def test_linear_twins_are_linear_before_the_output_nonlinearity(small):
    for make in (model.ln_config, model.paper_ln_config):
        encoder = model.build_encoder(make(), small[2]).eval()
        a, b = torch.randn(2, 3, 1, *encoder.input_shape)
        with torch.no_grad():
            read = lambda z, e=encoder: e.readout(e.core(z))  # noqa: E731
            both, zero = read(a + b), read(torch.zeros_like(a))
            torch.testing.assert_close(both + zero, read(a) + read(b), rtol=1e-3, atol=1e-4)


def test_model_size_keeps_the_aspect_ratio():
    assert model_shape((144, 256)) == (36, 64)
    assert model_shape((1080, 1920)) == (36, 64)
    assert model_shape((48, 64)) == (36, 48)
    for height, width in ((100, 160), (72, 90), (50, 50)):
        rows, columns = model_shape((height, width))
        assert abs(columns / rows * height / width - 1) <= 0.01
    with pytest.raises(DataError, match="aspect"):
        model_shape((100, 3))


@pytest.mark.parametrize("readout", ["square", "point", "factorised", "pyramid"])
@pytest.mark.parametrize(
    "core", ["deep", "divisive", "strided", "pooled", "linear", "separable", "gaussian_laplace"]
)
def test_every_core_with_every_readout_gives_a_finite_gradient(small, core, readout):
    dataset = small[2]
    config = {"core": {"name": core}, "readout": {"name": readout}, "shifter": {"name": "mlp"}}
    encoder = model.build_encoder(config, dataset)
    rate = encoder(torch.randn(3, 1, *encoder.input_shape), torch.randn(3, 3), torch.randn(3, 2))
    assert rate.shape == (3, 12)
    assert (rate > 0).all()
    (rate.mean() + encoder.regulariser()).backward()
    for parameter in encoder.core.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_gabor_start_gives_zero_mean_unit_norm_kernels_that_the_seed_names(small):
    config = {"core": {"gabor_start": True, "input_kernel": 13}}
    kernels = [
        model.build_encoder(config, small[2], seed).core.blocks[0].conv.weight.detach()[:, 0]
        for seed in (0, 0, 1)
    ]
    assert kernels[0].shape == (48, 13, 13)
    torch.testing.assert_close(kernels[0].sum((1, 2)), torch.zeros(48), rtol=0, atol=1e-5)
    torch.testing.assert_close(kernels[0].square().sum((1, 2)), torch.ones(48))
    torch.testing.assert_close(kernels[0], kernels[1], rtol=0, atol=0)
    assert not torch.allclose(kernels[0], kernels[2])


def test_a_moved_image_is_the_image_that_displaced_receptive_fields_see():
    column = torch.arange(64.0).expand(1, 1, 36, 64)
    moved = move_images(column, torch.tensor([[2 * 3 / 64, 0.0]]))  # by 3 px to the right
    torch.testing.assert_close(moved[0, 0, 5, 4:58], torch.arange(7.0, 61.0), rtol=1e-4, atol=1e-3)
    stripes = torch.cos(2 * torch.pi * torch.arange(64.0) / 6).expand(1, 1, 36, 64)
    half = move_images(stripes, torch.tensor([[2 * 0.5 / 64, 0.0]]))[0, 0, 5, 4:58]
    expected = torch.cos(2 * torch.pi * (torch.arange(4.0, 58.0) + 0.5) / 6)
    assert (half - expected).abs().max() < 0.06  # fine stripes survive half a pixel


def test_mean_gaze_moves_nothing(small):
    encoder = model.build_encoder(None, small[2])
    torch.nn.init.normal_(encoder.shifter.layer.weight)
    z = torch.randn(2, 1, 36, 64, generator=torch.Generator().manual_seed(0))
    encoder.eval()
    torch.testing.assert_close(
        encoder(z, pupil=torch.zeros(2, 2)), encoder(z), rtol=1e-4, atol=1e-4
    )


def test_places_are_the_centers_of_what_units_answer_to_wherever_their_features_look(small):
    config = {"core": {"channels": 2, "hidden_kernels": []}, "readout": {"name": "point"}}
    encoder = model.build_encoder(config, small[2])
    yy, xx = torch.meshgrid(torch.arange(13), torch.arange(13), indexing="ij")
    spots = [torch.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 4.0) for y, x in ((6, 6), (3, 8))]
    with torch.no_grad():
        encoder.core.blocks[0].conv.weight.copy_(torch.stack(spots)[:, None])
        encoder.readout.place.copy_(torch.linspace(-0.3, 0.3, 12)[:, None].expand(12, 2))
        encoder.readout.features.copy_(torch.eye(2).repeat(6, 1))
    offset = model.field_centers_px(encoder) - encoder.readout_px()
    np.testing.assert_allclose(offset[::2], 0, atol=0.35)
    np.testing.assert_allclose(offset[1::2], [[-3, 2]] * 6, atol=0.35)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("{", "encoder"),
        ("[1]", "list"),
        ({"config": [1]}, "config"),
        ({"config": {"core": None}}, "config"),
        ({"input_shape": [6]}, "input_shape"),
        ({"unit_ids": "x"}, "unit_ids"),
        ({"image_sd": 0}, "image_sd"),
        ({"image_mean": None}, "image_mean"),
    ],
)
def test_metadata_of_no_encoder_are_one_line_with_file_and_field(tmp_path, change, field):
    from safetensors.torch import save_file

    about = {
        "format": "inception-encoder/1",
        "config": {},
        "input_shape": [6, 8],
        "image_mean": 100.0,
        "image_sd": 50.0,
        "unit_ids": [1, 2],
    }
    text = change if isinstance(change, str) else json.dumps({**about, **change})
    path = tmp_path / "m.safetensors"
    save_file({"x": torch.zeros(2)}, path, {"encoder": text})
    with pytest.raises(DataError, match=rf"m\.safetensors.*{field}") as caught:
        model.load_encoder(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
