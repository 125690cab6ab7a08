import csv
import json

import cv2
import numpy as np
import pytest

from pipeline.simulate import Mouse, natural_images
from pipeline.simulate.rig.schedule import content_hash


def small_mouse(**changes):
    options = {"n_cells": 12, "field_px": (72, 96), "eye_px": (90, 120)}
    return Mouse(5, **{**options, **changes})


@pytest.fixture(scope="session")
def mouse():
    return small_mouse()


@pytest.fixture(scope="session")
def images():
    return natural_images(44, (72, 128), seed=2)


@pytest.fixture(scope="session")
def bundle(mouse, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim") / "day1"
    return mouse.record(images, folder, repeated=4, repeats=5, frames_per_file=400)


def write_package(folder, images, order, animal_id=1):
    (folder / "images").mkdir(parents=True)
    names = [content_hash(image) for image in images]
    for name, image in zip(names, images, strict=True):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
    rng = np.random.default_rng(1)
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("trial_idx", "image", "duration_s", "blank_before_s"))
        for trial, i in enumerate(order):
            writer.writerow((trial, names[i], 0.5, round(rng.uniform(0.3, 0.5), 4)))
    manifest = {"format": "inception-package/1", "plan": "0123456789abcdef", "animal_id": animal_id}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder, names


@pytest.fixture(scope="session")
def package(images, tmp_path_factory):
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 8))
    folder, names = write_package(tmp_path_factory.mktemp("sim") / "package", images[:5], order)
    return folder, names, order


@pytest.fixture(scope="session")
def answer(mouse, package, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim") / "day2"
    chances = {"dropped": 0.1, "late": 0.1, "shown_twice": 0.1}
    return mouse.record(package[0], folder, day=2, eye="csv", **chances)


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
