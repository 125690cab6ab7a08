"""What CUDA computes is what the CPU computes; run where there is a GPU."""

import os

import numpy as np
import pytest
import torch

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.imaging.motion.on_device import DeviceSurface
from pipeline.imaging.motion.rigid import Correlator, mean_power
from pipeline.mei import synthesize
from pipeline.mei.analysis import AnalysisContext, analyses
from pipeline.mei.controls import ControlContext, control_kinds
from pipeline.mei.masks import mask_methods
from pipeline.simulate import Population, natural_images, simulate_dataset

GPU = os.environ.get("CUDA_TESTS_ON", "cuda")  # "cpu": the tests themselves, without a GPU
pytestmark = pytest.mark.skipif(
    GPU == "cuda" and not torch.cuda.is_available(), reason="torch sees no CUDA here"
)

TINY = {"core": {"channels": 6, "hidden_kernels": [3]}, "training": {"batch_size": 32}}
NORM = 8.0
CONFIGURATIONS = {
    "default": models.default_config(),
    "linear": models.ln_config(),
    "paper": models.paper_config(),
    "strided": {"core": {"name": "strided"}, "readout": {"name": "point"}},
    "separable": {"core": {"name": "separable"}, "readout": {"name": "factorised"}},
    "pooled": {"core": {"name": "pooled"}, "readout": {"name": "cortical"}},
    "offset": {"shifter": {"name": "affine"}, "modulator": {"name": "gain_offset"}},
}
# ascents of few steps: two devices round in two ways, and after long ones it shows
SHORT = {
    "constrained": {"steps": 40},
    "walker2019": {"steps": 40},
    "diverse": {"steps": 40},
}
BANK = {"wavelengths_px": [12, 16], "sigmas_px": [4, 6], "n_dy": 3, "n_dx": 3, "orientations": 4}


@pytest.fixture(scope="module")
def data():
    simulated = simulate_dataset(Population(5, 8), 90, test_images=6, repeats=4, seed=5)
    positions = np.random.default_rng(0).uniform(0, 500, (8, 3))  # um, for `cortical`
    return Dataset(**{**simulated.arguments(), "um_xyz": positions})


def trained(dataset, device, **options):
    encoder = models.build_encoder(TINY, dataset, 0)
    result = models.train(encoder, dataset, seed=0, max_epochs=3, device=device, **options)
    return encoder, [row["validation_correlation"] for row in result.history]


@pytest.fixture(scope="module")
def on_cuda(data):
    return trained(data, GPU)


def equal_weights(one, other):
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0)


def test_same_seed_same_weights_and_nearly_those_of_the_cpu(data, on_cuda):
    encoder, curve = on_cuda
    assert next(encoder.parameters()).device.type == GPU
    equal_weights(encoder, trained(data, GPU)[0])
    np.testing.assert_allclose(curve, trained(data, "cpu")[1], atol=1e-3)


def test_a_training_that_was_stopped_ends_with_the_same_weights(data, on_cuda, tmp_path):
    path = tmp_path / "checkpoint.safetensors"

    def stop(epoch, info):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(data, GPU, checkpoint=path, progress=stop)
    equal_weights(on_cuda[0], trained(data, GPU, checkpoint=path)[0])


def test_weights_travel_to_a_machine_without_a_gpu(data, on_cuda, tmp_path):
    models.save_encoder(on_cuda[0], tmp_path / "e.safetensors")
    at_home = models.load_encoder(tmp_path / "e.safetensors", "cpu")
    state = data.behavior[:5], data.pupil_center[:5]
    expected = on_cuda[0].predict(data.images[:5], *state)
    np.testing.assert_allclose(at_home.predict(data.images[:5], *state), expected, rtol=1e-4)
    figures = models.evaluate(models.Ensemble([on_cuda[0]]), data).per_scan
    at_home = models.evaluate(models.Ensemble([at_home]), data).per_scan
    for name, value in figures.items():
        assert at_home[name] == pytest.approx(value, rel=1e-3, nan_ok=True), name


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_rates_and_gradients_of_every_part(data, name):
    config = models.complete_config(CONFIGURATIONS[name])
    torch.manual_seed(0)
    images = torch.randn(12, 1, *data.shape)
    behavior, pupil = torch.randn(12, data.behavior.shape[1]), torch.randn(12, 2)
    found = []
    for device in ("cpu", GPU):
        encoder = models.build_encoder(config, data, 0)
        with torch.no_grad():
            torch.manual_seed(1)
            for parameter in encoder.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape))
        encoder.to(device)
        noise = torch.Generator().manual_seed(2)
        rate = encoder(
            *(x.to(device) for x in (images, behavior, pupil)),
            noise=lambda *shape, noise=noise, device=device: torch.randn(
                *shape, generator=noise
            ).to(device),
        )
        (rate.square().mean() + encoder.regulariser()).backward()
        gradients = {k: p.grad.cpu() for k, p in encoder.named_parameters() if p.grad is not None}
        found.append((rate.detach().cpu(), gradients))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-4)
    assert found[1][1].keys() == found[0][1].keys()
    for key, gradient in found[0][1].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[1][1][key], gradient, rtol=1e-2, atol=2e-3 * scale)


def test_several_scans_and_a_carried_core(data, on_cuda):
    other = data.select(units=np.arange(4))
    joint = models.build_joint_encoder(TINY, [data, other], seed=0)
    models.train_jointly(joint, [data, other], seed=0, max_epochs=2, device=GPU)
    carried = models.transfer_core(joint.members[0], other, 1)
    models.train_readout(carried, other, seed=1, max_epochs=2, device=GPU)
    assert carried.predict(data.images[:3]).shape == (3, 4)


@pytest.fixture(scope="module")
def ensembles(data):
    """Two members, no two units at one place, on the CPU and on the GPU."""
    found = {}
    for device in ("cpu", GPU):
        members = []
        for seed in (0, 1):
            encoder = models.build_encoder(None, data, seed=seed)
            torch.manual_seed(seed)
            with torch.no_grad():
                encoder.readout.features.normal_(0, 0.3)
                encoder.readout.place[:] = torch.linspace(-0.9, 0.9, 16).reshape(8, 2) + seed / 50
                encoder.shifter.layer.weight.copy_(torch.eye(2) * 0.05)
            members.append(encoder.eval().to(device))
        found[device] = models.Ensemble(members)
    return found


def made(ensemble, device, **options):
    frozen = ensemble.frozen()
    scene = {"mean": frozen.image_mean, "sd": frozen.image_sd, "norm": NORM, "seed": 1}
    return synthesize(frozen, range(8), device=device, **scene, **options)


@pytest.mark.parametrize("method", SHORT)
def test_images_of_every_method(ensembles, method):
    options = {"method": method, "params": SHORT[method], "starts": 2}
    one, other = (made(ensembles[device], device, **options) for device in ("cpu", GPU))
    np.testing.assert_allclose(other.activations, one.activations, rtol=2e-3)
    if method == "diverse":  # of sets that are as good, rounding chooses one
        return
    for a, b in zip(one.images, other.images, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99


def test_images_for_a_moving_eye_and_a_member_left_out(ensembles):
    options = {"params": {"objective": "over_gaze", "steps": 40}}
    found = [
        made(
            ensembles[d], d, held_out=models.Ensemble(ensembles[d].encoders[:1]).frozen(), **options
        )
        for d in ("cpu", GPU)
    ]
    np.testing.assert_allclose(found[1].activations, found[0].activations, rtol=2e-3)
    np.testing.assert_allclose(found[1].held_out, found[0].held_out, rtol=5e-3)


@pytest.fixture(scope="module")
def contexts(ensembles):
    images = made(ensembles["cpu"], "cpu").images[:, 0]
    found = {}
    for device, ensemble in ensembles.items():
        frozen = ensemble.frozen()
        found[device] = ControlContext(
            cnn=frozen,
            ln=frozen,
            units=np.arange(8),
            mei_images=images,
            mei_masks=mask_methods["zscore"](images, frozen.image_mean),
            image_mean=frozen.image_mean,
            image_sd=frozen.image_sd,
            natural=natural_images(60, images.shape[1:], seed=3),
            norm=NORM,
            seed=0,
        )
    return found


@pytest.mark.parametrize("kind", control_kinds)
def test_every_kind_of_control(contexts, kind):
    params = BANK if kind == "gabor" else {}
    one, other = (control_kinds[kind](contexts[d], **params) for d in ("cpu", GPU))
    np.testing.assert_allclose(other.activations, one.activations, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", analyses)
def test_every_analysis(contexts, ensembles, data, name):
    found = []
    for device in ("cpu", GPU):
        stimuli = contexts[device]
        starts = np.stack([stimuli.mei_images, stimuli.mei_images[:, ::-1]], axis=1)
        test = data.trials("test")
        shown, index = np.unique(data.image_index[test], return_inverse=True)
        responses = np.stack([data.responses[test][index == i].mean(0) for i in range(len(shown))])
        context = AnalysisContext(
            stimuli,
            starts,
            data.images[shown],
            responses,
            ensembles[device],
        )
        found.append(analyses[name](context).units)
    assert found[1].keys() == found[0].keys()
    for quantity, values in found[0].items():
        np.testing.assert_allclose(
            found[1][quantity], values, rtol=2e-2, atol=1e-2, err_msg=quantity
        )


def test_correlations_of_frames():
    rng = np.random.default_rng(0)
    template = rng.normal(size=(48, 64)).astype(np.float32)
    frames = template + rng.normal(size=(9, 48, 64)).astype(np.float32)
    correlator = Correlator(template, mean_power(frames), max_shift=8, smooth_px=0.5)
    correlator.on_device = None
    expected = correlator.surface(frames)
    found = DeviceSurface(correlator, torch.device(GPU))(frames)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
