#!/bin/sh
# Gets the programs the tests run beside our own, and prints the folder that holds the daemons.
#
#   tests/setup/packages.sh            install and unpack what is missing, print the folder
#   tests/setup/packages.sh --where    print the folder, or fail when it is not there yet
#
# Ordinary tools (ip, nft, ping, ...) are installed with apt-get when they are missing. Routing
# daemons are not installed: their packages start services that would take port 179 of this machine.
# Nor are the reference CNI plugins (usr/lib/cni), which a machine's own runtime would find, nor containerd, nor what
# kube-proxy calls (iptables, conntrack).
# They are downloaded with the libraries this machine lacks and unpacked into
# ${XDG_CACHE_HOME:-~/.cache}/towpath/tools-HASH; ".../towpath/tools" is a link to the newest one.
# A lab lays that folder over "/", so every path in it is the path the package expects.
# Messages go to stderr, the folder to stdout. Needs Debian's apt; root, or sudo where root is needed.
set -eu

daemons="frr bird2 gobgpd openbgpd exabgp containernetworking-plugins containerd runc busybox-static iptables conntrack"
# command:package
tools="ip:iproute2 nft:nftables ping:iputils-ping tcpdump:tcpdump unshare:util-linux ethtool:ethtool openssl:openssl debootstrap:debootstrap"
layout=2 # raise when the way of unpacking changes

cache=${XDG_CACHE_HOME:-$HOME/.cache}/towpath
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

where() {
    folder=$(readlink -f "$cache/tools" 2>/dev/null) && [ -e "$folder/.complete" ] && echo "$folder"
}

case ${1-} in
'') ;;
--where) where || die "the test daemons are not unpacked yet; run: make setup"; exit 0 ;;
*) die "unknown argument '$1'; usage: packages.sh [--where]" ;;
esac

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    die "this script needs Debian's apt-get and dpkg-deb; on other systems put ip, nft, ping and tcpdump on PATH and run the tests that need no other daemons"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo DEBIAN_FRONTEND=noninteractive "$@"
    else die "'$*' needs root: run this as root, or install sudo"
    fi
}

updated=
update_lists() {
    [ -z "$updated" ] || return 0
    say "apt-get update"
    as_root apt-get -qq -o Acquire::Retries=2 -o APT::Update::Error-Mode=any update >&2 ||
        die "no package lists could be fetched; is there a network, and do the sources in /etc/apt answer?"
    updated=yes
}

# "package=version" of each daemon as apt would install it now; fails when one is unknown to apt.
candidates() {
    # shellcheck disable=SC2086
    apt-cache policy $daemons | awk '
        /^[^ ].*:$/ { name = substr($1, 1, length($1) - 1) }
        $1 == "Candidate:" && $2 != "(none)" { print name "=" $2; found++ }
        END { exit found != '"$(echo $daemons | wc -w)"' }'
}

# "package=version" of what the daemons need and this machine does not have.
missing_libraries() {
    # shellcheck disable=SC2086
    apt-get -s -qq --no-install-recommends install $daemons 2>&1 >"$work/plan" ||
        die "apt cannot resolve the dependencies of: $daemons (see above)"
    sed -n 's/^Inst \([^ ]*\) \(\[[^]]*\] \)\{0,1\}(\([^ ]*\) .*/\1=\3/p' "$work/plan" | while read -r package; do
        case " $daemons " in *" ${package%%=*} "*) ;; *) echo "$package" ;; esac
    done
}

install_tools() {
    wanted=
    for entry in $tools; do
        command -v "${entry%%:*}" >/dev/null || wanted="$wanted ${entry#*:}"
    done
    [ -n "$wanted" ] || return 0
    update_lists
    say "installing$wanted"
    # shellcheck disable=SC2086
    as_root apt-get -qq -y --no-install-recommends install $wanted >&2 || die "apt-get could not install$wanted"
}

# The daemons drop to users of their own. Their packages make those when installed; here they are
# added to copies of the account files, which the lab then shows in place of the machine's.
add_accounts() {
    root=$1
    for file in passwd group; do cp "/etc/$file" "$root/etc/$file"; done
    id=890
    for name in frr frrvty bird _openbgpd exabgp; do
        while cut -d: -f3 "$root/etc/passwd" "$root/etc/group" | grep -qx "$id"; do id=$((id - 1)); done
        if ! grep -q "^$name:" "$root/etc/group"; then
            members=; [ "$name" = frrvty ] && members=frr
            echo "$name:x:$id:$members" >>"$root/etc/group"
        fi
        if [ "$name" != frrvty ] && ! grep -q "^$name:" "$root/etc/passwd"; then
            group=$(awk -F: -v n="$name" '$1 == n { print $3 }' "$root/etc/group")
            # OpenBGPD locks itself into the home of its user.
            home=/nonexistent; [ "$name" = _openbgpd ] && home=/run/openbgpd
            echo "$name:x:$id:$group::$home:/usr/sbin/nologin" >>"$root/etc/passwd"
        fi
        id=$((id - 1))
    done
}

# Every program must find all its libraries in the folder or on the machine.
check_programs() {
    root=$1
    libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | tr '\n' ':')
    for program in usr/lib/frr/bgpd usr/lib/frr/zebra usr/lib/frr/watchfrr usr/bin/vtysh usr/sbin/bird usr/sbin/birdc \
        usr/bin/gobgpd usr/bin/gobgp usr/sbin/bgpd usr/sbin/bgpctl \
        usr/lib/cni/ptp usr/lib/cni/host-local usr/lib/cni/portmap usr/lib/cni/bandwidth usr/lib/cni/tuning \
        usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/ctr usr/sbin/runc usr/bin/busybox \
        usr/sbin/iptables usr/sbin/ip6tables-restore usr/sbin/conntrack; do
        [ -x "$root/$program" ] || die "$program is missing from the packages: $daemons"
        if LD_LIBRARY_PATH=$libraries ldd "$root/$program" | grep 'not found' >&2; then
            die "$program: libraries are missing (see above)"
        fi
    done
    modules=usr/lib/python3/dist-packages
    python=$root/usr/bin/python3; [ -x "$python" ] || python=/usr/bin/python3
    LD_LIBRARY_PATH=$libraries PYTHONPATH=$root/$modules PYTHONDONTWRITEBYTECODE=1 "$python" -c 'import exabgp.application' >&2 ||
        die "exabgp: its modules in $modules cannot be loaded (see above)"
}

unpack() {
    say "downloading $(echo $packages)"
    mkdir "$work/debs" "$work/root"
    # shellcheck disable=SC2086
    (cd "$work/debs" && apt-get -qq -o Acquire::Retries=2 -o APT::Sandbox::User="$(id -un)" download $packages >&2) || return 1
    for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
    # In a merged-/usr system /lib is a link; a folder of that name over it would hide the machine's libraries.
    for name in lib bin sbin; do
        [ -L "/$name" ] && [ -d "$work/root/$name" ] || continue
        mkdir -p "$work/root/usr/$name"
        cp -a "$work/root/$name/." "$work/root/usr/$name/"
        rm -rf "${work:?}/root/$name"
    done
    # The packages make these when they are installed.
    for name in usr/sbin/exabgp:python3-exabgp usr/bin/exabgpcli:exabgp-cli \
        usr/sbin/iptables:xtables-nft-multi usr/sbin/iptables-save:xtables-nft-multi usr/sbin/iptables-restore:xtables-nft-multi \
        usr/sbin/ip6tables:xtables-nft-multi usr/sbin/ip6tables-save:xtables-nft-multi usr/sbin/ip6tables-restore:xtables-nft-multi; do
        [ -e "$work/root/${name%%:*}" ] || ln -s "${name#*:}" "$work/root/${name%%:*}"
    done
    add_accounts "$work/root"
    check_programs "$work/root"
    echo "$packages" >"$work/root/.complete"
}

mkdir -p "$cache"
install_tools
wanted=$(candidates) || { update_lists; wanted=$(candidates) || die "apt knows no package for one of: $daemons"; }
hash=$(echo "$layout $(dpkg --print-architecture) $wanted" | sha256sum | cut -c1-12)
folder=$cache/tools-$hash

if [ ! -e "$folder/.complete" ]; then
    work=$(mktemp -d "$cache/unpack.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    chmod 755 "$work"
    packages="$wanted $(missing_libraries)" || exit 1
    if ! unpack; then
        # The lists may be older than the mirror: the version they name is gone.
        update_lists
        rm -rf "$work/debs" "$work/root"
        wanted=$(candidates)
        packages="$wanted $(missing_libraries)" || exit 1
        hash=$(echo "$layout $(dpkg --print-architecture) $wanted" | sha256sum | cut -c1-12)
        folder=$cache/tools-$hash
        unpack || die "the packages could not be downloaded; is there a network?"
    fi
    # A rename is atomic: a folder of that name is complete, or a second run got there first.
    chmod 755 "$work/root"
    rm -rf "$folder.broken"
    [ ! -e "$folder" ] || [ -e "$folder/.complete" ] || mv -T "$folder" "$folder.broken"
    mv -T "$work/root" "$folder" 2>/dev/null || [ -e "$folder/.complete" ] || die "could not create $folder"
    rm -rf "$folder.broken"
    say "unpacked into $folder"
fi

if [ "$(readlink "$cache/tools" 2>/dev/null)" != "tools-$hash" ]; then
    link=$(mktemp -u "$cache/link.XXXXXX")
    ln -s "tools-$hash" "$link"
    mv -T "$link" "$cache/tools"
fi
echo "$folder"
