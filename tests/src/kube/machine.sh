# Process 1 of a machine, in new namespaces.
set -e
mount -t proc proc /proc
cgroups=$(awk '$3 ~ /^cgroup/ { print $2, $3, $4 }' /proc/self/mounts)
# A new sysfs shows the devices of this network; the cgroups are mounted below it as they were, from this machine's root on.
umount --recursive --lazy /sys
mount -t sysfs sysfs /sys
case $cgroups in '/sys/fs/cgroup '*) ;; *) mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup ;; esac
echo "$cgroups" | while read -r place type options; do
    mkdir -p "$place"
    options=$(echo "$options" | tr , '\n' | grep -vxE 'rw|nosuid|nodev|noexec|(rel|no)atime' | paste -sd,)
    mount -t "$type" ${options:+-o "$options"} "$type" "$place"
done
[ ! -e /sys/fs/cgroup/cgroup.procs ] || { mkdir -p /sys/fs/cgroup/init; echo $$ >/sys/fs/cgroup/init/cgroup.procs; }
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/towpath
cat /proc/sys/kernel/random/uuid >/run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
cp /run/boot-id /run/towpath/boot-id
mount --make-rshared /
ip link set lo up
cd /proc/sys/net
for setting in ipv4/ip_forward=1 ipv4/conf/all/rp_filter=0 ipv4/conf/default/rp_filter=0 \
    ipv6/conf/all/forwarding=1 ipv6/conf/all/accept_dad=0 ipv6/conf/default/accept_dad=0 \
    ipv6/conf/all/keep_addr_on_down=1 ipv6/conf/default/keep_addr_on_down=1 ipv6/auto_flowlabels=0; do
    echo "${setting#*=}" >"${setting%%=*}"
done
cd /
touch /run/up
# From here on it collects the orphans of all others.
sleep infinity & wait
