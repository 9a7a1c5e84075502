"""Real handwritten digits for LeNet-5: scikit-learn's 1,797 of 8x8, resized to 32x32, split 1,437 / 360.

    python -m examples.prepare_digits      writes examples/data/digits_test.npz, the held-out 360

The images are the test set of the UCI collection "Optical Recognition of Handwritten Digits" (13 writers),
which scikit-learn bundles. It does not say who wrote which digit, so the same writers stand on both sides of
the split: the held-out accuracy says how well these writers' other digits are read, not how well a stranger's
would be.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TEST_FILE = Path(__file__).parent / "data" / "digits_test.npz"
BITMAPS_FILE = Path(__file__).parent / "data" / "rbf_bitmaps.txt"
TEST_COUNT = 360
SPLIT_SEED = 0

BACKGROUND, INK = -0.1, 1.175
"""LeCun et al. 1998, section II.B: so scaled, the mean of an input is about 0 and its variance about 1."""

SOURCE = (
    'UCI Machine Learning Repository, "Optical Recognition of Handwritten Digits", '
    "E. Alpaydin and C. Kaynak 1998, doi:10.24432/C50P49, "
    "its test set as bundled with scikit-learn (sklearn.datasets.load_digits). "
    "Changed: resized from 8x8 to 32x32 by bilinear interpolation, 360 of 1,797 images chosen at random. "
    "The same 13 writers wrote the training images and these."
)
LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Digits(NamedTuple):
    """Images (N, 32, 32), 0 background to 255 ink; labels (N,), 0 to 9. `to_inputs` makes network inputs."""

    images: Pixels
    labels: Pixels


def resize_matrix(small: int = 8, big: int = 32) -> npt.NDArray[np.float64]:
    """Bilinear interpolation of a line as a (big, small) matrix; pixel centers at half, borders repeated."""
    position = np.clip((np.arange(big) + 0.5) * small / big - 0.5, 0, small - 1)
    left = np.minimum(position.astype(int), small - 2)
    matrix = np.zeros((big, small))
    matrix[np.arange(big), left] = 1 - (position - left)
    matrix[np.arange(big), left + 1] = position - left
    return matrix


def enlarge(images: npt.NDArray[np.float64]) -> Pixels:
    """(N, 8, 8) of 0 to 16 -> (N, 32, 32) of 0 (background) to 255 (ink), as in an image file."""
    matrix = resize_matrix()
    return np.rint(matrix @ (images * (255 / 16)) @ matrix.T).astype(np.uint8)


def to_inputs(pixels: Pixels) -> Array:
    """(N, 32, 32) of 0 to 255 -> (N, 1, 32, 32) float32 from -0.1 to 1.175: what LeNet-5 reads."""
    inputs: Array = (BACKGROUND + (INK - BACKGROUND) / 255 * pixels[:, None]).astype(np.float32)
    return inputs


def held_out(labels: Pixels, count: int = TEST_COUNT, seed: int = SPLIT_SEED) -> npt.NDArray[np.bool_]:
    """Which digits are kept for testing: `count` in all, each class in its share (largest remainders)."""
    rng = np.random.default_rng(seed)
    sizes = np.bincount(labels)
    exact = sizes * count / len(labels)
    share = np.floor(exact).astype(int)
    share[np.argsort(share - exact, kind="stable")[: count - share.sum()]] += 1
    chosen = np.zeros(len(labels), bool)
    for digit, n in enumerate(share):
        chosen[rng.permutation(np.flatnonzero(labels == digit))[:n]] = True
    return chosen


def read_digits() -> tuple[Digits, Digits]:
    """Training and held-out digits, from scikit-learn's copy."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, labels = enlarge(bunch.images), bunch.target.astype(np.uint8)
    test = held_out(labels)
    return Digits(pixels[~test], labels[~test]), Digits(pixels[test], labels[test])


def read_held_out(path: Path = TEST_FILE) -> Digits:
    """The held-out digits, from the committed file: needs neither scikit-learn nor the other digits."""
    with np.load(path) as file:
        return Digits(file["images"], file["labels"])


def read_bitmaps(path: Path = BITMAPS_FILE) -> Array:
    """The output layer's fixed patterns, (10, 84) of +1 and -1: 12 rows of 7 for each digit."""
    rows = [line for line in path.read_text().splitlines() if line and set(line) <= set("#.")]
    ink = np.array([list(row) for row in rows]) == "#"
    return np.where(ink, np.float32(1), np.float32(-1)).reshape(10, 84)


def main() -> None:
    """Write the held-out digits."""
    _, test = read_digits()
    np.savez_compressed(TEST_FILE, images=test.images, labels=test.labels, source=SOURCE, licence=LICENCE)
    counts = " ".join(map(str, np.bincount(test.labels)))
    size = TEST_FILE.stat().st_size / 1024
    print(f"{TEST_FILE}: {len(test.labels)} digits ({counts} of 0 to 9), {size:.0f} KB")


if __name__ == "__main__":
    main()
