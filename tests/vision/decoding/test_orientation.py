from fractions import Fraction
from itertools import product

import av
import numpy as np
import pytest
import torch

from reelseek.vision.decoding.orientation import (
    display_matrix,
    has_square_pixels,
    is_turned,
    square,
    turn,
)
from reelseek.vision.decoding.pyav_reader import PyAVReader
from tests.conftest import COLOURS
from tests.vision.conftest import set_matrix

RED, GREEN, BLUE = COLOURS.values()
WHITE = (240, 240, 240)

MATRICES = [
    np.array(rows, dtype=np.float64)
    for a, b in product((1, -1), repeat=2)
    for rows in ([[a, 0], [0, b]], [[0, a], [b, 0]])
]
CORNERS = np.zeros((48, 64, 3), np.uint8)  # stored: red and green above blue and white
CORNERS[:24, :32], CORNERS[:24, 32:], CORNERS[24:, :32], CORNERS[24:, 32:] = RED, GREEN, BLUE, WHITE


def name(matrix):
    return " ".join(f"{value:g}" for value in matrix.ravel())


def shown(stored, matrix):
    """The oracle: each pixel `(x, y)` of `(3, H, W)` goes to `(x, y) @ matrix`."""
    height, width = stored.shape[1:]
    points = [(x, y) for y in range(height) for x in range(width)]
    moved = np.array(points) @ matrix
    moved = (moved - moved.min(axis=0)).astype(int)
    result = torch.zeros(3, moved[:, 1].max() + 1, moved[:, 0].max() + 1, dtype=torch.uint8)
    for (x, y), (to_x, to_y) in zip(points, moved, strict=True):
        result[:, to_y, to_x] = stored[:, y, x]
    return result


def upright(stored, *, matrix=None, pixel_aspect=None):
    """As a file's frames are shown."""
    return square(*turn(stored, matrix=matrix, pixel_aspect=pixel_aspect))


def first_frame(path):
    return next(PyAVReader(path).frames([0]))[1]


@pytest.mark.parametrize("matrix", MATRICES, ids=name)
def test_each_pixel_is_where_the_matrix_says(matrix):
    stored = torch.arange(3 * 2 * 5, dtype=torch.uint8).reshape(3, 2, 5)
    turned = upright(stored, matrix=matrix)
    assert torch.equal(turned, shown(stored, matrix))


def test_picture_without_a_matrix_stays_as_it_is():
    stored = torch.arange(3 * 2 * 5, dtype=torch.uint8).reshape(3, 2, 5)
    assert torch.equal(upright(stored), stored)


@pytest.mark.parametrize("degrees", [1, 30, 45, 89, 200])
def test_angle_that_no_camera_is_held_at_is_ignored(degrees):
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stored = torch.arange(3 * 2 * 5, dtype=torch.uint8).reshape(3, 2, 5)
    assert torch.equal(upright(stored, matrix=matrix), stored)


@pytest.mark.parametrize("matrix", [np.zeros((2, 2)), np.ones((2, 2)), np.eye(2) * 3], ids=name)
def test_damaged_matrix_is_ignored(matrix):
    stored = torch.arange(3 * 2 * 5, dtype=torch.uint8).reshape(3, 2, 5)
    assert torch.equal(upright(stored, matrix=matrix), stored)


@pytest.mark.parametrize(
    ("pixel_aspect", "size"),
    [
        (Fraction(4, 3), (48, 85)),
        (Fraction(2), (48, 128)),
        (Fraction(1, 2), (96, 64)),
        (Fraction(8, 9), (54, 64)),
        (Fraction(1), (48, 64)),
        (Fraction(101, 100), (48, 64)),  # almost square
        (Fraction(99, 100), (48, 64)),
        (Fraction(9), (48, 64)),  # damage
        (Fraction(1, 9), (48, 64)),
        (Fraction(0), (48, 64)),
        (None, (48, 64)),
    ],
)
def test_shorter_side_of_a_pixel_is_stretched(pixel_aspect, size):
    stored = torch.from_numpy(CORNERS).permute(2, 0, 1)
    stretched = upright(stored, pixel_aspect=pixel_aspect)
    assert stretched.shape == (3, *size)
    assert stretched.dtype == torch.uint8
    assert stretched[:, [0, 0, -1, -1], [0, -1, 0, -1]].T.tolist() == [
        list(colour) for colour in (RED, GREEN, BLUE, WHITE)
    ]
    assert has_square_pixels(pixel_aspect) == (size == (48, 64))


def test_stored_pixels_are_stretched_before_the_picture_is_turned():
    stored = torch.zeros(3, 48, 64, dtype=torch.uint8)
    quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert upright(stored, matrix=quarter_turn, pixel_aspect=Fraction(2)).shape == (3, 128, 48)


def test_pixels_are_given_as_they_are_with_their_aspect():
    """For those who resize anyway, and need resize only once."""
    stored = torch.zeros(3, 48, 64, dtype=torch.uint8)
    for aspect, quarter_turned in ((Fraction(4, 3), 0.75), (Fraction(1, 2), 2.0), (None, 1.0)):
        pixels, given = turn(stored, matrix=None, pixel_aspect=aspect)
        assert (pixels.shape, given) == ((3, 48, 64), float(aspect or 1))
        pixels, given = turn(stored, matrix=np.eye(2)[::-1], pixel_aspect=aspect)
        assert (pixels.shape, given) == ((3, 64, 48), pytest.approx(quarter_turned))


def test_only_the_identity_does_not_turn():
    assert [is_turned(matrix) for matrix in MATRICES].count(False) == 1
    assert not is_turned(np.eye(2))
    assert not is_turned(None)


@pytest.mark.parametrize("matrix", MATRICES, ids=name)
def test_file_is_shown_as_its_track_header_says(write_pictures, matrix):
    path = write_pictures("a.mp4", [CORNERS] * 3, options={"crf": "10"})
    set_matrix(path, matrix)
    frame = first_frame(path)
    expected = shown(torch.from_numpy(CORNERS).permute(2, 0, 1), matrix)
    assert frame.shape == expected.shape
    assert (frame.float() - expected.float()).abs().mean() < 8  # edges blur


def test_display_matrix_is_the_one_of_the_track_header(write_pictures):
    for matrix in MATRICES:
        path = write_pictures("a.mp4", [CORNERS] * 3)
        set_matrix(path, matrix)
        with av.open(str(path)) as container:
            found = display_matrix(next(container.decode(video=0)))
        np.testing.assert_array_equal(np.eye(2) if found is None else found, matrix)


@pytest.mark.parametrize("file", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize(
    ("pixel_aspect", "size"), [(Fraction(16, 11), (48, 93)), (Fraction(1, 2), (96, 64))]
)
def test_file_has_square_pixels(write_pictures, file, pixel_aspect, size):
    path = write_pictures(file, [CORNERS] * 3, options={"crf": "10"}, pixel_aspect=pixel_aspect)
    frame = first_frame(path)
    assert frame.shape == (3, *size)
    corners = frame[:, [2, 2, -3, -3], [2, -3, 2, -3]].T
    np.testing.assert_allclose(corners, [RED, GREEN, BLUE, WHITE], atol=12)
