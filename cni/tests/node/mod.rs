//! A node with pods, an outside world, and what they say to each other; every test has its own network namespaces.
//!
//! The wires are made with ip(8) as the plugin makes them: /32 and /128, a gateway that no interface has, permanent
//! neighbours on both ends. So a fault of the rules is never one of the wire.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use cni::{Addresses, IfName};
use meter::netns::Netns;

pub(crate) const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// A node with one uplink, behind which is the outside.
pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) outside: Netns,
}

/// A pod and its wire.
pub(crate) struct Pod {
    pub(crate) netns: Netns,
    pub(crate) host_ifname: IfName,
    pub(crate) addresses: Addresses,
}

impl Node {
    pub(crate) fn new() -> Self {
        let (netns, outside) = (without_dad(), without_dad());
        let with = |address: [&str; 2]| [format!("{}/24", address[0]), format!("{}/64", address[1])];
        let (ours, theirs) = (with(NODE), with(OUTSIDE));
        netns.link(("uplink", &[&ours[0], &ours[1]]), &outside, ("eth0", &[&theirs[0], &theirs[1]])).unwrap();
        for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            netns.sysctl(sysctl, "1").unwrap();
        }
        outside.ip(&format!("route add 10.244.0.0/16 via {}", NODE[0])).unwrap();
        outside.ip(&format!("route add fd00::/16 via {}", NODE[1])).unwrap();
        Self { netns, outside }
    }

    /// A pod with the addresses 10.244.0.NUMBER and fd00::NUMBER behind the interface `twpodNUMBER`.
    pub(crate) fn pod(&self, number: u8) -> Pod {
        let netns = without_dad();
        let (v4, v6) =
            (Ipv4Addr::new(10, 244, 0, number), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()));
        let host = format!("twpod{number}");
        self.netns.link((&host, &[]), &netns, ("eth0", &[])).unwrap();
        let mark = ["ip", "link", "set", &host, "alias", &format!("towpath-cni network pod{number} eth0")];
        assert!(self.netns.exec(&mark).unwrap().status.success(), "{mark:?}");
        let mac = |netns: &Netns, name: &str| {
            netns
                .ip(&format!("-brief link show {name}"))
                .unwrap()
                .split_whitespace()
                .nth(2)
                .unwrap()
                .to_owned()
        };
        let (host_mac, pod_mac) = (mac(&self.netns, &host), mac(&netns, "eth0"));
        self.netns.sysctl(&format!("net/ipv4/conf/{host}/route_localnet"), "1").unwrap();
        for (address, gateway, bits) in [(IpAddr::V4(v4), "169.254.1.1", 32), (v6.into(), "fe80::1", 128)] {
            let nodad = if bits == 128 { "nodad" } else { "" };
            netns.ip(&format!("address add {address}/{bits} dev eth0 {nodad}")).unwrap();
            netns.ip(&format!("route add {gateway} dev eth0")).unwrap();
            netns.ip(&format!("route add default via {gateway} dev eth0 src {address}")).unwrap();
            netns.ip(&format!("neigh add {gateway} lladdr {host_mac} dev eth0 nud permanent")).unwrap();
            self.netns.ip(&format!("route add {address}/{bits} dev {host}")).unwrap();
            self.netns.ip(&format!("neigh add {address} lladdr {pod_mac} dev {host} nud permanent")).unwrap();
        }
        let addresses = Addresses { v4: Some(v4), v6: Some(v6) };
        Pod { netns, host_ifname: IfName::parse(&host).unwrap(), addresses }
    }

    /// What `work` of the plugin does to this node.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(|| Ok(work())).unwrap()
    }

    /// `nft ARGUMENTS`, which must succeed.
    pub(crate) fn nft(&self, arguments: &str) -> String {
        let argv: Vec<&str> = ["nft"].into_iter().chain(arguments.split_whitespace()).collect();
        let output = self.netns.exec(&argv).unwrap();
        assert!(output.status.success(), "nft {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `nft -f -` with this text.
    pub(crate) fn load(&self, text: &str) {
        let status = self.run(|| {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            nft.wait().unwrap()
        });
        assert!(status.success(), "{text}");
    }
}

impl Pod {
    /// Answers every connection to `port` with `name` and the caller's address.
    pub(crate) fn serve(&self, name: &str, port: u16) {
        serve_tcp(&self.netns, name, port);
        serve_udp(&self.netns, name, port);
    }
}

/// A namespace whose interfaces may use their addresses at once: nobody waits for duplicates to be detected.
fn without_dad() -> Netns {
    let netns = Netns::fresh().unwrap();
    netns.sysctl("net/ipv6/conf/default/accept_dad", "0").unwrap();
    netns
}

/// Answers every TCP connection to `port`, of both families, with `name` and the caller's address, until the test ends.
pub(crate) fn serve_tcp(netns: &Netns, name: &str, port: u16) {
    let listener = netns.run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?)).unwrap();
    let name = name.to_owned();
    std::thread::spawn(move || {
        while let Ok((mut stream, caller)) = listener.accept() {
            // A caller that has hung up is the test's affair.
            let _ = stream.write_all(format!("{name} {}", caller.ip().to_canonical()).as_bytes());
        }
    });
}

/// Answers every UDP packet to `port` likewise.
pub(crate) fn serve_udp(netns: &Netns, name: &str, port: u16) {
    let socket = netns.run(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?)).unwrap();
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut packet = [0; 64];
        while let Ok((_, caller)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(format!("{name} {}", caller.ip().to_canonical()).as_bytes(), caller);
        }
    });
}

/// What is answered at `address:port` when asked from `netns` over TCP; what went wrong otherwise.
pub(crate) fn ask_tcp(netns: &Netns, address: &str, port: u16) -> Result<String, std::io::Error> {
    ask_tcp_within(netns, address, port, Duration::from_secs(3))
}

/// Likewise, with this limit.
pub(crate) fn ask_tcp_within(
    netns: &Netns,
    address: &str,
    port: u16,
    limit: Duration,
) -> Result<String, std::io::Error> {
    let to = SocketAddr::new(address.parse().unwrap(), port);
    netns
        .run(|| {
            Ok(TcpStream::connect_timeout(&to, limit).and_then(|mut stream| {
                stream.set_read_timeout(Some(limit))?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            }))
        })
        .unwrap()
}

/// A UDP socket of `netns` that talks to `address:port` and to nobody else.
pub(crate) fn udp(netns: &Netns, address: &str, port: u16) -> UdpSocket {
    let to = SocketAddr::new(address.parse().unwrap(), port);
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = netns.run(|| Ok(UdpSocket::bind((any, 0))?)).unwrap();
    netns.run(|| Ok(socket.connect(to)?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// The answer to one packet.
pub(crate) fn ask_udp(socket: &UdpSocket) -> Result<String, std::io::Error> {
    let mut answer = [0; 64];
    socket.send(b"who?")?;
    let length = loop {
        match socket.recv(&mut answer) {
            // With a time limit the kernel does not begin anew by itself.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
