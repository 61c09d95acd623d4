//! What the session tests share: a peer and a speaker.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use api::desired::{
    AfiSafi, Family, GracefulRestart, MaxPrefix, MaxPrefixAction, Neighbor, NextHopMode, Passive, Peer,
    RemoteAsn, RestartMode, Source, Timers, Ttl,
};
use bgp_speaker::session::{Endpoints, LocalSpeaker};

pub(crate) const V4: AfiSafi = AfiSafi::Ipv4Unicast;
pub(crate) const V6: AfiSafi = AfiSafi::Ipv6Unicast;

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn family(afi_safi: AfiSafi) -> Family {
    let max_prefix = MaxPrefix { limit: 1_000_000, warn_at: 75, action: MaxPrefixAction::Restart };
    Family { afi_safi, extended_next_hop: afi_safi == V4, max_prefix }
}

/// A peer of AS `local` that expects AS `remote`, both families, helper and restarter.
pub(crate) fn peer(local: u32, remote: u32) -> Peer {
    Peer {
        name: "tor".into(),
        neighbor: Neighbor::Address { address: IpAddr::from([192, 0, 2, 9]), interface: None },
        port: 179,
        local_asn: local,
        remote_asn: RemoteAsn::Number(remote),
        source: Source::Kernel,
        bind_interface: None,
        md5: None,
        timers: Timers {
            hold: secs(90),
            keepalive: secs(30),
            connect_retry: secs(5),
            idle_hold_max: secs(60),
        },
        ttl: Ttl::Multihop(1),
        passive: Passive::Auto,
        graceful_restart: GracefulRestart {
            mode: RestartMode::Restarter,
            restart_time: secs(120),
            stale_path_time: secs(360),
        },
        families: vec![family(V4), family(V6)],
        next_hop: NextHopMode::Auto,
        allow_local_as: 0,
        enforce_first_as: true,
        paused: None,
    }
}

pub(crate) fn speaker(last_octet: u8) -> LocalSpeaker {
    LocalSpeaker {
        router_id: Ipv4Addr::new(10, 0, 0, last_octet),
        host_name: String::new(),
        restarting: false,
        forwarding_preserved: vec![V4, V6],
    }
}

pub(crate) fn endpoints() -> Endpoints {
    let at = |octet, port| SocketAddr::from(([192, 0, 2, octet], port));
    Endpoints { local: at(1, 40000), remote: at(9, 179), ifindex: Some(3) }
}
