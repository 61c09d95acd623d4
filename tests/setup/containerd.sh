#!/bin/sh
# Builds containerd 2, which no Debian of today packages, and prints the folder that holds it.
#
#   tests/setup/containerd.sh            build what is missing, print the folder
#   tests/setup/containerd.sh --where    print the folder, or fail when it is not there yet
#
# The folder is ${XDG_CACHE_HOME:-~/.cache}/towpath/containerd-HASH: containerd and its shim without what the
# tests never use (snapshots of btrfs, devicemapper and zfs, tracing), and the two small programs beside their go.mod:
# cri speaks to a runtime as a kubelet does, cni-gc to plugins as a runtime does. ".../towpath/containerd" is a
# link to the newest one. A cold build takes about a minute on two cores, another one none.
# Messages go to stderr, the folder to stdout.
set -eu

source=$(cd "$(dirname "$0")/containerd" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/towpath
export LC_ALL=C CGO_ENABLED=0 GOFLAGS="${GOFLAGS-} -trimpath -buildvcs=false"

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

where() {
    folder=$(readlink -f "$cache/containerd" 2>/dev/null) && [ -e "$folder/.complete" ] && echo "$folder"
}

case ${1-} in
'') ;;
--where) where || die "containerd is not built yet; run: make setup"; exit 0 ;;
*) die "unknown argument '$1'; usage: containerd.sh [--where]" ;;
esac

gobin=$("$source/../go.sh") || exit 1
PATH=$gobin:$PATH
version=$(cd "$source" && go env GOVERSION) || die "go cannot read $source/go.mod (see above)"

hash=$( (echo "$version" && cd "$source" && sha256sum go.mod go.sum cri/main.go cni-gc/main.go ../containerd.sh) |
    sha256sum | cut -c1-12)
folder=$cache/containerd-$hash

if [ ! -e "$folder/.complete" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/containerd.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    say "building containerd with $version"
    (cd "$source" && go build -mod=readonly -ldflags '-s -w' -o "$work/" \
        -tags no_btrfs,no_devmapper,no_zfs,no_tracing ./cri ./cni-gc \
        github.com/containerd/containerd/v2/cmd/containerd \
        github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 >&2) ||
        die "containerd could not be built (see above); does the Go module proxy answer ('go env GOPROXY')?"
    chmod 755 "$work"
    touch "$work/.complete"
    # A rename is atomic: a folder of that name is complete, or a second run got there first.
    mv -T "$work" "$folder" 2>/dev/null || [ -e "$folder/.complete" ] || die "could not create $folder"
    say "built $folder"
fi

if [ "$(readlink "$cache/containerd" 2>/dev/null)" != "containerd-$hash" ]; then
    link=$(mktemp -u "$cache/link.XXXXXX")
    ln -s "containerd-$hash" "$link"
    mv -T "$link" "$cache/containerd"
fi
echo "$folder"
