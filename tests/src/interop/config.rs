//! The hub's configuration, as a value and as the file's text.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// A BGPPeer of the hub.
#[derive(Debug, Clone)]
pub struct Peer {
    /// `metadata.name`.
    pub name: String,
    /// `neighbor.address`.
    pub address: IpAddr,
    /// `remoteASN`.
    pub remote_as: u32,
    /// Fields of `timers`.
    pub timers: String,
    /// Further fields of `spec`.
    pub spec: Vec<String>,
    /// Password, in a Secret of the peer's name.
    pub password: Option<String>,
}

/// The hub's file.
#[derive(Debug, Clone)]
pub struct Config {
    /// AS number.
    pub asn: u32,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Prefixes to announce.
    pub networks: Vec<String>,
    /// Prefixes to announce with a community: `no-export`, `65000:1`.
    pub tagged: Vec<(String, String)>,
    /// Sessions.
    pub peers: Vec<Peer>,
}

impl Config {
    /// The file's text.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes everything");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let head = |kind: &str, name: &str| {
            format!("---\napiVersion: towpath.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\n")
        };
        let Self { asn, router_id, .. } = self;
        write!(text, "{}", head("NetworkConfig", "default"))?;
        writeln!(text, "spec: {{asn: {asn}, routerID: {router_id}, transit: true}}")?;
        if !self.networks.is_empty() {
            write!(text, "{}", head("Advertisement", "networks"))?;
            let cidrs: Vec<String> = self.networks.iter().map(|network| format!("\"{network}\"")).collect();
            writeln!(text, "spec: {{source: {{static: {{cidrs: [{}]}}}}}}", cidrs.join(", "))?;
        }
        for (index, (prefix, community)) in self.tagged.iter().enumerate() {
            write!(text, "{}", head("Advertisement", &format!("tagged{index}")))?;
            writeln!(
                text,
                "spec:\n  source: {{static: {{cidrs: [\"{prefix}\"]}}}}\n  \
                 attributes: {{communities: [\"{community}\"]}}"
            )?;
        }
        for peer in &self.peers {
            let Peer { name, address, remote_as, timers, .. } = peer;
            write!(text, "{}", head("BGPPeer", name))?;
            writeln!(text, "spec:\n  neighbor: {{address: \"{address}\"}}\n  remoteASN: {remote_as}")?;
            writeln!(text, "  timers: {{{timers}}}")?;
            for field in &peer.spec {
                writeln!(text, "  {field}")?;
            }
            if let Some(password) = &peer.password {
                writeln!(
                    text,
                    "  auth: {{md5SecretRef: {{name: {name}}}}}\n---\napiVersion: v1\nkind: Secret\n\
                     metadata: {{name: {name}, namespace: towpath-system}}\n\
                     stringData: {{password: {password}}}"
                )?;
            }
        }
        Ok(())
    }
}
