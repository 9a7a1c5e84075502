"""The file of packed weights: checked as a whole when read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compactir.diagnostics import CompactError
from compactir.files import put
from compactir.weights.container import HEADER_BYTES, Header, pack, read_container

ID = bytes(range(100, 116))
PAYLOAD = np.arange(37, dtype=np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.weights"
    return put(path, pack(PAYLOAD, ID))


def test_the_layout_is_fixed() -> None:
    """Generated C reads these offsets."""
    header = pack(PAYLOAD, ID)[:HEADER_BYTES]
    assert header[:4] == b"CIRW"
    assert header[4:16] == bytes([1, 0, 0, 0, 4, 3, 2, 1, 64, 0, 0, 0])
    assert header[16:24] == (37 * 4).to_bytes(8, "little")
    assert header[24:40] == ID
    assert header[40:] == bytes(24)


def test_there_and_back(file: Path) -> None:
    header, payload = read_container(file, ID)
    assert header == Header(PAYLOAD.nbytes, ID)
    np.testing.assert_array_equal(payload, PAYLOAD)
    assert not payload.flags.writeable
    assert len(file.read_bytes()) == HEADER_BYTES + PAYLOAD.nbytes


def test_no_weights_at_all(tmp_path: Path) -> None:
    put(tmp_path / "empty", pack(np.empty(0, np.float32), ID))
    header, payload = read_container(tmp_path / "empty")
    assert (header.payload_bytes, payload.size) == (0, 0)


def test_big_endian(tmp_path: Path) -> None:
    put(tmp_path / "big", pack(PAYLOAD.astype(">f4"), ID))
    header, payload = read_container(tmp_path / "big", ID)
    assert header.big_endian
    np.testing.assert_array_equal(payload, PAYLOAD)


def error_of(call: Callable[[], object]) -> CompactError:
    with pytest.raises(CompactError) as caught:
        call()
    assert caught.value.help
    return caught.value


@pytest.mark.parametrize(
    ("change", "code", "problem"),
    [
        (lambda data: b"", "CIR619", "does not begin like"),
        (lambda data: b"PK\3\4" + data[4:], "CIR619", "does not begin like"),
        (lambda data: data[:40], "CIR618", "its header alone has 64"),
        (lambda data: data[:-1], "CIR618", "truncated"),
        (lambda data: data + b"\0", "CIR618", "too long"),
        (lambda data: data[:4] + b"\2" + data[5:], "CIR613", "format 2"),
        (lambda data: data[:4] + b"\0" + data[5:], "CIR619", "damaged header"),
        (lambda data: data[:8] + b"\7" + data[9:], "CIR619", "damaged header"),
        (lambda data: data[:12] + b"\7" + data[13:], "CIR619", "damaged header"),
        (lambda data: data[:16] + b"\1" + data[17:], "CIR619", "damaged header"),
        (lambda data: data[:24] + b"\1" + data[25:], "CIR619", "for another network"),
    ],
)
def test_damage(file: Path, change: Callable[[bytes], bytes], code: str, problem: str) -> None:
    file.write_bytes(change(file.read_bytes()))
    error = error_of(lambda: read_container(file, ID))
    assert error.code == code
    assert problem in error.message


def test_not_there(tmp_path: Path) -> None:
    assert error_of(lambda: read_container(tmp_path / "none")).code == "CIR617"
    assert error_of(lambda: read_container(tmp_path)).code == "CIR617"


def test_a_content_id_has_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        pack(PAYLOAD, b"short")
