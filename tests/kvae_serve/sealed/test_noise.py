"""Noise against an independent Philox, the published vectors, and itself in parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.sealed import noise

MASK = 2**64 - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 by the words of the paper: each round multiplies, splits and swaps; the key grows by Weyl steps."""
    x, k = list(counter), list(key)
    for round_number in range(10):
        if round_number:
            k = [(k[0] + 0x9E3779B97F4A7C15) % 2**64, (k[1] + 0xBB67AE8584CAA73B) % 2**64]
        product_0, product_1 = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [
            (product_1 // 2**64) ^ x[1] ^ k[0],
            product_1 % 2**64,
            (product_0 // 2**64) ^ x[3] ^ k[1],
            product_0 % 2**64,
        ]
    return x


# Random123 1.14, tests/kat_vectors, lines "philox4x64 10".
VECTORS = [
    (
        [0, 0, 0, 0],
        [0, 0],
        [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B],
    ),
    (
        [MASK] * 4,
        [MASK] * 2,
        [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0],
    ),
    (
        [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6C],
        [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_reference_philox_matches_published_vectors(counter, key, expected):
    assert philox(counter, key) == expected


@pytest.mark.parametrize("num", [1, 5, 400])  # The last takes numpy's Philox, the others plain integers.
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (2**64 - 1, 3), (12345, 1)])
@pytest.mark.parametrize("start", [0, 7, 2**62])
@pytest.mark.parametrize("words_per_sample", [1, 4, 17])
def test_words_match_the_reference_at_the_counter_of_the_sample(num, seed, stream, start, words_per_sample):
    found = noise.words(seed, stream, start, num, words_per_sample)
    assert found.dtype == np.uint64
    assert found.shape == (num, words_per_sample)
    blocks = math.ceil(words_per_sample / 4)
    for row in {0, num - 1}:
        expected = []
        for block in range(blocks):
            counter = (start + row) * blocks + block + 1  # numpy steps before it makes a block.
            expected += philox([counter & MASK, counter >> 64, 0, 0], [seed, stream])
        assert found[row].tolist() == expected[:words_per_sample]


def test_words_match_the_key_and_counter_of_the_format():
    raw = np.random.Philox(key=99 + (2 << 64), counter=5 * 3).random_raw(5 * 12).reshape(5, 12)
    assert (noise.words(99, 2, 5, 5, 11) == raw[:, :11]).all()


@pytest.mark.parametrize("dim", [1, 2, 15, 16])
def test_parts_equal_the_whole(dim):
    z, component = noise.latent_noise(3, 0, 301, dim)
    pieces = [noise.latent_noise(3, start, num, dim) for start, num in ((0, 1), (1, 7), (8, 200), (208, 93))]
    assert np.concatenate([piece[0] for piece in pieces]).tobytes() == z.tobytes()
    assert np.concatenate([piece[1] for piece in pieces]).tobytes() == component.tobytes()


def test_normals_match_box_muller():
    dim = 5
    raw = noise.words(8, 1, 4, 3, 6)
    found = noise.normals(8, 1, 4, 3, dim)
    assert found.dtype == np.float32
    for row in range(3):
        u = [(int(word) >> 11) * 2.0**-53 for word in raw[row]]
        radius = [math.sqrt(-2 * math.log(1 - each)) for each in u[:3]]
        turned = [r * math.cos(2 * math.pi * each) for r, each in zip(radius, u[3:], strict=True)]
        turned += [r * math.sin(2 * math.pi * each) for r, each in zip(radius, u[3:], strict=True)]
        np.testing.assert_allclose(found[row], np.array(turned[:dim], np.float32), rtol=3e-7)


def test_latent_noise_uses_the_words_of_its_normals_and_one_more():
    z, component = noise.latent_noise(11, 2, 4, 7)
    raw = noise.words(11, noise.STREAM_Z, 2, 4, 9)
    assert (component == (raw[:, 8] >> np.uint64(11)) * 2.0**-53).all()
    assert (z == noise.words_to_normals(raw[:, :8], 7)).all()


def test_normals_and_uniforms_have_the_expected_moments():
    z = noise.normals(0, 0, 0, 50_000, 4).astype(np.float64)
    u = noise.uniforms(0, 1, 0, 50_000, 4)
    for values, moments in ((z, (0, 1, 0, 3)), (u - 0.5, (0, 1 / 12, 0, 1 / 80))):
        for power, moment in enumerate(moments, 1):
            error = (values**power).std() / math.sqrt(values.size)
            assert abs((values**power).mean() - moment) < 5 * error
    assert np.abs(np.corrcoef(z.T) - np.eye(4)).max() < 0.025
    assert u.min() >= 0
    assert u.max() < 1


def test_streams_and_seeds_differ():
    kinds = [noise.words(seed, stream, 0, 4, 4).tobytes() for seed in (0, 1) for stream in range(4)]
    assert len(set(kinds)) == 8


@pytest.mark.parametrize("bad", [(-1, 0, 1), (2**64, 0, 1), (0, -1, 1), (0, 2**63, 1)])
def test_seed_or_index_out_of_range_is_refused(bad):
    with pytest.raises(RequestError):
        noise.latent_noise(*bad, 2)


def test_random_seeds_are_in_range_and_differ():
    seeds = {noise.random_seed() for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**64 for seed in seeds)
