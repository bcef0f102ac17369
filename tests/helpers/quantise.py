"""Slow, obvious twin of routegraph.validate.quantise: one group at a time, in numpy, and really packed into bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ZERO, INFINITY = np.float16(0), np.float16(np.inf)


def half_above(x: np.float32) -> np.float16:
    """The least float16 that is not below a number."""
    with np.errstate(over="ignore"):
        near = np.float16(x)
    return np.nextafter(near, INFINITY) if np.float32(near) < x else near


@dataclass(frozen=True)
class Group:
    codes: list[int]
    scale: np.float16
    offset: np.float16 | None
    numbers: list[np.float32]
    packed: bytes


def group_of(numbers: np.ndarray, bits: int, symmetric: bool = False) -> Group:
    """One group: its codes, what they stand for, and the bytes that all of it takes."""
    x = [np.float32(one) for one in numbers]
    if symmetric:
        offset, least, top = None, -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1
        scale = half_above(max(abs(one) for one in x) / np.float32(top))
        zero = np.float32(0)
    else:
        least, top = 0, 2**bits - 1
        offset = -half_above(-min(x))
        zero = np.float32(offset)
        scale = half_above((max(x) - zero) / np.float32(top))
    step = np.float32(scale)
    codes = [0 if step == 0 else min(max(round(float((one - zero) / step)), least), top) for one in x]
    found = [np.float32(code) * step + zero for code in codes]
    stream = "".join(format(code - least, f"0{bits}b") for code in codes)
    stream += "0" * (-len(stream) % 8)
    body = bytes(int(stream[k : k + 8], 2) for k in range(0, len(stream), 8))
    beside = scale.tobytes() + (b"" if offset is None else offset.tobytes())
    return Group(codes, scale, offset, found, body + beside)


def axis_of(numbers: np.ndarray, bits: int, size: int, symmetric: bool = False) -> tuple[np.ndarray, bytes]:
    """An axis that is cut into groups, and its bytes."""
    size = size or max(len(numbers), 1)
    groups = [group_of(numbers[k : k + size], bits, symmetric) for k in range(0, len(numbers), size)]
    numbers = np.array([one for group in groups for one in group.numbers], dtype=np.float32)
    return numbers, b"".join(group.packed for group in groups)


def head_of(
    rows: np.ndarray, bits: int, size: int, *, by_channel: bool, full: int, symmetric: bool = False
) -> tuple[np.ndarray, bytes]:
    """Keys or values [n, d] of one head, of which the last `full` rows stay as they are, and their bytes at 16 bits."""
    made, stored = rows.astype(np.float32).copy(), b""
    n = len(rows) - full
    if by_channel:
        for channel in range(rows.shape[1] if n else 0):
            made[:n, channel], more = axis_of(rows[:n, channel], bits, size, symmetric)
            stored += more
    else:
        for row in range(n):
            made[row], more = axis_of(rows[row], bits, size, symmetric)
            stored += more
    return made, stored + rows[n:].astype(np.float16).tobytes()


def published(x: np.ndarray, bits: int) -> np.ndarray:
    """One group by KIVI's formula, which is quanto's MaxOptimizer's, too; scale and least in float32."""
    x = x.astype(np.float32)
    least, top = x.min(), np.float32(2**bits - 1)
    scale = (x.max() - least) / top
    if scale == 0:
        return x
    return np.round(np.clip((x - least) / scale, 0, top)) * scale + least


def svdq_of(rows: np.ndarray, schedule: tuple[int, ...], size: int, full: int) -> tuple[np.ndarray, bytes]:
    """Keys [n, d] of one head without positions, in the basis of numpy's singular vectors, and their bytes."""
    n, d = len(rows) - full, rows.shape[1]
    kept = rows.astype(np.float32).copy()
    if not n:
        return kept, rows.astype(np.float16).tobytes()
    x = rows[:n].astype(float)
    mean = x.mean(axis=0).astype(np.float16)
    _, _, right = np.linalg.svd(x - mean.astype(float), full_matrices=True)
    bits = [schedule[c * len(schedule) // d] for c in range(d)]
    made, stored = np.tile(mean.astype(float), (n, 1)), mean.tobytes()
    for vector, b in zip(right, bits, strict=True):
        if not b:
            continue
        sign = np.sign(vector[np.argmax(np.abs(vector))])
        vector = (sign * vector).astype(np.float16)
        latent = ((x - mean.astype(float)) @ vector.astype(float)).astype(np.float32)
        if b == 16:
            read, packed = latent.astype(np.float16), latent.astype(np.float16).tobytes()
        else:
            read, packed = axis_of(latent, b, size)
        made += read.astype(float)[:, None] * vector.astype(float)
        stored += vector.tobytes() + packed
    kept[:n] = made
    return kept, stored + rows[n:].astype(np.float16).tobytes()


def rotated(keys: np.ndarray, positions: np.ndarray, base: float = 10_000.0) -> np.ndarray:
    """Keys [n, d] turned to their positions, pair by pair."""
    d = keys.shape[1]
    made = keys.astype(float).copy()
    for row, position in enumerate(positions):
        for c in range(d // 2):
            angle = position * base ** (-2 * c / d)
            one, two = keys[row, c], keys[row, c + d // 2]
            made[row, c] = one * np.cos(angle) - two * np.sin(angle)
            made[row, c + d // 2] = two * np.cos(angle) + one * np.sin(angle)
    return made
