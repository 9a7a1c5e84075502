"""Files as inputs of a network: arrays (.npy, .npz) and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError, did_you_mean, spell_list
from compactir.ir.types import Array
from compactir.runtime.manifest import Tensor
from compactir.tools import terminal
from compactir.tools.arrays import ENDINGS, load_arrays


@dataclass(frozen=True)
class Normalization:
    """y = (x - mean) / std per channel, on an image of 0…1."""

    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Errors: CIR668 for a deviation of 0."""
        if any(number == 0 for number in self.std):
            raise CompactError("CIR668", "--std must not be 0", help="give the deviation of each channel")

    def __call__(self, image: Array) -> Array:
        """Apply it to (C, H, W). Errors: CIR668 where the numbers do not match the channels."""
        for numbers, what in ((self.mean, "mean"), (self.std, "std")):
            if numbers and len(numbers) not in (1, image.shape[0]):
                raise CompactError(
                    "CIR668",
                    f"--{what} has {len(numbers)} numbers, the input has {image.shape[0]} channels",
                    help="give one number, or one per channel",
                )
        mean = np.asarray(self.mean or [0.0], np.float32)[:, None, None]
        std = np.asarray(self.std or [1.0], np.float32)[:, None, None]
        return ((image - mean) / std).astype(np.float32)


def check_there(path: Path) -> None:
    """Errors: CIR666 for a file that does not exist."""
    if not path.exists():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        there = [name for name in there if name.endswith(path.suffix)]
        raise CompactError("CIR666", f"there is no file `{path}`", help=did_you_mean(path.name, there))


def read_input(path: Path, tensor: Tensor, normalize: Normalization) -> Array:
    """A file as one or more batches of an input: (N·k, …) float32.

    Errors: CIR666 for a file that cannot be read or does not hold what its name says, CIR667 for a shape that
    does not fit, CIR668.
    """
    check_there(path)
    if path.suffix.lower() in ENDINGS:
        return _fit(_array(path, tensor), path, tensor)
    return normalize(_image(path, tensor))[None]


def _array(path: Path, tensor: Tensor) -> Array:
    arrays = load_arrays(path)
    return arrays[_member(path, list(arrays), tensor)]


def _member(path: Path, names: list[str], tensor: Tensor) -> str:
    """Which array of an archive feeds the input: the one of its name, or the only one."""
    if tensor.name in names:
        return tensor.name
    if len(names) == 1:
        return names[0]
    raise CompactError(
        "CIR666",
        f"`{path}` holds no array named `{tensor.name}`",
        help=f"it holds {spell_list([f'`{name}`' for name in names], limit=8)}" if names else "it is empty",
    )


def _fit(array: Array, path: Path, tensor: Tensor) -> Array:
    """The array as float32 batches of the input."""
    if array.dtype.kind not in "fiub":
        raise CompactError("CIR667", f"`{path}` holds {array.dtype}, the input `{tensor.name}` takes numbers")
    item = tensor.shape[1:]
    if array.shape == item:
        array = array[None]
    if array.shape[1:] != item or array.shape[0] % tensor.shape[0] or not array.size:
        raise CompactError(
            "CIR667",
            f"`{path}` has shape {list(array.shape)}, the input `{tensor.name}` takes {list(tensor.shape)}",
            help=_how_to_fit(array.shape, tensor),
        )
    return np.ascontiguousarray(array, np.float32)


def _how_to_fit(found: tuple[int, ...], tensor: Tensor) -> str | None:
    batch, *item = tensor.shape
    if 0 in found:
        return "there is nothing in it"
    if len(item) == 3 and found[-3:] == (*item[1:], item[0]):
        return "the channels come first here: transpose it before it is saved"
    if list(found[1:]) == item:
        return f"the network takes {batch} at once: give a multiple of {batch}, or compile with `--batch 1`"
    if found and np.prod(found) % np.prod(item) == 0 and np.prod(found):
        return f"the number of elements fits: reshape it to {[int(np.prod(found) // np.prod(item)), *item]}"
    return None


def _image(path: Path, tensor: Tensor) -> Array:
    """An image as (C, H, W) of 0…1, resized to the input where it has another size."""
    if len(tensor.shape) != 4 or tensor.shape[1] not in (1, 3, 4):
        raise CompactError(
            "CIR667",
            f"an image does not fit the input `{tensor.name}` of shape {list(tensor.shape)}",
            help="give a .npy file",
        )
    try:
        from PIL import Image
    except ImportError:
        raise CompactError(
            "CIR669", "reading images needs the package pillow", help='`pip install "compactir[image]"`'
        ) from None
    _, channels, height, width = tensor.shape
    try:
        with Image.open(path) as opened:
            opened.load()
            picture = _eight_bits(opened).convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    except Exception as error:  # pillow's plugins raise many things on a damaged file
        raise CompactError(
            "CIR666",
            f"`{path}` cannot be read as an image",
            notes=[_reason(error)],
            help="inputs are images that pillow reads, such as PNG and JPEG, or .npy and .npz files",
        ) from None
    if picture.size != (width, height):
        terminal.note(
            f"note: {path.name} is resized from {picture.width}×{picture.height} to {width}×{height}"
        )
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float32).reshape(height, width, channels) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(image: Any) -> Any:
    """16-bit grey images scaled down; pillow's own conversion clips them."""
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    values = np.asarray(image, np.float64)
    return Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8))


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (said or type(error).__name__).splitlines()[0].lower()
