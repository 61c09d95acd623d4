#!/bin/sh
# Builds the programs of the test cluster from their published Go modules, makes its one container image, and prints
# the folder that holds both.
#
#   tests/setup/cluster.sh            build what is missing, print the folder
#   tests/setup/cluster.sh --e2e      the upstream end-to-end tests too (bin/e2e.test)
#   tests/setup/cluster.sh --where    print the folder, or fail when it is not there yet
#
# The folder is ${XDG_CACHE_HOME:-~/.cache}/towpath/cluster-HASH with bin/ and image.tar; ".../towpath/cluster" is a link
# to the newest one. Three go.mods, because Kubernetes, containerd with etcd, and CoreDNS disagree on versions.
# A cold build takes about twelve minutes on two cores and 8 GB of Go's caches, the next one none.
# Messages go to stderr, the folder to stdout. Making the image needs root, or sudo.
set -eu

setup=$(cd "$(dirname "$0")" && pwd)
source=$setup/cluster
cache=${XDG_CACHE_HOME:-$HOME/.cache}/towpath
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C CGO_ENABLED=0 GOFLAGS="${GOFLAGS-} -trimpath -buildvcs=false -mod=readonly"

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

where() {
    folder=$(readlink -f "$cache/cluster" 2>/dev/null) && [ -e "$folder/.complete" ] && echo "$folder"
}

e2e=
case ${1-} in
'') ;;
--e2e) e2e=yes ;;
--where) where || die "the programs of Kubernetes are not built yet; run: make setup"; exit 0 ;;
*) die "unknown argument '$1'; usage: cluster.sh [--e2e | --where]" ;;
esac

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo PATH="$PATH" "$@"
    else die "'$*' needs root: run this as root, or install sudo"
    fi
}

# build TO PACKAGE...: in the folder of a go.mod
build() {
    to=$1; shift
    for package in "$@"; do
        started=$(date +%s)
        go build -ldflags "-s -w $stamp" -o "$to" "$package" >&2 ||
            die "$package could not be built (see above); does the Go module proxy answer ('go env GOPROXY')?"
        say "$package: $(($(date +%s) - started)) s"
    done
}

# What `kubectl version` and the kubelets say of themselves.
stamp_of_kubernetes() {
    version=$(cd "$source/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes) ||
        die "go cannot read $source/kubernetes/go.mod (see above)"
    rest=${version#v}; minor=${rest#*.}
    place=k8s.io/component-base/version
    echo "-X $place.gitVersion=$version -X $place.gitMajor=${rest%%.*} -X $place.gitMinor=${minor%%.*}"
}

build_programs() {
    bin=$1
    kubernetes=k8s.io/kubernetes
    stamp=$(stamp_of_kubernetes)
    cd "$source/kubernetes"
    build "$bin/" $kubernetes/cmd/kube-apiserver $kubernetes/cmd/kube-controller-manager $kubernetes/cmd/kube-scheduler \
        $kubernetes/cmd/kubelet $kubernetes/cmd/kube-proxy $kubernetes/cmd/kubectl $kubernetes/test/images/agnhost
    stamp=
    cd "$source/runtime"
    build "$bin/etcd" go.etcd.io/etcd/server/v3
    containerd=github.com/containerd/containerd/v2/cmd
    build "$bin/" $containerd/containerd $containerd/containerd-shim-runc-v2 $containerd/ctr
    # The reference plugins the cluster is compared with.
    plugins=github.com/containernetworking/plugins/plugins
    build "$bin/" $plugins/main/loopback $plugins/main/ptp $plugins/ipam/host-local $plugins/meta/portmap
    cd "$source/dns"
    build "$bin/" github.com/coredns/coredns
}

build_e2e() {
    say "building the end-to-end tests (about three minutes)"
    (cd "$source/kubernetes" && go test -c -ldflags "-s -w $(stamp_of_kubernetes)" -o "$folder/bin/e2e.test.new" \
        k8s.io/kubernetes/test/e2e >&2) || die "e2e.test could not be built (see above)"
    mv "$folder/bin/e2e.test.new" "$folder/bin/e2e.test"
}

mkdir -p "$cache"
gobin=$("$setup/go.sh") || exit 1
PATH=$gobin:$PATH
hash=$(cd "$setup" && sha256sum cluster.sh cluster/image.sh cluster/*/go.mod cluster/*/go.sum | sha256sum | cut -c1-12)
folder=$cache/cluster-$hash

if [ ! -e "$folder/.complete" ]; then
    work=$(mktemp -d "$cache/cluster.XXXXXX")
    trap 'as_root rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    say "building Kubernetes with $(go env GOVERSION)"
    mkdir "$work/bin"
    build_programs "$work/bin"
    agnhost=$(cd "$source/kubernetes" && go list -f '{{.Dir}}' k8s.io/kubernetes/test/images/agnhost)
    as_root "$source/image.sh" "$work" "$agnhost" || die "the image could not be made (see above)"
    chmod 755 "$work"
    touch "$work/.complete"
    # A rename is atomic: a folder of that name is complete, or a second run got there first.
    mv -T "$work" "$folder" 2>/dev/null || [ -e "$folder/.complete" ] || die "could not create $folder"
    say "built $folder"
fi

[ -z "$e2e" ] || [ -x "$folder/bin/e2e.test" ] || build_e2e

if [ "$(readlink "$cache/cluster" 2>/dev/null)" != "cluster-$hash" ]; then
    link=$(mktemp -u "$cache/link.XXXXXX")
    ln -s "cluster-$hash" "$link"
    mv -T "$link" "$cache/cluster"
fi
echo "$folder"
