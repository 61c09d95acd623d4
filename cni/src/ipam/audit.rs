//! Do rows and links agree? What `towpath ipam check` finds, in words. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::recover::Found;
use super::{Lease, LeaseState};
use crate::{Addresses, Attachment};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Addresses are leased and nobody is wired: the pod's namespace is gone, or its link was removed.
    RowWithoutLink(Lease),
    /// An ADD ended before the pod was wired.
    Unfinished(Lease),
    /// A pod is wired with addresses the ledger does not know of.
    LinkWithoutRow(Found),
    /// A pod is wired with other addresses than it leased.
    Differs {
        /// The row.
        lease: Lease,
        /// The link.
        link: Found,
    },
    /// Two attachments have one address.
    Doubled {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holders: Vec<Attachment>,
    },
}

impl Finding {
    /// One word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RowWithoutLink(_) => "rowWithoutLink",
            Self::Unfinished(_) => "unfinished",
            Self::LinkWithoutRow(_) => "linkWithoutRow",
            Self::Differs { .. } => "differs",
            Self::Doubled { .. } => "doubled",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RowWithoutLink(lease) => {
                write!(f, "{} is leased to {} and no link leads there", lease.addresses, lease.attachment)
            }
            Self::Unfinished(lease) => {
                write!(f, "{} is leased to {}, whose ADD did not end", lease.addresses, lease.attachment)
            }
            Self::LinkWithoutRow(link) => {
                write!(f, "{} leads to {}, which has no lease", link.addresses, link.attachment)
            }
            Self::Differs { lease, link } => {
                write!(f, "{} leads to {}, which leased {}", link.addresses, link.attachment, lease.addresses)
            }
            Self::Doubled { address, holders } => {
                let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
                write!(f, "{address} is had by {}", holders.join(" and by "))
            }
        }
    }
}

/// Compares rows and links. `is_running`: whether the ADD of an intent still runs; such rows are left alone.
///
/// Read the links first: an ADD has its row before its link, so no wire seems to be without a row.
#[must_use]
pub fn audit(links: &[Found], rows: &[Lease], is_running: impl Fn(&Lease) -> bool) -> Vec<Finding> {
    let wired: BTreeMap<&Attachment, &Found> = links.iter().map(|link| (&link.attachment, link)).collect();
    let leased: BTreeMap<&Attachment, &Lease> = rows.iter().map(|row| (&row.attachment, row)).collect();
    let mut findings = Vec::new();
    for row in rows {
        let link = wired.get(&row.attachment).copied();
        findings.extend(match (row.state, link) {
            (LeaseState::Intent, _) if is_running(row) => None,
            (LeaseState::Intent, _) => Some(Finding::Unfinished(row.clone())),
            (LeaseState::Ready, None) => Some(Finding::RowWithoutLink(row.clone())),
            (LeaseState::Ready, Some(link)) if link.addresses != row.addresses => {
                Some(Finding::Differs { lease: row.clone(), link: link.clone() })
            }
            (LeaseState::Ready, Some(_)) => None,
        });
    }
    let unknown = links.iter().filter(|link| !leased.contains_key(&link.attachment));
    findings.extend(unknown.cloned().map(Finding::LinkWithoutRow));
    findings.extend(doubled(links, rows));
    findings
}

fn doubled(links: &[Found], rows: &[Lease]) -> Vec<Finding> {
    let mut holders: BTreeMap<IpAddr, Vec<Attachment>> = BTreeMap::new();
    let had = links.iter().map(|link| (&link.attachment, &link.addresses));
    let leased = rows.iter().map(|row| (&row.attachment, &row.addresses));
    for (attachment, addresses) in had.chain(leased) {
        for address in Addresses::iter(addresses) {
            let holders = holders.entry(address).or_default();
            if !holders.contains(attachment) {
                holders.push(attachment.clone());
            }
        }
    }
    holders.retain(|_, holders| holders.len() > 1);
    holders.into_iter().map(|(address, holders)| Finding::Doubled { address, holders }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerId, IfName, NetworkName};

    fn attachment(id: &str) -> Attachment {
        Attachment {
            network: NetworkName::parse("net").unwrap(),
            container_id: ContainerId::parse(id).unwrap(),
            ifname: IfName::parse("eth0").unwrap(),
        }
    }

    fn addresses(last: u8) -> Addresses {
        Addresses { v4: Some([10, 0, 0, last].into()), v6: None }
    }

    fn row(id: &str, last: u8, state: LeaseState) -> Lease {
        Lease {
            attachment: attachment(id),
            addresses: addresses(last),
            state,
            process: None,
            netns: None,
            pod: None,
            ports: false,
            shaped: false,
            claimed_at: 0,
            id: 1,
        }
    }

    fn link(id: &str, last: u8) -> Found {
        Found { attachment: attachment(id), addresses: addresses(last) }
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        use LeaseState::{Intent, Ready};
        let said = |links: &[Found], rows: &[Lease], running: bool| -> Vec<String> {
            audit(links, rows, |_| running).iter().map(ToString::to_string).collect()
        };
        let none: [String; 0] = [];
        assert_eq!(said(&[link("a", 1)], &[row("a", 1, Ready)], false), none);
        assert_eq!(said(&[], &[row("a", 1, Intent)], true), none, "an ADD runs");
        assert_eq!(
            said(&[link("b", 2)], &[row("a", 1, Ready), row("c", 3, Intent)], false),
            [
                "10.0.0.1 is leased to net a eth0 and no link leads there",
                "10.0.0.3 is leased to net c eth0, whose ADD did not end",
                "10.0.0.2 leads to net b eth0, which has no lease",
            ]
        );
        assert_eq!(
            said(&[link("a", 2), link("b", 2)], &[row("a", 1, Ready), row("b", 2, Ready)], false),
            [
                "10.0.0.2 leads to net a eth0, which leased 10.0.0.1",
                "10.0.0.2 is had by net a eth0 and by net b eth0",
            ]
        );
    }
}
