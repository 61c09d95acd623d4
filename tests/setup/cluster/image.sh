#!/bin/sh
# Makes the one container image of the test cluster, DIR/image.tar: Debian's smallest system with curl, dig, nc, ss, iperf
# and ping, and the programs agnhost and CoreDNS of DIR/bin. It carries every name under which Kubernetes and its
# end-to-end tests ask for pause, agnhost and busybox, so that no image is ever pulled. Needs root, and a minute.
#
#   image.sh DIR AGNHOST      AGNHOST: the source folder of agnhost, which has the certificates it serves
set -eu

cd "$1"
agnhost=$2
release=bookworm
registry=registry.k8s.io
names="$registry/pause:3.10.2 $registry/e2e-test-images/agnhost:2.63.0 $registry/e2e-test-images/agnhost:2.55
    $registry/e2e-test-images/busybox:1.37.0-1 $registry/e2e-test-images/glibc-dns-testing:2.0.0"

say() { echo "setup: $*" >&2; }

command -v debootstrap >/dev/null || { say "debootstrap is missing; run tests/setup/packages.sh first"; exit 1; }
say "making the image (debootstrap $release)"
debootstrap --variant=minbase \
    --include=bind9-dnsutils,curl,netcat-openbsd,iproute2,iperf,iputils-ping,util-linux,ca-certificates,procps \
    "$release" root >debootstrap.log || { tail -n 20 debootstrap.log >&2; exit 1; }
cp bin/agnhost bin/coredns root/
cp "$agnhost"/porter/localhost.* root/
ln -s agnhost root/agnhost-2
ln -s ../../agnhost root/usr/local/bin/pause
mkdir root/uploads image
rm -rf root/var/cache/apt root/var/lib/apt/lists root/usr/share/doc root/usr/share/man root/usr/share/locale

tar -C root --numeric-owner -cf image/layer.tar .
digest=$(sha256sum image/layer.tar | cut -d' ' -f1)
architecture=$(dpkg --print-architecture)
cat >image/config.json <<END
{"architecture":"$architecture","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:$digest"]},
 "config":{"Entrypoint":["/agnhost"],"Cmd":["pause"],"WorkingDir":"/",
           "Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}}
END
tags=$(printf '"%s",' $names)
echo "[{\"Config\":\"config.json\",\"RepoTags\":[${tags%,}],\"Layers\":[\"layer.tar\"]}]" >image/manifest.json
tar -C image -cf image.tar manifest.json config.json layer.tar
rm -rf root image debootstrap.log
