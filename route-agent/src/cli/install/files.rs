//! The small files that make other programs of a node get along with us: names for our route protocols, and words
//! that keep network managers off pods' links and off routes they did not make.

use std::path::PathBuf;

use super::Places;

/// 13 characters behind `tw` and `ti`: the names the plugin gives, and hardly anything else.
const PODS: &str = "tw????????????? ti?????????????";

const PROTOCOLS: &str = "# names of towpath's route protocols for ip(8)\n199\ttowpath\n200\ttowpath-pod\n";
const NETWORKD: &str = "\
# systemd-networkd would remove routes and next hops that it did not make.
[Network]
ManageForeignRoutes=no
ManageForeignNextHops=no
ManageForeignRoutingPolicyRules=no
";

/// The files, each with its text: those of programs that the node does not have are left out.
pub(super) fn of(places: &Places) -> Vec<(PathBuf, String)> {
    all(places).into_iter().filter(|file| file.wanted).map(|file| (file.path, file.text)).collect()
}

/// Every path there may be.
pub(super) fn paths(places: &Places) -> Vec<PathBuf> {
    all(places).into_iter().map(|file| file.path).collect()
}

struct File {
    path: PathBuf,
    text: String,
    wanted: bool,
}

fn all(places: &Places) -> Vec<File> {
    let file = |path: &str, text: String, wanted: bool| File { path: places.at(path), text, wanted };
    let any = |paths: &[&str]| paths.iter().any(|path| places.at(path).exists());
    let networkd = any(&["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"]);
    let manager = any(&["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"]);
    let udev = any(&["/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd", "/usr/bin/udevadm"]);
    let link = format!(
        "# Pods' links keep the hardware address they are made with.\n[Match]\nOriginalName={PODS}\n[Link]\nMACAddressPolicy=none\nNamePolicy=keep\n"
    );
    let network =
        format!("# Pods' links belong to the CNI plugin.\n[Match]\nName={PODS}\n[Link]\nUnmanaged=yes\n");
    let devices: Vec<String> = PODS.split(' ').map(|name| format!("interface-name:{name}")).collect();
    let unmanaged = format!(
        "# Pods' links belong to the CNI plugin.\n[device-towpath]\nmatch-device={}\nmanaged=0\n",
        devices.join(";")
    );
    vec![
        file("/etc/iproute2/rt_protos.d/towpath.conf", PROTOCOLS.to_owned(), true),
        file("/etc/systemd/networkd.conf.d/10-towpath.conf", NETWORKD.to_owned(), networkd),
        file("/etc/systemd/network/10-towpath-pods.network", network, networkd),
        file("/etc/systemd/network/10-towpath-pods.link", link, udev),
        file("/etc/NetworkManager/conf.d/10-towpath.conf", unmanaged, manager),
    ]
}
