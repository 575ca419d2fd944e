#!/usr/bin/env bash
# Checks licenses and sources of everything that the program is built from (deny.toml), with cargo-deny, which it installs
# first, once, into the tests' cache: ten minutes. Not a part of .ci/run, because of these; run it when Cargo.lock changes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh

find_cargo
version=0.20.2
tools=$cache/cargo-deny-$version
if ! test -x "$tools/bin/cargo-deny"; then
    echo "$self: installing cargo-deny into $tools" >&2
    cargo install --quiet --locked --debug --no-default-features --root "$tools" "cargo-deny@$version" >&2
fi
"$tools/bin/cargo-deny" --offline check bans licenses sources
