import pytest
import torch

from pipeline import model


def _ensemble(data, config):
    members = []
    for seed in (0, 1):
        encoder = model.build_encoder(config, data, seed)
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, tensor in encoder.named_buffers():
                if name.endswith("running_mean"):
                    tensor.normal_()
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 2)
            for parameter in encoder.shifter.parameters():
                parameter.normal_(0, 0.3)
            encoder.readout.place.uniform_(-1.2, 1.2)
            encoder.readout.features.normal_(0, 0.1)
        members.append(encoder)
    return model.Ensemble(members).frozen()


CORES = {
    "as published": {},
    "linear": {"linear": True},
    "one skip, four layers": {"skips": 1, "layers": 4, "channels": 7},
    "one layer": {"layers": 1, "channels": 5, "input_kernel": 9},
    "two skips": {"skips": 2, "layers": 4, "channels": 6, "hidden_kernel": 5},
}


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.numerical
def test_spectra_and_stencils_are_the_whole_model_and_so_is_the_gradient(small, core):
    config = model.paper_config()
    config["core"].update(core)
    frozen = _ensemble(small[2], config)
    units = torch.arange(12).repeat(2)[:19]  # not a multiple of what goes at once
    torch.manual_seed(2)
    images = torch.randn(19, 1, *frozen.input_shape, requires_grad=True)
    plain, fast = frozen.members(images, units), frozen.frame_reader(units)(images)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(plain)
    ours, theirs = (torch.autograd.grad((f * weights).sum(), images)[0] for f in (fast, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))


def test_a_pyramid_that_is_not_downsampled_is_read_too(small):
    config = model.paper_config()
    config["core"]["channels"] = 4
    config["readout"].update(downsample=False, scale_n=2)
    frozen, units = _ensemble(small[2], config), torch.arange(12)
    images = torch.randn(12, 1, *frozen.input_shape)
    torch.testing.assert_close(
        frozen.frame_reader(units)(images), frozen.members(images, units), rtol=1e-4, atol=1e-5
    )
