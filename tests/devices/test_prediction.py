# SPDX-License-Identifier: Apache-2.0
"""Whether a model fits, and the calculated latency."""

from __future__ import annotations

import pytest

from edge8.converter.devices import device_names, load_device
from edge8.converter.errors import ConvertError
from edge8.converter.prediction import Work, check_fit, device_warnings, predict

CONV = Work("Conv2D", "features.0", 300_000_000, True, 3_000_000, 2_000_000)
FLOAT_CONV = Work("Conv2D", "features.1", 300_000_000, False, 3_000_000, 2_000_000)
SMALL = Work("Softmax", "probabilities", 1000, False, 0, 8000)


def test_fit_says_how_much_is_used() -> None:
    assert "33 % of the free flash" in check_fit(load_device("cortex-m4"), model_bytes=300_000, arena_bytes=100_000)
    assert "% of the free RAM" in check_fit(load_device("raspberry-pi-4"), model_bytes=300_000, arena_bytes=100_000)


def test_exactly_full_fits_and_one_byte_more_does_not() -> None:
    device = load_device("cortex-m7")
    room = device.memory.ram - device.memory.reserved
    check_fit(device, model_bytes=1000, arena_bytes=room)
    with pytest.raises(ConvertError, match=r"arena needs .* 1 B too much"):
        check_fit(device, model_bytes=1000, arena_bytes=room + 1)


def test_model_too_large_for_flash_names_bits_that_fit() -> None:
    with pytest.raises(
        ConvertError, match=r"the model needs 1\.4 MiB.*weights of at most 4 bits would fit.*it fits on cortex-m55, cortex-m7"
    ):
        check_fit(load_device("cortex-m4"), model_bytes=1_500_000, arena_bytes=1000)


def test_arena_too_large_names_a_smaller_input() -> None:
    with pytest.raises(ConvertError, match="an input picture of about 50 % of the width and height would fit"):
        check_fit(load_device("cortex-m4"), model_bytes=1000, arena_bytes=4 * 240 * 1024)


def test_linux_counts_model_and_arena_together() -> None:
    device = load_device("raspberry-pi-zero-2")
    room = device.memory.ram - device.memory.reserved
    with pytest.raises(ConvertError, match="model and arena"):
        check_fit(device, model_bytes=room // 2 + 1, arena_bytes=room // 2 + 1)


@pytest.mark.parametrize("name", [n for n in device_names() if load_device(n).clusters])
def test_prediction_says_that_it_is_one(name: str) -> None:
    prediction = predict(load_device(name), [CONV, SMALL])
    assert 0 < prediction.limit_milliseconds < prediction.milliseconds
    assert "predicted" in prediction.text
    assert "not measured" in prediction.text
    assert sum(ms for _, ms in prediction.operators) == pytest.approx(prediction.milliseconds)


def test_limit_is_the_arithmetic_of_the_profile() -> None:
    # Cortex-A72 at 1.5 GHz, 8 int8 MACs a cycle: 300 M / 12 G = 25 ms.
    assert predict(load_device("raspberry-pi-4"), [CONV]).limit_milliseconds == pytest.approx(25.0)


def test_more_threads_and_faster_cores_are_faster() -> None:
    pi4, pi5 = load_device("raspberry-pi-4"), load_device("raspberry-pi-5")
    assert predict(pi4, [CONV], threads=4).milliseconds < predict(pi4, [CONV]).milliseconds
    assert predict(pi5, [CONV]).milliseconds < predict(pi4, [CONV]).milliseconds


def test_weights_beyond_the_cache_are_bounded_by_memory() -> None:
    device = load_device("raspberry-pi-3")
    big = Work("FullyConnected", "head", 10_000_000, True, 10_000_000, 20_000)
    assert predict(device, [big]).milliseconds == pytest.approx(1e3 * 10_020_000 / (3.6e9 * 0.4), rel=0.01)


def test_too_many_threads_and_no_cpu_are_refused() -> None:
    with pytest.raises(ConvertError, match="5 threads, but Raspberry Pi 4 Model B has 4 cores"):
        predict(load_device("raspberry-pi-4"), [CONV], threads=5)
    with pytest.raises(ConvertError, match="no CPU that runs edge8"):
        predict(load_device("atlas-300i"), [CONV])


def test_float_layers_are_warned_of_where_they_are_slow() -> None:
    [text] = device_warnings(load_device("beaglebone-black"), [CONV, FLOAT_CONV])
    assert "features.1" in text
    assert "fused multiply-add" in text
    assert device_warnings(load_device("raspberry-pi-5"), [CONV, SMALL]) == []


def test_int16_takes_two_int8_multiply_accumulates_each() -> None:
    wide = Work("Conv2D", "features.0", 300_000_000, False, 3_000_000, 2_000_000, int16=True)
    device = load_device("raspberry-pi-4")
    assert predict(device, [wide]).limit_milliseconds == pytest.approx(2 * predict(device, [CONV]).limit_milliseconds)
    assert device_warnings(device, [wide]) == []
