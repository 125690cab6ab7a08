import hashlib

import cv2
import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.stimulus import image_hash, load_images, read_png, to_model, write_png


def test_hash_is_sha256_of_size_and_pixels_in_reading_order():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    expected = hashlib.sha256(b"2x3:" + bytes(range(6))).hexdigest()
    assert image_hash(image) == expected
    assert image_hash(np.asfortranarray(image)) == expected
    assert image_hash(image.reshape(3, 2)) != expected


def test_png_is_lossless_and_read_by_another_decoder(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 16), np.uint8)
    write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), image)


def test_gray_stored_as_color_is_read_but_color_and_16_bit_are_refused(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (9, 16), np.uint8)
    grey, colour = np.repeat(image[..., None], 3, 2), np.stack([image, image, 255 - image], 2)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "colour.png"), colour)
    cv2.imwrite(str(tmp_path / "deep.png"), image.astype(np.uint16) * 256)
    np.testing.assert_array_equal(read_png(tmp_path / "grey.png"), image)
    with pytest.raises(DataError, match="colored"):
        read_png(tmp_path / "colour.png")
    with pytest.raises(DataError, match="bit depth"):
        read_png(tmp_path / "deep.png")


def test_images_load_from_a_folder_or_npz_in_order(tmp_path):
    images = np.random.default_rng(2).integers(0, 256, (3, 9, 16), np.uint8)
    for name, image in zip(["b", "c", "a"], images, strict=True):
        write_png(tmp_path / f"{name}.png", image)
    names, loaded = load_images(tmp_path)
    assert names == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(loaded, images[[2, 0, 1]])
    np.savez(tmp_path / "set.npz", names=np.array(["z", "y", "x"]), images=images)
    names, loaded = load_images(tmp_path / "set.npz")
    assert names == ["z", "y", "x"]
    np.testing.assert_array_equal(loaded, images)


def test_images_of_two_sizes_are_refused_with_the_file(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((9, 16), np.uint8))
    write_png(tmp_path / "b.png", np.zeros((18, 32), np.uint8))
    with pytest.raises(DataError, match=r"b\.png.*differ in size"):
        load_images(tmp_path)


def test_model_pixels_are_block_means_and_never_transposed():
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (2, 36, 64)).astype(np.uint8)
    np.testing.assert_array_equal(to_model(np.kron(small, np.ones((1, 4, 4), np.uint8))), small)
    large = rng.integers(0, 256, (2, 144, 256)).astype(np.uint8)
    model = to_model(large)
    assert model.dtype == np.float32
    assert model[1, 5, 60] == large[1, 20:24, 240:244].mean()
    np.testing.assert_array_equal(to_model(small), small)


def test_fractional_factors_average_by_overlap_as_opencv_does():
    large = np.random.default_rng(4).uniform(0, 255, (1, 90, 160)).astype(np.float32)
    expected = cv2.resize(large[0], (64, 36), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(to_model(large)[0], expected, atol=0.01)


def test_another_aspect_is_refused():
    with pytest.raises(DataError, match="aspect"):
        to_model(np.zeros((1, 64, 36), np.uint8))
