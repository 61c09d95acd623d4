//! `tc qdisc ... netem` on an interface: delay, jitter, loss, rate and corruption of what it sends.
//!
//! In: an [`Impairment`]. Out: rtnetlink requests in the calling thread's network namespace, the
//! same bytes that tc(8) sends. A kernel without netem is told apart from other refusals, so that
//! the caller can do part of it another way.
//!
//! Source: `linux/pkt_sched.h`, tc-netem(8).

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Loss;
use crate::kernel::netlink::{Netlink, attribute, attributes, frame, ifindex};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const TC_H_ROOT: u32 = u32::MAX;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_RATE: u16 = 6;
const NETEM: &[u8] = b"netem\0";

/// Size of `struct tcmsg` and of `struct tc_netem_qopt`.
const TCMSG: usize = 20;
const QOPT: usize = 24;

/// One tick of the packet scheduler, in every kernel since 2.6.31 (`/proc/net/psched`).
const TICK: Duration = Duration::from_nanos(64);

/// Packets that wait to be sent; more are lost. tc's own default.
const LIMIT: u32 = 1000;

/// What happens to packets that leave an interface. The default: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impairment {
    /// Time every packet waits.
    pub delay: Duration,
    /// How much longer or shorter than `delay` a packet may wait, at random.
    pub jitter: Duration,
    /// Share of the packets that is lost.
    pub loss: Loss,
    /// Kilobits per second, as on a line of that speed; 0: no limit.
    pub rate_kbit: u32,
    /// Share of the packets in which a bit is flipped.
    pub corruption: Loss,
}

/// What of an [`Impairment`] cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadImpairment {
    /// Only a delay can vary.
    #[error("a jitter needs a delay; set --delay too")]
    JitterWithoutDelay,
    /// The kernel counts in 32 bits.
    #[error("{what} is more than the kernel can do; use at most {most}")]
    TooMuch {
        /// Which value.
        what: &'static str,
        /// The greatest one, with its unit.
        most: &'static str,
    },
    /// Then the interface is as it was.
    #[error("nothing to set; name --delay, --jitter, --loss, --rate or --corruption, or use `reset`")]
    Nothing,
}

impl Impairment {
    /// Whether the kernel could do it, if it has netem.
    ///
    /// # Errors
    /// What is impossible about it.
    pub fn check(&self) -> Result<(), BadImpairment> {
        let too_much = |what, most| Err(BadImpairment::TooMuch { what, most });
        match self {
            nothing if *nothing == Self::default() => Err(BadImpairment::Nothing),
            Self { delay, jitter, .. } if !jitter.is_zero() && delay.is_zero() => {
                Err(BadImpairment::JitterWithoutDelay)
            }
            Self { delay, .. } if ticks(*delay).is_none() => too_much("--delay", "4 minutes"),
            Self { jitter, .. } if ticks(*jitter).is_none() => too_much("--jitter", "4 minutes"),
            Self { rate_kbit, .. } if rate_kbit.checked_mul(125).is_none() => {
                too_much("--rate", "34000000 kbit/s")
            }
            _ => Ok(()),
        }
    }

    /// All it does is to lose packets.
    pub(crate) fn is_loss_only(&self) -> bool {
        *self == Self { loss: self.loss, ..Self::default() }
    }
}

/// What became of a request that needs netem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Done,
    /// The kernel has no netem (CONFIG_NET_SCH_NETEM).
    Lacking,
}

/// Makes `device` treat what it sends like this, instead of an earlier impairment.
pub(crate) fn set(device: &str, impairment: &Impairment) -> io::Result<Outcome> {
    let options = attribute(TCA_OPTIONS, &options(impairment));
    let body = [tcmsg(ifindex(device)?), attribute(TCA_KIND, NETEM), options].concat();
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    match Netlink::route()?.exchange(&frame(RTM_NEWQDISC, flags, 1, &body), 1) {
        // The device is there, so it is the kind that was not found.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Outcome::Lacking),
        outcome => outcome.map(|()| Outcome::Done),
    }
}

/// Removes the impairment of `device`. Repeating it changes nothing.
pub(crate) fn reset(device: &str) -> io::Result<()> {
    if show(device)?.is_none() {
        return Ok(());
    }
    let body = tcmsg(ifindex(device)?);
    Netlink::route()?.exchange(&frame(RTM_DELQDISC, NLM_F_REQUEST | NLM_F_ACK, 1, &body), 1)
}

/// The impairment of `device`, if netem does one.
pub(crate) fn show(device: &str) -> io::Result<Option<Impairment>> {
    let index = ifindex(device)?;
    let request = frame(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, 1, &tcmsg(index));
    let answers = Netlink::route()?.dump(&request)?;
    Ok(answers.iter().find_map(|(_, body)| read_qdisc(body, index)))
}

/// `struct tcmsg`: family, padding, ifindex, handle, parent, info.
fn tcmsg(ifindex: u32) -> Vec<u8> {
    [0, ifindex, 0, TC_H_ROOT, 0].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct tc_netem_qopt` (latency, limit, loss, gap, duplicate, jitter) and the attributes behind it.
fn options(impairment: &Impairment) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    // Checked at the door; more than the kernel can count is the most it can.
    let ticks = |time| ticks(time).unwrap_or(u32::MAX);
    let Impairment { delay, jitter, loss, rate_kbit, corruption } = impairment;
    let mut bytes = words(&[ticks(*delay), LIMIT, probability(*loss), 0, 0, ticks(*jitter)]);
    if !corruption.is_none() {
        // Probability and correlation.
        bytes.extend(attribute(TCA_NETEM_CORRUPT, &words(&[probability(*corruption), 0])));
    }
    if *rate_kbit > 0 {
        // Bytes per second, packet overhead, cell size, cell overhead.
        bytes.extend(attribute(TCA_NETEM_RATE, &words(&[rate_kbit.saturating_mul(125), 0, 0, 0])));
    }
    bytes
}

fn read_qdisc(body: &[u8], index: u32) -> Option<Impairment> {
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at * 4..at * 4 + 4)?.try_into().ok()?))
    };
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let given = body.get(TCMSG..)?;
    if word(body, 1) != Some(index) || find(given, TCA_KIND) != Some(NETEM) {
        return None;
    }
    let options = find(given, TCA_OPTIONS)?;
    let behind = options.get(QOPT..)?;
    let first = |kind| find(behind, kind).and_then(|value| word(value, 0)).unwrap_or_default();
    Some(Impairment {
        delay: TICK * word(options, 0)?,
        jitter: TICK * word(options, 5)?,
        loss: share(word(options, 2)?),
        rate_kbit: first(TCA_NETEM_RATE) / 125,
        corruption: share(first(TCA_NETEM_CORRUPT)),
    })
}

fn ticks(time: Duration) -> Option<u32> {
    u32::try_from(time.as_nanos() / TICK.as_nanos()).ok()
}

/// A share of the 32 bit numbers, rounded as tc does.
fn probability(loss: Loss) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most u32::MAX, as a percentage is at most 100"
    )]
    let share = (loss.as_percent() / 100.0 * f64::from(u32::MAX)).round_ties_even() as u32;
    share
}

fn share(probability: u32) -> Loss {
    Loss::percent(f64::from(probability) / f64::from(u32::MAX) * 100.0)
        .expect("a share of the 32 bit numbers is a percentage")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(percent: f64) -> Loss {
        Loss::percent(percent).unwrap()
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// TCA_OPTIONS out of `tc qdisc replace dev v0 root netem ...` of iproute2 6.1.0, captured with
    /// strace on a little-endian machine (tc sends them even if the kernel has no netem).
    #[test]
    #[cfg(target_endian = "little")]
    fn options_are_what_tc_sends() {
        let ms = Duration::from_millis;
        let all = Impairment {
            delay: ms(100),
            jitter: ms(10),
            loss: loss(30.0),
            rate_kbit: 1000,
            corruption: loss(0.5),
        };
        let cases = [
            (
                "delay 100ms 10ms loss 30% rate 1000kbit corrupt 0.5%",
                all,
                "84d71700 e8030000 cccccc4c 00000000 00000000 5a620200 0c000400 14ae4701 00000000 \
                 14000600 48e80100 00000000 00000000 00000000",
            ),
            (
                "loss 0.1%",
                Impairment { loss: loss(0.1), ..Impairment::default() },
                "00000000 e8030000 37894100 00000000 00000000 00000000",
            ),
            (
                "delay 5ms",
                Impairment { delay: ms(5), ..Impairment::default() },
                "2d310100 e8030000 00000000 00000000 00000000 00000000",
            ),
            (
                "rate 10gbit",
                Impairment { rate_kbit: 10_000_000, ..Impairment::default() },
                "00000000 e8030000 00000000 00000000 00000000 00000000 \
                 14000600 807c814a 00000000 00000000 00000000",
            ),
        ];
        for (name, impairment, expected) in cases {
            let bytes = options(&impairment);
            assert_eq!(bytes, hex(expected), "{name}");
            // A kernel answers with the same attributes.
            let body = [tcmsg(7), attribute(TCA_KIND, NETEM), attribute(TCA_OPTIONS, &bytes)].concat();
            assert_eq!(read_qdisc(&body, 7), Some(impairment), "{name}");
            assert_eq!(read_qdisc(&body, 8), None, "{name}: another device");
        }
    }

    #[test]
    fn what_the_kernel_cannot_do_is_refused_before() {
        let some = Impairment { loss: loss(1.0), ..Impairment::default() };
        let long = Duration::from_secs(300);
        let cases = [
            (Impairment::default(), "nothing to set"),
            (Impairment { jitter: Duration::from_millis(1), ..some }, "needs a delay"),
            (Impairment { delay: long, ..some }, "--delay is more"),
            (Impairment { delay: TICK, jitter: long, ..some }, "--jitter is more"),
            (Impairment { rate_kbit: u32::MAX, ..some }, "--rate is more"),
        ];
        for (impairment, expected) in cases {
            let error = impairment.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(some.check(), Ok(()));
    }
}
