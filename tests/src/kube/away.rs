//! What can be asked of a node while nobody answers for the cluster: its plugin, its daemon, its kernel.

use super::machine::{BOOT_ID, Machine};

impl Machine {
    /// Makes a pod as a runtime does, by calling the plugins of the node's conflist, and gives the plugin's result.
    ///
    /// # Errors
    /// The plugin's words.
    pub fn add_pod(&self, name: &str) -> anyhow::Result<String> {
        self.run(&["towpath", "pod", "add", name])
    }

    /// Takes a pod of [`Machine::add_pod`] away.
    ///
    /// # Errors
    /// The plugin's words.
    pub fn remove_pod(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["towpath", "pod", "del", name]).map(drop)
    }

    /// The wires and routes of all pods on the node, a line each.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn pods_of_plugin(&self) -> anyhow::Result<Vec<String>> {
        let script = "ip -o link show type veth | cut -d: -f2 | grep -E '^ t[wi]' || true
                      for f in -4 -6; do ip $f route show proto 200; done; ls /run/netns";
        let text = self.run(&["sh", "-ec", script])?;
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        Ok(lines)
    }

    /// Process number of the node's daemon, as the node has it.
    ///
    /// # Errors
    /// When none runs.
    pub fn daemon(&self) -> anyhow::Result<String> {
        let text = self.run(&["pgrep", "-o", "-f", "^/towpath agent"])?;
        Ok(text.trim().to_owned())
    }

    /// Starts a daemon with the arguments of the DaemonSet, as the kubelet would if it could ask for its pods.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn start_daemon(&self, url: &str) -> anyhow::Result<()> {
        self.start(
            "towpath",
            &format!(
                "towpath agent --cluster --node {} --api-server {url} --kubeconfig /etc/node/proxy.conf \
                 --boot-id-file {BOOT_ID}",
                self.name()
            ),
        )
    }
}
