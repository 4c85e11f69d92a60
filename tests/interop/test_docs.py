"""Examples of docs/deploy.md: each decodes a given z to the image that Python decodes."""

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.model import load
from support import interop

pytestmark = pytest.mark.interop

PAGE = (interop.ROOT / "docs" / "deploy.md").read_text()
HEADERS = "com.github.asus4.onnxruntime@0.4.9"  # on npm, with the C++ headers of ONNX Runtime 1.29


def block(language):
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return text


def replaced(text, old, new):
    assert text.count(old) == 1, f"docs/deploy.md no longer has: {old}"
    return text.replace(old, new)


@pytest.fixture
def example(tmp_path):
    """Return a folder with the shipped decoder and a known z, and a check of the image that an example decodes."""
    decoder = interop.shipped_models()["mnist"] / "decoder.onnx"
    shutil.copy(decoder, tmp_path / "decoder.onnx")
    z = interop.feeds(load(decoder), "decoder")["z"][:4]
    z.tofile(tmp_path / "z.bin")
    want = load(decoder).decode(z, label="3").round().astype(np.uint8)

    def picture():
        head, pixels = (tmp_path / "three.pgm").read_bytes().split(b"255\n", 1)
        (tmp_path / "three.pgm").unlink()
        assert head == b"P5 28 112 "
        return np.frombuffer(pixels, np.uint8).reshape(want.shape)

    def judge(run, normal):
        """Run the example with a random z, or with z.bin. `normal` is its expression for a random z."""
        run(True)
        first = picture()
        assert first.max() > 200
        assert first.min() == 0
        run(True)
        assert (picture() != first).any(), "the noise is the same each time"
        run(False)
        # A value may lie between two gray levels.
        got = picture().astype(int)
        assert np.abs(got - want).max() <= 1
        assert (got != want).mean() < 1e-3
        data = bytearray((tmp_path / "decoder.onnx").read_bytes())
        data[100_000] ^= 1
        (tmp_path / "decoder.onnx").write_bytes(data)
        with pytest.raises(AssertionError, match=r"decoder\.onnx is damaged"):
            run(True)
        assert not (tmp_path / "three.pgm").exists()
        draws = normal()
        assert len(draws) == 200_000
        moments = [np.mean(draws**power) for power in (1, 2, 3, 4)]
        np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.08)

    return tmp_path, judge


def test_python_example_decodes_the_expected_image(example):
    folder, judge = example
    python = interop.python_with("newest", "onnxruntime", "numpy", "click", "pillow")
    text = block("python")
    noise = 'numpy.random.default_rng().standard_normal((4, manifest["latent_dim"]), "float32")'
    given = replaced(text, noise, 'numpy.fromfile("z.bin", "float32").reshape(4, -1)')

    def run(own):
        interop.call(python, "-c", text if own else given, cwd=folder, env=interop.clean_environment())

    def normal():
        alone = noise.replace("4", "200_000", 1).replace('manifest["latent_dim"]', "1")
        code = f"import numpy; {alone}.tofile('normal.bin')"
        interop.call(python, "-c", code, cwd=folder, env=interop.clean_environment())
        return np.fromfile(folder / "normal.bin", np.float32)

    judge(run, normal)


def test_javascript_example_decodes_the_expected_image(example):
    folder, judge = example
    runtime, packages = interop.node()
    (folder / "node_modules").symlink_to(packages / "node_modules")
    text = block("javascript")
    line = "const z = Float32Array.from({ length: 4 * manifest.latent_dim }, normal);"
    given = replaced(text, line, 'const z = new Float32Array(new Uint8Array(readFileSync("z.bin")).buffer);')

    def run(own):
        (folder / "three.mjs").write_text(text if own else given)
        interop.call(runtime, "three.mjs", cwd=folder)

    def normal():
        (line,) = re.findall(r"^const normal = .*$", text, re.MULTILINE)
        code = f"{line}\nprocess.stdout.write(JSON.stringify(Array.from({{ length: 200000 }}, normal)));"
        return np.array(json.loads(interop.call(runtime, "-e", code)))

    judge(run, normal)


def _headers():
    folder = interop.workshop() / "headers"
    if not (folder / "onnxruntime_cxx_api.h").exists():
        runtime, _ = interop.node()
        npm = shutil.which("npm", path=os.pathsep.join([str(runtime.parent), os.environ["PATH"]]))
        path = os.pathsep.join([str(runtime.parent), os.environ["PATH"]])
        packed = interop.workshop() / "packed"
        packed.mkdir(exist_ok=True)
        interop.call(npm, "pack", "--silent", HEADERS, cwd=packed, env=os.environ | {"PATH": path})
        (archive,) = packed.glob("*.tgz")
        with tarfile.open(archive) as members:
            found = [each for each in members if "-simulator/" in each.name and "/Headers/" in each.name]
            headers = {Path(each.name).name: members.extractfile(each).read() for each in found if each.isfile()}
        for name, data in headers.items():
            (packed / name).write_bytes(data)
        archive.unlink()
        packed.rename(folder)
    return folder


def _compiler():
    """Return a C++ compiler of this machine or from PyPI."""
    own = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    return [own] if own else [interop.python_with("zig", "ziglang"), "-m", "ziglang", "c++"]


def test_cpp_example_decodes_the_expected_image(example):
    folder, judge = example
    python = interop.python_with("newest", "onnxruntime", "numpy", "click", "pillow")
    shutil.copy(interop.ROOT / "docs" / "examples" / "kvae_seal.hpp", folder)
    (library,) = python.parents[1].rglob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(library)  # the name that programs load
    text = block("cpp")
    line = "for (float& value : z) value = normal(engine);"
    given = replaced(text, line, 'std::ifstream("z.bin", std::ios::binary).read((char*)z.data(), 4 * z.size());')
    (draw,) = re.findall(r"^ *std::mt19937.*\n.*normal_distribution.*$", text, re.MULTILINE)
    alone = f"#include <cstdio>\n#include <random>\nint main() {{ {draw} for (int i = 0; i < 200000; ++i) " + (
        'std::printf("%g\\n", normal(engine)); }'
    )
    for name, source in {"own": text, "given": given, "normal": alone}.items():
        (folder / f"{name}.cpp").write_text(source)
        flags = ["-std=c++17", "-O1", "-I", _headers(), "-I", folder, f"-Wl,-rpath,{folder}"]
        interop.call(*_compiler(), folder / f"{name}.cpp", folder / "libonnxruntime.so.1", *flags, "-o", folder / name)

    def run(own):
        said = interop.call(folder / ("own" if own else "given"), cwd=folder)
        manifest = json.loads(said)
        assert manifest["latent_dim"] == 16
        assert manifest["conditions"][0]["classes"][3] == "3"

    judge(run, lambda: np.array(interop.call(folder / "normal").split(), float))


def test_cpp_sha256_matches_for_any_length(tmp_path):
    import hashlib

    header = interop.ROOT / "docs" / "examples" / "kvae_seal.hpp"
    (tmp_path / "hash.cpp").write_text(
        f'#include "{header}"\n#include <iostream>\n#include <iterator>\nint main() {{ std::string all('
        "std::istreambuf_iterator<char>(std::cin), {}); for (size_t n = 0; n <= all.size(); ++n) "
        'std::cout << kvae::sha256(all.data(), n) << "\\n"; }\n'
    )
    interop.call(*_compiler(), tmp_path / "hash.cpp", "-std=c++17", "-O1", "-o", tmp_path / "hash")
    data = np.random.default_rng(0).bytes(300)
    said = subprocess.run([tmp_path / "hash"], input=data, capture_output=True, check=True).stdout.decode().split()
    assert said == [hashlib.sha256(data[:n]).hexdigest() for n in range(301)]


@pytest.mark.skipif(shutil.which("dotnet") is None, reason="no .NET SDK, and no registry of ours has one")
def test_csharp_example_decodes_the_expected_image(example):
    folder, judge = example
    (folder / "three").mkdir()
    interop.call("dotnet", "new", "console", "--output", folder / "three", "--force")
    interop.call("dotnet", "add", folder / "three", "package", "Microsoft.ML.OnnxRuntime")
    text = block("csharp")
    line = "float[] noise = Enumerable.Range(0, 4 * latentDim).Select(_ => Normal()).ToArray();"
    given = replaced(
        text, line, 'float[] noise = new float[64]; Buffer.BlockCopy(File.ReadAllBytes("z.bin"), 0, noise, 0, 256);'
    )
    (draw,) = re.findall(r"^float Normal\(\) => .*$", text, re.MULTILINE)

    def start(source):
        (folder / "three" / "Program.cs").write_text(source)
        return interop.call("dotnet", "run", "--project", folder / "three", cwd=folder)

    def normal():
        loop = 'for (int i = 0; i < 200000; ++i) Console.WriteLine(Normal().ToString("R"));'
        return np.array(start(f"{loop}\n{draw}").split(), float)

    judge(lambda own: start(text if own else given), normal)
