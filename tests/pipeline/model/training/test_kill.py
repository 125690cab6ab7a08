"""Training killed with -9 at moments that nobody chose, five times over."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import torch

from pipeline import model
from pipeline.dataset import load

EPOCHS = 6

SCRIPT = textwrap.dedent(
    """
    import json, os, random, select, signal, sys, time
    import torch
    from pipeline import dataset, model

    data_file, folder, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)  # processes are forked, threads are not
    data = dataset.load(data_file)
    config = {"core": {"channels": 6, "hidden_kernels": [3]}, "training": {"batch_size": 32}}

    def train(checkpoint, tell=None):
        encoder = model.build_encoder(config, data, 0)
        said = None if tell is None else lambda epoch, info: os.write(tell, bytes([epoch]))
        model.train(encoder, data, seed=0, max_epochs=epochs, checkpoint=checkpoint, progress=said)
        return encoder

    def start(checkpoint, target):
        '''Train in a process of its own, which writes a byte after every epoch.'''
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            model.save_encoder(train(checkpoint, write), target)
            os._exit(0)
        os.close(write)
        return child, read

    def finish(checkpoint, target):
        child, read = start(checkpoint, target)
        first = os.read(read, 1)
        assert os.waitpid(child, 0)[1] == 0
        return first[0] if first else None

    train(f"{folder}/first.ckpt")  # what torch prepares once, all children inherit
    began = time.monotonic()
    finish(f"{folder}/whole.ckpt", f"{folder}/whole.safetensors")
    epoch_s = (time.monotonic() - began) / (epochs + 1)
    story = []
    for run in range(5):
        dice = random.Random(run)
        checkpoint, target = f"{folder}/{run}.ckpt", f"{folder}/{run}.safetensors"
        child, read = start(checkpoint, target)
        after, seen = dice.randint(1, epochs - 1), 0
        while seen < after and select.select([read], [], [], 60)[0]:
            seen = os.read(read, 1)[0]
        time.sleep(dice.uniform(0, epoch_s))  # anywhere in the next epoch, its checkpoint included
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        story.append([killed, seen, finish(checkpoint, target)])
    print(json.dumps(story))
    """
)


def test_killed_five_times_at_random_it_ends_with_the_weights_of_the_undisturbed_run(
    tiny, tmp_path
):
    tiny.save(tmp_path / "data.npz")
    arguments = [sys.executable, "-c", SCRIPT, tmp_path / "data.npz", tmp_path, str(EPOCHS)]
    done = subprocess.run(
        arguments,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    assert len(story) == 5
    for killed, seen, resumed_at in story:
        assert killed
        assert 1 <= seen < EPOCHS
        # the first epoch after the kill follows the last one kept, and none is done twice;
        # None: the kill came after the last checkpoint, and nothing was left to do
        assert resumed_at is None or seen < resumed_at <= EPOCHS
    assert any(resumed_at is not None for *_, resumed_at in story)
    whole = model.load_encoder(tmp_path / "whole.safetensors")
    images = load(tmp_path / "data.npz").images[:20]
    for run in range(5):
        again = model.load_encoder(tmp_path / f"{run}.safetensors")
        for name, tensor in whole.state_dict().items():
            torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)
        np.testing.assert_array_equal(again.predict(images), whole.predict(images))
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert len(left) <= 5  # a write that the kill cut short leaves at most a hidden file
