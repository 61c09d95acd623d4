# A machine comes up inside its node of the lab, which is the place it stands in: the node has the cables and the disk,
# the machine has network, mounts, processes, cgroups and /run of its own, which end with its process 1 (machine.sh).
#   boot.sh CABLES CGROUP     number of cables, and name of the cgroup that is the root of all cgroups for the machine
set -e
cables=$1 cgroup=$2
# cgroup v2 has one hierarchy, v1 one per controller.
hierarchies=$(for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do [ ! -e "$folder/cgroup.procs" ] || echo "$folder"; done)
for hierarchy in $hierarchies; do
    mkdir -p "$hierarchy/$cgroup"
    for file in cpuset.cpus cpuset.mems; do
        # A new cgroup of v1 has no processor and no memory to give; in v2 it has its parent's.
        [ ! -e "$hierarchy/$file" ] || cat "$hierarchy/$file" >"$hierarchy/$cgroup/$file"
    done
done
rm -f /run/machine
(
    for hierarchy in $hierarchies; do echo 0 >"$hierarchy/$cgroup/cgroup.procs"; done
    exec setsid unshare --cgroup --net --mount --pid --fork --kill-child --propagation private \
        sh /etc/node/machine.sh >/var/log/node/boot.log 2>&1 </dev/null
) &
outside=$!
until inside=$(cat /proc/$outside/task/$outside/children 2>/dev/null) && inside=${inside% } && [ -n "$inside" ] &&
    [ -e "/proc/$inside/root/run/up" ]; do
    kill -0 $outside 2>/dev/null || { cat /var/log/node/boot.log >&2; exit 1; }
    sleep 0.02
done
# In v2 a cgroup with children that have controllers has no processes of its own.
[ ! -d "/sys/fs/cgroup/$cgroup/init" ] || echo $outside >"/sys/fs/cgroup/$cgroup/init/cgroup.procs"
for cable in $(seq 1 "$cables"); do
    ip link set "eth$cable" netns "$inside"
    nsenter -t "$inside" -n ip link set "eth$cable" up
done
# Whoever enters belongs to the machine's cgroups as if it had been started there.
{
    for hierarchy in $hierarchies; do
        place=$hierarchy/$cgroup
        [ ! -d "$place/init" ] || place=$place/init
        echo "echo 0 >$place/cgroup.procs"
    done
    echo "exec nsenter --target $inside --cgroup --mount --net --pid -- \"\$@\""
} >/run/enter
echo "$inside" >/run/machine
