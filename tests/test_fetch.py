# SPDX-License-Identifier: Apache-2.0
"""fetch.py: pinned, cached, safe to unpack, and clear about what cannot be had."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import fetch

MEMBERS = {"box/data/a.txt": b"alpha", "box/data/deep/b.txt": b"beta", "box/code.py": b"not kept"}


def zip_bytes(members: dict[str, bytes]) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stored.getvalue()


def tar_bytes(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stored.getvalue()


class FakeClient:
    """Stands in for a package client: delivers ``archive`` or, if that is None, has no network; counts how often it is asked."""

    def __init__(self, archive: bytes | None) -> None:
        self.archive = archive
        self.calls = 0

    def __call__(self, package: fetch.Package, work: Path) -> Path:
        self.calls += 1
        if self.archive is None:
            raise fetch.Unavailable("no network")
        path = work / "box-1.whl"
        path.write_bytes(self.archive)
        return path


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeClient:
    """The registered package ``box``, delivered by this client into an empty cache."""
    made = FakeClient(zip_bytes(MEMBERS))
    assert made.archive is not None
    digest = hashlib.sha256(made.archive).hexdigest()
    monkeypatch.setitem(fetch.PACKAGES, "box", fetch.Package("fake", "box", "1", digest, "none", keep=("box/data/*",), strip="box/data"))
    monkeypatch.setitem(fetch._CLIENTS, "fake", made)
    monkeypatch.setattr(fetch, "_failed", {})
    monkeypatch.setenv("EDGE8_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGE8_OFFLINE", raising=False)
    return made


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_keeps_the_wanted_members_and_asks_once(client: FakeClient) -> None:
    folder = fetch.fetch("box")
    assert files_in(folder) == ["a.txt", "deep/b.txt"]
    assert (folder / "a.txt").read_bytes() == b"alpha"
    assert fetch.fetch("box") == folder
    assert client.calls == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", folder.name], "temporary files are left"


def test_a_changed_archive_is_an_error_not_a_skip(client: FakeClient) -> None:
    client.archive = zip_bytes({**MEMBERS, "box/data/a.txt": b"altered"})
    with pytest.raises(fetch.FetchError, match=r"box-1\.whl has sha256 [0-9a-f]{64}, but"):
        fetch.require("box")
    assert not list(fetch.cache_folder().glob("box-*"))


def test_without_a_network_a_test_skips_and_names_the_reason(client: FakeClient) -> None:
    client.archive = None
    with pytest.raises(pytest.skip.Exception, match="no network"):
        fetch.require("box")
    with pytest.raises(fetch.Unavailable, match="no network"):
        fetch.fetch("box")
    assert client.calls == 1, "a failure is remembered, not tried by every test"


def test_offline_uses_the_cache_and_never_a_client(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE8_OFFLINE", "1")
    with pytest.raises(fetch.Unavailable, match="EDGE8_OFFLINE is set"):
        fetch.fetch("box")
    monkeypatch.setenv("EDGE8_OFFLINE", "0")
    folder = fetch.fetch("box")
    monkeypatch.setenv("EDGE8_OFFLINE", "1")
    assert fetch.fetch("box") == folder
    assert client.calls == 1


def test_an_installed_copy_counts_only_with_the_pinned_content(client: FakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = tmp_path / "usr"
    installed.mkdir()
    (installed / "a.txt").write_bytes(b"alpha")
    hashes = {"a.txt": hashlib.sha256(b"alpha").hexdigest()}
    pinned = fetch.PACKAGES["box"]
    package = fetch.Package("fake", "box", "1", pinned.sha256, "none", pinned.keep, pinned.strip, str(installed), hashes)
    monkeypatch.setitem(fetch.PACKAGES, "box", package)
    assert fetch.fetch("box") == installed
    assert client.calls == 0
    (installed / "a.txt").write_bytes(b"another edition")
    assert fetch.fetch("box") != installed
    assert client.calls == 1


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "/out.txt", "box/../../out.txt", "./../out.txt", "C:/out.txt", "..\\out.txt", "box\\..\\..\\out.txt", ".//out.txt"],
)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, name: str, form: str) -> None:
    archive = tmp_path / ("a.whl" if form == "zip" else "a.tgz")
    archive.write_bytes(zip_bytes({name: b"x"}) if form == "zip" else tar_bytes([(tarfile.TarInfo(name), b"x")]))
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    with pytest.raises(fetch.FetchError, match="outside of its folder"):
        fetch.unpack(archive, folder, ("*",))
    assert files_in(tmp_path) == [archive.name]


def test_links_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "/etc/hostname"
        (tmp_path / "a.tgz").write_bytes(tar_bytes([(link, b"")]))
        with pytest.raises(fetch.FetchError, match="not a regular file"):
            fetch.unpack(tmp_path / "a.tgz", tmp_path, ("*",))
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/hostname")
    (tmp_path / "a.whl").write_bytes(stored.getvalue())
    with pytest.raises(fetch.FetchError, match="not a regular file"):
        fetch.unpack(tmp_path / "a.whl", tmp_path, ("*",))
    assert not os.path.lexists(tmp_path / "link")


def test_an_archive_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "UNPACKED_LIMIT", 1000)
    members = {"a": b"\0" * 600, "b": b"\0" * 600}
    for name, content in (("a.whl", zip_bytes(members)), ("a.tgz", tar_bytes([(tarfile.TarInfo(n), c) for n, c in members.items()]))):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(fetch.FetchError, match="more than 1000 bytes"):
            fetch.unpack(tmp_path / name, folder, ("*",))


def test_a_member_that_appears_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(tar_bytes([(tarfile.TarInfo("x"), b"1"), (tarfile.TarInfo("x"), b"2")]))
    with pytest.raises(fetch.FetchError, match="appears twice"):
        fetch.unpack(tmp_path / "a.tgz", tmp_path, ("*",))


def test_shared_models_says_when_its_setting_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE8_MODELS", str(tmp_path / "absent"))
    with pytest.raises(fetch.FetchError, match=r"EDGE8_MODELS=.*absent is not a folder"):
        fetch.shared_models()
    monkeypatch.setenv("EDGE8_MODELS", str(tmp_path))
    assert fetch.shared_models() == tmp_path
    with pytest.raises(pytest.skip.Exception, match=r"has no mobilenetv2\.onnx"):
        fetch.require("mobilenetv2")


def test_every_entry_is_pinned_and_no_name_means_two_things() -> None:
    assert not set(fetch.PACKAGES) & set(fetch.NETWORKS)
    for name, package in fetch.PACKAGES.items():
        assert len(package.sha256) == 64, name
        assert package.client in fetch._CLIENTS, name
        assert package.licence, name
        assert bool(package.installed) == bool(package.hashes), name
    assert {entry.package for entry in fetch.NETWORKS.values()} <= {*fetch.PACKAGES, "shared"}


def test_command_line(tmp_path: Path) -> None:
    environment = {**os.environ, "EDGE8_CACHE": str(tmp_path), "EDGE8_OFFLINE": "1"}
    command = [sys.executable, str(Path(fetch.__file__)), "rapidocr"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unavailable: rapidocr: rapidocr-onnxruntime 1.4.4 is not in" in done.stdout
    done = subprocess.run([*command, "no-such-name"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown: no-such-name" in done.stderr


@pytest.mark.parametrize("name", sorted(fetch.NETWORKS))
def test_network_has_the_inputs_that_its_entry_names(name: str) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(str(fetch.require(name)), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    declared = {value.name: value.type.tensor_type.shape.dim for value in graph.input if value.name not in constants}
    shapes = fetch.NETWORKS[name].shapes
    assert set(shapes) == set(declared)
    for input_name, shape in shapes.items():
        assert len(shape) == len(declared[input_name])
        assert all(dim.dim_value in (0, -1, extent) for dim, extent in zip(declared[input_name], shape, strict=True)), input_name


def test_imagenet_pictures_carry_their_class() -> None:
    fetch.require("foolbox")
    pictures = fetch.imagenet_pictures()
    assert len(pictures) == 20
    assert pictures[0][1] == 243
    assert all(0 <= label < 1000 and path.is_file() for path, label in pictures)
