//! Queueing disciplines, the filter and its action, as rtnetlink has them.

use netlink::read::{attributes, text, u32_at};
use netlink::{Attributes, Batch, Body, Error, Message, Socket, flags};

use super::tbf::{Installed, Tbf};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TC_H_ROOT: u32 = u32::MAX;
const TC_H_CLSACT: u32 = 0xffff_fff1;
/// Where the filters of arriving packets hang, below clsact as below ingress.
const TC_H_CLSACT_INGRESS: u32 = 0xffff_fff2;
const TBF_HANDLE: u32 = 1 << 16;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCMSG: usize = 20;

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;

const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;
const TC_ACT_STOLEN: u32 = 4;
/// Where `struct tc_mirred` has its target's ifindex: behind five numbers of `tc_gen` and the kind of redirection.
const MIRRED_IFINDEX: usize = 24;

/// The request that may find another's clsact or ingress there, which serves as well.
pub(super) const MAKING_CLSACT: &str = "making the clsact queueing discipline";

/// `struct tcmsg`.
fn tcmsg(body: &mut Body<'_>, ifindex: u32, handle: u32, parent: u32, info: u32) {
    let mut octets = [0; TCMSG];
    for (place, word) in octets.chunks_exact_mut(4).zip([0, ifindex, handle, parent, info]) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    body.header(&octets);
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `tc qdisc replace dev IFINDEX root handle 1: tbf`
pub(super) fn add_tbf(batch: &mut Batch, ifindex: u32, tbf: &Tbf) {
    let replace = flags::CREATE | flags::REPLACE;
    batch.request("limiting the rate (tbf)", RTM_NEWQDISC, replace, |body| {
        tcmsg(body, ifindex, TBF_HANDLE, TC_H_ROOT, 0);
        body.text(TCA_KIND, "tbf");
        body.nest(TCA_OPTIONS, |options| {
            // struct tc_tbf_qopt: two struct tc_ratespec (the second, the peak rate, is none), limit, buffer, mtu.
            let ratespec = [0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
            let rate = u32::try_from(tbf.rate).unwrap_or(u32::MAX);
            let parms =
                [&ratespec[..], &words(&[rate]), &[0; 12], &words(&[tbf.limit, tbf.buffer(), 0])].concat();
            options.bytes(TCA_TBF_PARMS, &parms);
            if rate == u32::MAX {
                options.bytes(TCA_TBF_RATE64, &tbf.rate.to_ne_bytes());
            }
            options.u32(TCA_TBF_BURST, tbf.burst);
        });
    });
}

/// The token bucket at the root of an interface; `None`: something else is there.
pub(super) fn tbf(socket: &mut Socket, ifindex: u32) -> Result<Option<Installed>, Error> {
    let found = socket.get(
        "asking for the queueing discipline",
        RTM_GETQDISC,
        |body| tcmsg(body, ifindex, 0, TC_H_ROOT, 0),
        read_tbf,
    );
    match found {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        found => found,
    }
}

fn read_tbf(message: &Message<'_>) -> Option<Installed> {
    let find =
        |wanted| attributes(message.payload, TCMSG).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    if text(find(TCA_KIND)?) != "tbf" {
        return None;
    }
    let options = find(TCA_OPTIONS)?;
    let option = |wanted| Attributes(options).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let parms = option(TCA_TBF_PARMS)?;
    let rate64 = option(TCA_TBF_RATE64).and_then(|value| Some(u64::from_ne_bytes(value.try_into().ok()?)));
    Some(Installed {
        rate: rate64.or(u32_at(parms, 8).map(u64::from))?,
        limit: u32_at(parms, 24)?,
        buffer: u32_at(parms, 28)?,
    })
}

/// `tc qdisc add dev IFINDEX clsact` and a filter that sends whatever arrives to another interface's way out.
pub(super) fn redirect(batch: &mut Batch, ifindex: u32, to: u32) {
    const ALL_PACKETS: u32 = (1 << 16) | ((libc::ETH_P_ALL as u16).to_be() as u32);
    batch.request(MAKING_CLSACT, RTM_NEWQDISC, flags::CREATE | flags::EXCL, |body| {
        tcmsg(body, ifindex, 0xffff << 16, TC_H_CLSACT, 0);
        body.text(TCA_KIND, "clsact");
    });
    batch.request("redirecting what the pod sends", RTM_NEWTFILTER, flags::CREATE | flags::EXCL, |body| {
        tcmsg(body, ifindex, 0, TC_H_CLSACT_INGRESS, ALL_PACKETS);
        body.text(TCA_KIND, "u32");
        body.nest(TCA_OPTIONS, |options| {
            // struct tc_u32_sel with one key that every packet matches: mask and value 0.
            let mut selector = [0; 32];
            (selector[0], selector[2]) = (TC_U32_TERMINAL, 1);
            options.bytes(TCA_U32_SEL, &selector);
            options.nest(TCA_U32_ACT, |actions| {
                actions.nest(1, |action| {
                    action.text(TCA_ACT_KIND, "mirred");
                    action.nest(TCA_ACT_OPTIONS, |mirred| {
                        let parms = words(&[0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to]);
                        mirred.bytes(TCA_MIRRED_PARMS, &parms);
                    });
                });
            });
        });
    });
}

/// Whether what arrives on the interface is redirected there.
pub(super) fn has_redirect(socket: &mut Socket, ifindex: u32, to: u32) -> Result<bool, Error> {
    let found = socket.dump(
        "listing filters",
        RTM_GETTFILTER,
        |body| tcmsg(body, ifindex, 0, TC_H_CLSACT_INGRESS, 0),
        |found: &mut bool, message| *found |= redirects_to(message) == Some(to),
    );
    match found {
        // Neither clsact nor ingress is there.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
        found => found,
    }
}

fn redirects_to(message: &Message<'_>) -> Option<u32> {
    let in_list = |list, wanted| Attributes(list).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let options = in_list(message.payload.get(TCMSG..)?, TCA_OPTIONS)?;
    let action = in_list(in_list(options, TCA_U32_ACT)?, 1)?;
    if text(in_list(action, TCA_ACT_KIND)?) != "mirred" {
        return None;
    }
    u32_at(in_list(in_list(action, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?, MIRRED_IFINDEX)
}
