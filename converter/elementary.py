# SPDX-License-Identifier: Apache-2.0
"""Elementary functions in numpy float32: the operations of runtime_c/src/math.h and math.c in the same order, so that the results have
the same bits. Int8 tables are made with them, without the C library.

Every function takes and gives a float32 array of at least one dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "clip",
    "cos",
    "erf",
    "exp",
    "expm1_negative",
    "log",
    "log1p_unit",
    "power",
    "sigmoid",
    "sin",
    "tanh",
]

Array = np.ndarray[Any, Any]
F = np.float32
_MAGIC = F(12582912.0)
_LN2_HIGH, _LN2_LOW = F(0.693359375), F(-2.12194440e-4)


def _floats(*texts: str) -> list[np.float32]:
    return [F(float.fromhex(text)) for text in texts]


def _doubles(*texts: str) -> list[np.float64]:
    return [np.float64(float.fromhex(text)) for text in texts]


_EXP = _floats("0x1.6dbc4ep-10", "0x1.124136p-7", "0x1.555454p-5", "0x1.555488p-3", "0x1p-1")
_LOG = _floats(
    "0x1.146318p-4",
    "-0x1.de4fa2p-4",
    "0x1.e6f606p-4",
    "-0x1.fc1f6cp-4",
    "0x1.2336e2p-3",
    "-0x1.555c5ap-3",
    "0x1.99a4bcp-3",
    "-0x1.000006p-2",
    "0x1.555548p-2",
)
_TANH = _floats("-0x1.825858p-8", "0x1.54b8a0p-6", "-0x1.b898dep-5", "0x1.1109aep-3", "-0x1.55553ep-2")
_ERF_NEAR = _floats(
    "0x1.6510c4p-14", "-0x1.aca394p-11", "0x1.550a44p-8", "-0x1.b81524p-6", "0x1.ce2e54p-4", "-0x1.812744p-2", "0x1.06eba8p-3"
)
_ERF_FAR = _floats(
    "-0x1.5a1940p-16",
    "0x1.c1ed38p-12",
    "-0x1.0fa684p-8",
    "0x1.9a7020p-6",
    "-0x1.bb1598p-4",
    "-0x1.445284p-1",
    "-0x1.2124d2p+0",
    "0x1.5a0b34p-13",
)
_ATANH = _doubles(
    "0x1.5889bf12fb737p-3",
    "0x1.732ab1b421444p-3",
    "0x1.c722830250ec9p-3",
    "0x1.249241653d7a2p-2",
    "0x1.999999a2ae5e9p-2",
    "0x1.5555555553906p-1",
)
_EXP2 = _doubles(
    "0x1.00f134bc1a9b0p-16",
    "0x1.445e6a5281fd8p-13",
    "0x1.5d8723a718aeap-10",
    "0x1.3b29f0fe53c20p-7",
    "0x1.c6b08df45e503p-5",
    "0x1.ebfbe07ab7f4ap-3",
    "0x1.62e42fef7b64fp-1",
)
_COS = _doubles(
    "-0x1.23d8153c87d79p-22", "0x1.a00f11ee32ee8p-16", "-0x1.6c16b4010ca8dp-10", "0x1.55555546f54edp-5", "-0x1.ffffffffebfd7p-2"
)
_SIN = _doubles("0x1.6cd87a3e1fff4p-19", "-0x1.a00f9e32c607ep-13", "0x1.11110896f71dcp-7", "-0x1.5555554cbad14p-3")
_HALF_PI = _doubles("0x1.921fb54400000p+0", "0x1.0b4611a600000p-34", "0x1.3198a2e037073p-69")
_TWO_OVER_PI_BITS = 256
_TWO_OVER_PI = int("A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561", 16)


def _horner(coefficients: Sequence[Any], x: Array) -> Any:
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * x + c
    return p


def _bits(x: Array) -> Array:
    return np.ascontiguousarray(x, F).view(np.uint32)


def _float_of(bits: Array) -> Array:
    return np.ascontiguousarray(bits, np.uint32).view(F)


def _power_of_two(n: Array) -> Array:
    return _float_of((n + np.uint32(127)) << np.uint32(23))


def clip(x: Array, low: Any, high: Any) -> Array:
    """``low > x ? low : x``, then ``high < x ? high : x``: NaN stays NaN."""
    low, high = F(low), F(high)
    x = np.where(low > x, low, x)
    return np.where(high < x, high, x)


def _exp_reduced(x: Array) -> tuple[Array, Array]:
    t = x * F(float.fromhex("0x1.715476p+0")) + _MAGIC
    whole = t - _MAGIC
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    return r + (r * r) * _horner(_EXP, r), _bits(t) - _MAGIC.view(np.uint32)


def exp(x: Array) -> Array:
    """e to the power x."""
    with np.errstate(all="ignore"):
        x = np.where(x < F(-104), F(-104), x)
        x = np.where(x > F(89), F(89), x)
        p, n = _exp_reduced(x)
        half = ((n + np.uint32(256)) >> np.uint32(1)) - np.uint32(128)
        result: Array = (F(1) + p) * _power_of_two(half) * _power_of_two(n - half)
        return result


def expm1_negative(x: Array) -> Array:
    """e to the power x, minus 1, for x <= 0."""
    with np.errstate(all="ignore"):
        x = np.where(x < F(-60), F(-60), x)
        x = np.where(x > F(0), F(0), x)
        p, n = _exp_reduced(x)
        scale = _power_of_two(n)
        return scale * p + (scale - F(1))


def _split_log(x: Array) -> tuple[Array, Array]:
    """Exponent k (int32) and m in [sqrt(1/2), sqrt(2)) of positive finite x."""
    small = x < F(2.0**-126)
    u = _bits(np.where(small, x * F(8388608), x)) + np.uint32(0x3F800000 - 0x3F3504F3)
    k = (u >> np.uint32(23)).astype(np.int32) - 127 - 23 * small.astype(np.int32)
    return k, _float_of((u & np.uint32(0x7FFFFF)) + np.uint32(0x3F3504F3))


def log(x: Array) -> Array:
    """Natural logarithm."""
    with np.errstate(all="ignore"):
        exponent, m = _split_log(x)
        k, f = exponent.astype(F), m - F(1)
        z = f * f
        y = (f * z) * _horner(_LOG, f) + k * _LN2_LOW
        y = (f + (y - F(0.5) * z)) + k * _LN2_HIGH
        y = np.where(x == 0, F(-np.inf), y)
        y = np.where(x < 0, F(np.nan), y)
        return np.where(np.isfinite(x), y, np.where(x > 0, x, F(np.nan)))


def log1p_unit(x: Array) -> Array:
    """log(1 + x) for x in [0, 1]."""
    with np.errstate(all="ignore"):
        u = F(1) + x
        result: Array = log(u) + (x - (u - F(1))) / u
        return result


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    with np.errstate(all="ignore"):
        e = exp(-np.abs(x))
        d = F(1) / (F(1) + e)
        return np.where(x < 0, e * d, d)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    with np.errstate(all="ignore"):
        a = np.abs(x)
        z = a * a
        near = a + (a * z) * _horner(_TANH, z)
        far = F(1) - F(2) / (exp(a + a) + F(1))
        return np.copysign(np.where(a < F(0.6), near, far), x)


def erf(x: Array) -> Array:
    """Error function."""
    with np.errstate(all="ignore"):
        a = np.abs(x)
        near = a + a * _horner(_ERF_NEAR, a * a)
        b = np.where(a > F(4), F(4), a)
        far = F(1) - exp(_horner(_ERF_FAR, b))
        return np.copysign(np.where(a < F(0.9), near, far), x)


def _log2_positive(x: Array) -> Array:
    k, m = _split_log(x)
    wide = m.astype(np.float64)
    s = (wide - 1.0) / (wide + 1.0)
    z = s * s
    result: Array = k.astype(np.float64) + (2.0 * s + (s * z) * _horner(_ATANH, z)) * float.fromhex("0x1.71547652b82fep+0")
    return result


def _exp2_double(t: Array) -> Array:
    magic = 1.5 * 2.0**52
    whole = (t + magic) - magic
    f = t - whole
    scale = ((whole.astype(np.int64) + 1023) << 52).view(np.float64)
    result: Array = ((1.0 + _horner(_EXP2, f) * f) * scale).astype(F)
    return result


def power(x: Array, y: Array) -> Array:
    """x to the power y by the rules of C's pow; y = 2 is x * x."""
    x, y = (np.ascontiguousarray(v, F) for v in np.broadcast_arrays(x, y))
    with np.errstate(all="ignore"):
        a, size = np.abs(x), np.abs(y)
        huge = size >= F(16777216)
        whole = huge | (np.rint(y) == y)
        odd = whole & ~huge & (np.where(huge, F(0), np.where(np.isfinite(size), size, F(0))).astype(np.int64) % 2 == 1)
        sign = np.where(odd & np.signbit(x), F(-1), F(1))
        usual = (a > 0) & np.isfinite(a) & np.isfinite(y)
        t = np.where(usual, y, F(0)).astype(np.float64) * _log2_positive(np.where(usual, a, F(1)))
        result = sign * _exp2_double(np.where(np.abs(t) <= 200.0, t, 0.0))
        result = np.where(t > 200.0, np.copysign(F(np.inf), sign), result)
        result = np.where(t < -200.0, np.copysign(F(0), sign), result)
        result = np.where((x < 0) & ~whole, F(np.nan), result)
        edge = np.copysign(np.where((a > 0) == (y > 0), F(np.inf), F(0)), sign)
        result = np.where((a == 0) | np.isinf(a), edge, result)
        at_infinity = np.where(a == 1, F(1), np.where((a > 1) == (y > 0), F(np.inf), F(0)))
        result = np.where(np.isinf(y), at_infinity, result)
        result = np.where(np.isnan(x) | np.isnan(y), F(np.nan), result)
        result = np.where((y == 0) | (x == 1), F(1), result)
        return np.where(y == 2, x * x, result)


def _reduce_large(a: float) -> tuple[float, int]:
    """|x| = (4 j + quadrant + f) * pi/2; gives f * pi/2 and the quadrant, from the 96 bits of 2/pi that matter."""
    bits = int(np.float32(a).view(np.uint32))
    mantissa, first = (bits & 0x7FFFFF) | 0x800000, (bits >> 23) - 152
    window = (_TWO_OVER_PI >> (_TWO_OVER_PI_BITS - 96 - first)) & ((1 << 96) - 1)
    product = (mantissa * window) & ((1 << 96) - 1)
    fraction, quadrant = (product >> 30) & ((1 << 64) - 1), product >> 94
    up = fraction >> 63
    magnitude = float((1 << 64) - fraction if up else fraction) * 2.0**-64
    return (-magnitude if up else magnitude) * float.fromhex("0x1.921fb54442d18p+0"), quadrant + up


def _sine(x: Array, quarter: int) -> Array:
    with np.errstate(all="ignore"):
        a = np.where(np.isfinite(x), np.abs(x), F(0))
        wide, magic = a.astype(np.float64), 1.5 * 2.0**52
        k = (wide * float.fromhex("0x1.45f306dc9c883p-1") + magic) - magic
        r = ((wide - k * _HALF_PI[0]) - k * _HALF_PI[1]) - k * _HALF_PI[2]
        large = a >= F(1048576)
        quadrant = np.where(large, 0.0, k).astype(np.int64)
        for i in zip(*np.nonzero(large), strict=True):
            r[i], quadrant[i] = _reduce_large(float(a[i]))
        quadrant = quadrant + quarter
        z = r * r
        y = np.where(quadrant & 1, 1.0 + z * _horner(_COS, z), r + (r * z) * _horner(_SIN, z))
        y = np.where(quadrant & 2, -y, y).astype(F)
        return np.where(np.isfinite(x), y, F(np.nan))


def sin(x: Array) -> Array:
    """Sine of x in radians."""
    y = _sine(x, 0)
    return np.where(np.signbit(x), -y, y)


def cos(x: Array) -> Array:
    """Cosine of x in radians."""
    return _sine(x, 1)
