#!/bin/sh
# Gets what tests the packages with: helm, built from its module, and Debian's buildah. Prints the folder of both.
#
#   tests/setup/packaging.sh            get what is missing, print the folder
#   tests/setup/packaging.sh --where    print the folder, or fail when it is not there yet
#
# The folder is ${XDG_CACHE_HOME:-~/.cache}/towpath/packaging-HASH; ".../towpath/packaging" is a link to the newest one.
# bin/helm is a program; buildah is unpacked in buildah/, with its libraries, and not installed: its package would
# put CNI plugins where a machine's own runtime finds them. A cold build takes two minutes on two cores.
# Messages go to stderr, the folder to stdout.
set -eu

source=$(cd "$(dirname "$0")/packaging" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/towpath
packages="buildah libgpgme11 libassuan0 libsubid4 libgpg-error0 libseccomp2"
export LC_ALL=C CGO_ENABLED=0 GOFLAGS="${GOFLAGS-} -trimpath -buildvcs=false"

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

where() {
    folder=$(readlink -f "$cache/packaging" 2>/dev/null) && [ -e "$folder/.complete" ] && echo "$folder"
}

case ${1-} in
'') ;;
--where) where || die "helm and buildah are not there yet; run: make setup"; exit 0 ;;
*) die "unknown argument '$1'; usage: packaging.sh [--where]" ;;
esac

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo DEBIAN_FRONTEND=noninteractive "$@"
    else die "'$*' needs root: run this as root, or install sudo"
    fi
}

fetch() {
    # shellcheck disable=SC2086
    (cd "$work/debs" && apt-get -qq -o Acquire::Retries=2 -o APT::Sandbox::User="$(id -un)" download $packages >&2)
}

gobin=$("$source/../go.sh") || exit 1
PATH=$gobin:$PATH
version=$(cd "$source" && go env GOVERSION) || die "go cannot read $source/go.mod (see above)"

hash=$( (echo "$version $(dpkg --print-architecture)" && cd "$source" && sha256sum go.mod go.sum ../packaging.sh) |
    sha256sum | cut -c1-12)
folder=$cache/packaging-$hash

if [ ! -e "$folder/.complete" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/packaging.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    say "downloading $packages"
    mkdir "$work/debs" "$work/buildah"
    if ! fetch; then
        # The lists may be missing, or older than the mirror.
        say "apt-get update"
        as_root apt-get -qq -o Acquire::Retries=2 update >&2 && fetch ||
            die "apt-get cannot download one of: $packages (see above)"
    fi
    for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/buildah"; done
    rm -r "$work/debs"
    libraries=$(find "$work/buildah" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')
    if LD_LIBRARY_PATH=$libraries ldd "$work/buildah/usr/bin/buildah" | grep 'not found' >&2; then
        die "buildah: libraries are missing (see above)"
    fi
    say "building helm with $version"
    (cd "$source" && go build -mod=readonly -ldflags '-s -w' -o "$work/bin/helm" helm.sh/helm/v3/cmd/helm >&2) ||
        die "helm could not be built (see above); does the Go module proxy answer ('go env GOPROXY')?"
    chmod 755 "$work"
    touch "$work/.complete"
    # A rename is atomic: a folder of that name is complete, or a second run got there first.
    mv -T "$work" "$folder" 2>/dev/null || [ -e "$folder/.complete" ] || die "could not create $folder"
    say "built $folder"
fi

if [ "$(readlink "$cache/packaging" 2>/dev/null)" != "packaging-$hash" ]; then
    link=$(mktemp -u "$cache/link.XXXXXX")
    ln -s "packaging-$hash" "$link"
    mv -T "$link" "$cache/packaging"
fi
echo "$folder"
