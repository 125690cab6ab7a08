import numpy as np
import pytest
import torch

from pipeline import model


def _scrambled(dataset, config, seed):
    """Untrained, but with batch statistics, biases, gain and shift that are not trivial."""
    encoder = model.build_encoder(config, dataset, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in encoder.named_buffers():
            if name.endswith("running_mean"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        for name, parameter in encoder.named_parameters():
            if name.startswith(("modulator", "shifter")) or "norm.bias" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.3 * noise)
    return encoder


@pytest.fixture(scope="module")
def ensemble(small):
    members = [_scrambled(small[2], None, seed) for seed in (0, 1)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # units in all corners and at the edges
        edge = torch.tensor([-1.2, -0.95, -0.5, 0.0, 0.3, 0.97, 1.2])
        grid = torch.cartesian_prod(edge, edge)[:: 49 // 12][:12]
        members[1].shifter.load_state_dict(members[0].shifter.state_dict())
        for member in members:
            member.readout.place.copy_(grid + 0.02 * torch.randn(12, 2, generator=generator))
    return model.Ensemble(members)


STATES = {
    "mean": {},
    "running": {"behavior": np.array([20.0, 1.0, 9.0]), "pupil_center": np.array([84.0, 57.0])},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_frozen_model_is_the_prediction_at_that_state(ensemble, small, state):
    images = small[2].images[:9]
    frozen = ensemble.frozen(**state)
    z = ensemble.encoders[0].zscore_images(images)
    np.testing.assert_allclose(
        frozen(z).numpy(), ensemble.predict(images, **state), rtol=1e-4, atol=1e-5
    )
    for parameter in frozen.parameters():
        assert not parameter.requires_grad


@pytest.mark.parametrize("behavior", [None, STATES["running"]["behavior"]], ids=STATES)
@pytest.mark.numerical
def test_units_members_and_crops_agree_with_the_whole_image(ensemble, behavior):
    frozen = ensemble.frozen(behavior)
    units = torch.arange(12).repeat(3)
    images = torch.randn(36, 1, *frozen.input_shape, generator=torch.Generator().manual_seed(1))
    whole = frozen(images)[torch.arange(36), units]
    torch.testing.assert_close(frozen.forward_units(images, units), whole, rtol=1e-4, atol=1e-4)
    members = frozen.members(images, units)
    assert members.shape == (2, 36)
    torch.testing.assert_close(members.mean(0), whole, rtol=1e-4, atol=1e-4)
    places = frozen.crops(units.numpy())
    assert places.exact.all()
    assert places.height * places.width < 0.4 * 36 * 64
    crops = torch.stack(
        [
            image[:, top : top + places.height, left : left + places.width]
            for image, top, left in zip(images, places.top, places.left, strict=True)
        ]
    )
    assert crops.shape[2:] == (places.height, places.width)
    torch.testing.assert_close(frozen.forward_crops(crops, units), whole, rtol=1e-4, atol=1e-4)


def test_at_another_gaze_the_image_is_moved_and_no_crop_stands_for_it(ensemble):
    frozen = ensemble.frozen(**STATES["running"])
    units = torch.arange(12)
    images = torch.randn(12, 1, *frozen.input_shape, generator=torch.Generator().manual_seed(1))
    whole = frozen(images)[units, units]
    torch.testing.assert_close(frozen.forward_units(images, units), whole, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(
        whole, ensemble.frozen(STATES["running"]["behavior"])(images)[units, units]
    )
    assert not frozen.crops().exact.any()


@pytest.mark.numerical
def test_gradient_lies_within_the_crop_and_equals_that_of_the_crop(ensemble):
    frozen = ensemble.frozen()
    units = torch.arange(12)
    images = torch.randn(12, 1, *frozen.input_shape, generator=torch.Generator().manual_seed(2))
    images.requires_grad_(True)
    (gradient,) = torch.autograd.grad(frozen.forward_units(images, units).sum(), images)
    places = frozen.crops()
    for unit in range(12):
        top, left = places.top[unit], places.left[unit]
        window = (slice(top, top + places.height), slice(left, left + places.width))
        outside = gradient[unit, 0].clone()
        outside[window] = 0
        assert outside.abs().max() == 0
        crop = images[unit : unit + 1, :, *window].detach().requires_grad_(True)
        response = frozen.forward_crops(crop, units[unit : unit + 1])
        (of_crop,) = torch.autograd.grad(response.sum(), crop)
        torch.testing.assert_close(of_crop[0, 0], gradient[unit, 0][window], rtol=1e-3, atol=1e-5)


@pytest.mark.numerical
def test_some_units_in_another_order_and_members_that_disagree(ensemble, small):
    z = torch.randn(4, 1, *ensemble.input_shape)
    chosen = np.array([7, 2, 2])
    torch.testing.assert_close(ensemble.frozen(units=chosen)(z), ensemble.frozen()(z)[:, chosen])
    other = _scrambled(small[2], None, 3)
    with torch.no_grad():
        other.shifter.load_state_dict(ensemble.encoders[0].shifter.state_dict())
        other.readout.place.copy_(ensemble.encoders[0].readout.place)
        other.readout.place[4] += 0.8
    places = model.Ensemble([ensemble.encoders[0], other]).frozen().crops()
    assert np.flatnonzero(~places.exact).tolist() == [4]


def test_a_state_adds_before_the_nonlinearity_and_multiplies_after_it_frozen_or_not(small):
    encoder = _scrambled(small[2], {"modulator": {"name": "gain_offset"}}, 3).eval()
    images = torch.randn(4, 1, *encoder.input_shape)
    running = encoder.zscore_state("behavior", STATES["running"]["behavior"], 1)

    def drive(behavior: torch.Tensor) -> torch.Tensor:
        """Undo gain and nonlinearity, which is exponential below 0."""
        return (encoder(images, behavior) / encoder.modulator(behavior)[..., 0]).log()

    moved, still = drive(running), drive(torch.zeros_like(running))
    below = (moved < 0) & (still < 0)
    assert below.any()
    offset = encoder.modulator.offset(running).expand_as(moved)
    torch.testing.assert_close((moved - still)[below], offset[below], rtol=1e-3, atol=1e-3)
    frozen = model.Ensemble([encoder]).frozen(behavior=STATES["running"]["behavior"])
    whole = encoder(images, running) * encoder.response_scale
    torch.testing.assert_close(frozen(images), whole, rtol=1e-4, atol=1e-4)
    one = frozen.forward_units(images, torch.arange(4))
    torch.testing.assert_close(one, whole[:, :4].diagonal(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [model.ln_config, model.paper_config, model.paper_ln_config])
def test_every_other_model_freezes_too(small, make):
    ensemble = model.Ensemble([_scrambled(small[2], make(), 4)])
    frozen = ensemble.frozen()
    images = torch.randn(12, 1, *frozen.input_shape)
    units = torch.arange(12)
    whole = frozen(images).diagonal()
    torch.testing.assert_close(frozen.forward_units(images, units), whole, rtol=1e-4, atol=1e-4)
    places = frozen.crops()
    if make is model.ln_config:
        assert places.exact.all()
        crops = torch.stack(
            [
                images[i, :, t : t + places.height, s : s + places.width]
                for i, (t, s) in enumerate(zip(places.top, places.left, strict=True))
            ]
        )
        response = frozen.forward_crops(crops, units)
        torch.testing.assert_close(response, whole, rtol=1e-4, atol=1e-4)
    else:
        assert not places.exact.any()
        with pytest.raises(ValueError, match="not exact"):
            frozen.forward_crops(images, units)
