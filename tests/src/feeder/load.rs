//! Tables to feed: prefixes and attributes in the proportions of the Internet's.
//!
//! 60 % /24, the rest /16 to /23; one attribute set per 7.6 prefixes; AS paths of 3 to 6 hops, 1 to 5
//! communities, large communities on a fifth: about 14 bytes of UPDATE per prefix. IPv6: half /48, the
//! rest /32 to /47. The same seed gives the same table.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::message::{self, Attributes};

/// One attribute set and the prefixes that share it.
#[derive(Debug, Clone)]
pub struct Group {
    /// What is said of them.
    pub attributes: Attributes,
    /// At least one.
    pub prefixes: Vec<IpNet>,
}

/// A table of `count` different prefixes of the family of `next_hop`, as `local_as` would announce it.
pub fn internet(count: usize, seed: u64, local_as: u32, next_hop: IpAddr) -> Vec<Group> {
    let mut random = Random(seed | 1);
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    while seen.len() < count {
        // 1 to 14, 7.6 on average over many.
        let size = (1 + random.below(14) as usize).min(count - seen.len());
        let mut prefixes = Vec::with_capacity(size);
        while prefixes.len() < size {
            let prefix = if next_hop.is_ipv4() { random.v4() } else { random.v6() };
            if seen.insert(prefix) {
                prefixes.push(prefix);
            }
        }
        groups.push(Group { attributes: random.attributes(local_as, next_hop), prefixes });
    }
    groups
}

/// The UPDATEs that announce a table.
pub fn announcements(table: &[Group]) -> Vec<u8> {
    table.iter().flat_map(|group| message::announce(&group.attributes, &group.prefixes)).collect()
}

/// The UPDATEs that withdraw a table.
pub fn withdrawals(table: &[Group]) -> Vec<u8> {
    message::withdraw(&table.iter().flat_map(|group| group.prefixes.iter().copied()).collect::<Vec<_>>())
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }

    fn v4(&mut self) -> IpNet {
        let length = match self.below(100) {
            0..60 => 24,
            60..76 => 23,
            76..86 => 22,
            86..91 => 21,
            91..95 => 20,
            95..97 => 19,
            97..98 => 18,
            98..99 => 17,
            _ => 16,
        };
        loop {
            let address = Ipv4Addr::from(self.next() as u32);
            // Ordinary unicast space: speakers refuse or ignore routes to the rest.
            if matches!(address.octets()[0], 11..=99 | 101..=126 | 128..=168 | 170 | 171 | 173..=191 | 193..=197 | 199..=202 | 204..=223)
            {
                return IpNet::new_assert(address.into(), length).trunc();
            }
        }
    }

    fn v6(&mut self) -> IpNet {
        let length = if self.below(2) == 0 { 48 } else { 32 + self.below(16) as u8 };
        let address = u128::from(0x2a00_0000_0000_0000 | (self.next() & 0x000f_ffff_ffff_ffff)) << 64;
        IpNet::new_assert(Ipv6Addr::from(address).into(), length).trunc()
    }

    fn attributes(&mut self, local_as: u32, next_hop: IpAddr) -> Attributes {
        let mut as_path = vec![local_as];
        for _ in 0..2 + self.below(4) {
            as_path.push(1000 + self.below(60_000) as u32);
        }
        let mut attributes = Attributes::new(&as_path, next_hop);
        for _ in 0..1 + self.below(5) {
            attributes.communities.push((1000 + self.below(60_000) as u32) << 16 | self.below(1000) as u32);
        }
        if self.below(5) == 0 {
            attributes.large_communities.push([as_path[1], self.below(100) as u32, self.below(100) as u32]);
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_proportions_it_promises() {
        let table = internet(20_000, 7, 65_001, "10.0.0.1".parse().unwrap());
        let prefixes: Vec<IpNet> = table.iter().flat_map(|group| group.prefixes.clone()).collect();
        assert_eq!(prefixes.iter().collect::<HashSet<_>>().len(), 20_000);
        let share = prefixes.iter().filter(|prefix| prefix.prefix_len() == 24).count();
        assert!((11_000..13_000).contains(&share), "{share}");
        let bytes = announcements(&table).len() as f64 / 20_000.0;
        assert!((12.0..16.5).contains(&bytes), "{bytes} bytes per prefix");
        let again = internet(20_000, 7, 65_001, "10.0.0.1".parse().unwrap());
        assert_eq!(announcements(&again), announcements(&table));
        let v6 = internet(1000, 7, 65_001, "fd00::1".parse().unwrap());
        assert!(
            v6.iter()
                .flat_map(|group| &group.prefixes)
                .all(|prefix| (32..=48).contains(&prefix.prefix_len()))
        );
    }
}
