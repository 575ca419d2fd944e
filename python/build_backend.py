"""Builds the Python package: maturin, which leaves out programs beside an extension, and the program for it to pack.

`RESOURCELOCK_WHEEL_PROFILE=dev` builds both without optimization.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import maturin

# What pip calls and needs nothing added.
from maturin import get_requires_for_build_sdist, get_requires_for_build_wheel, prepare_metadata_for_build_wheel

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

get_requires_for_build_editable = get_requires_for_build_wheel
prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel

ROOT = Path(__file__).resolve().parent.parent
PROFILE = os.environ.get("RESOURCELOCK_WHEEL_PROFILE", "release")
# As in python/Cargo.toml, so that both come from one build.
FEATURES = ["etcd", "postgres", "serde", "tls", "tokio"]

# maturin wants it to exist.
SCRIPTS = ROOT / "python" / "resourcelock.data" / "scripts"
SCRIPTS.mkdir(parents=True, exist_ok=True)


def build_program():
    """Builds the program, and puts it where maturin finds it."""
    features = ",".join(f"resourcelock/{feature}" for feature in FEATURES)
    command = ["cargo", "build", "--locked", "--bin", "resourcelock", "--profile", PROFILE, "--features", features]
    # The extension is not built here, but named: so what both depend on is compiled once, as both ask for it.
    command += ["--package", "resourcelock", "--package", "resourcelock-python"]
    command += ["--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    [program] = [message["executable"] for message in messages if message.get("executable")]
    shutil.copy2(program, SCRIPTS / "resourcelock")


def with_profile(build, *arguments):
    os.environ.setdefault("MATURIN_PEP517_ARGS", f"--profile {PROFILE} --compatibility pypi")
    return build(*arguments)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    build_program()
    return with_profile(maturin.build_wheel, wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    build_program()
    return with_profile(maturin.build_editable, wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    return maturin.build_sdist(sdist_directory, config_settings)
