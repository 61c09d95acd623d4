#!/bin/sh
# Makes the container image of its two programs, without a container engine:
#
#   deploy/image/archive.sh TOWPATH TOWPATH-CNI OUT.tar
#
# OUT.tar is an OCI layout (image-spec 1.1) with the manifest.json of `docker save` beside it, so that
# `ctr images import`, `docker load`, `podman load` and `skopeo copy oci-archive:` read it. It holds one image of one
# layer, the same as deploy/Dockerfile makes. The same programs give the same bytes.
set -eu

[ $# = 3 ] || { sed -n '4s/^#  */usage: /p' "$0" >&2; exit 2; }
towpath=$1 plugin=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/../../Cargo.toml")
name=towpath:$version
case $(uname -m) in x86_64) architecture=amd64 ;; aarch64) architecture=arm64 ;; *) architecture=$(uname -m) ;; esac

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar "$@"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
size() { stat -c %s "$1"; }
# blob FILE: moves it to where a layout keeps it, and prints its digest
blob() { sum=$(digest "$1") && mv "$1" "$work/image/blobs/sha256/$sum" && echo "$sum"; }

mkdir -p "$work/root" "$work/image/blobs/sha256"
install -m 755 "$towpath" "$work/root/towpath"
install -m 755 "$plugin" "$work/root/towpath-cni"
pack -C "$work/root" -cf "$work/layer.tar" towpath towpath-cni
plain=$(digest "$work/layer.tar")
gzip -n "$work/layer.tar"
layer_size=$(size "$work/layer.tar.gz")
layer=$(blob "$work/layer.tar.gz")

cat >"$work/config" <<END
{"architecture":"$architecture","os":"linux","config":{"Entrypoint":["/towpath"],"Env":["PATH=/"],"Labels":{"org.opencontainers.image.title":"towpath","org.opencontainers.image.version":"$version","org.opencontainers.image.licenses":"Apache-2.0"}},"rootfs":{"type":"layers","diff_ids":["sha256:$plain"]},"history":[{"created_by":"deploy/image/archive.sh"}]}
END
config_size=$(size "$work/config")
config=$(blob "$work/config")
cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
END
manifest_size=$(size "$work/manifest")
manifest=$(blob "$work/manifest")
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
cat >"$work/image/index.json" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"annotations":{"io.containerd.image.name":"docker.io/library/$name","org.opencontainers.image.ref.name":"$version"},"platform":{"architecture":"$architecture","os":"linux"}}]}
END
echo "[{\"Config\":\"blobs/sha256/$config\",\"RepoTags\":[\"$name\"],\"Layers\":[\"blobs/sha256/$layer\"]}]" >"$work/image/manifest.json"
pack -C "$work/image" -cf "$work/archive.tar" oci-layout index.json manifest.json blobs
mv "$work/archive.tar" "$out"
echo "$name: $out ($(size "$out") bytes)"
