//! `towpath lab netem`: delay, loss and the like on a link, with the flags of `containerlab tools netem`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::find_lab;
use crate::{Impairment, Lab, Loss};

/// What to do with the impairment of an interface.
#[derive(Debug, Subcommand)]
pub enum NetemCommand {
    /// Impair what an interface sends.
    Set {
        /// Where.
        #[command(flatten)]
        at: Interface,
        /// Time every packet waits, such as 50ms.
        #[arg(long, default_value = "0ms", value_parser = time)]
        delay: Duration,
        /// How much the delay varies; needs --delay.
        #[arg(long, default_value = "0ms", value_parser = time)]
        jitter: Duration,
        /// Packets lost, in percent. Works without netem too.
        #[arg(long, default_value = "0")]
        loss: Loss,
        /// Speed of the line in kbit/s; 0: no limit.
        #[arg(long, default_value_t = 0)]
        rate: u32,
        /// Packets with a flipped bit, in percent.
        #[arg(long, default_value = "0")]
        corruption: Loss,
    },
    /// Show the impairments of a node's interfaces.
    Show {
        /// Lab, where more than one runs.
        #[arg(short, long)]
        lab: Option<String>,
        /// Node name.
        #[arg(required_unless_present = "of_node")]
        node: Option<String>,
        /// Node name, as containerlab takes it.
        #[arg(short = 'n', long = "node", id = "of_node", value_name = "NODE", conflicts_with = "node")]
        of_node: Option<String>,
    },
    /// Make an interface as good as new.
    Reset {
        /// Where.
        #[command(flatten)]
        at: Interface,
    },
}

/// An interface, in our form or in containerlab's.
#[derive(Debug, Args)]
pub struct Interface {
    /// Lab, where more than one runs.
    #[arg(short, long)]
    lab: Option<String>,
    /// Node name.
    #[arg(required_unless_present = "of_node")]
    node: Option<String>,
    /// Interface as in the file.
    #[arg(required_unless_present = "of_interface")]
    interface: Option<String>,
    /// Node name, as containerlab takes it.
    #[arg(short = 'n', long = "node", id = "of_node", value_name = "NODE", conflicts_with = "node")]
    of_node: Option<String>,
    /// Interface, as containerlab takes it.
    #[arg(
        short = 'i',
        long = "interface",
        id = "of_interface",
        value_name = "INTERFACE",
        conflicts_with = "interface"
    )]
    of_interface: Option<String>,
}

impl Interface {
    /// `NODE:INTERFACE`.
    fn end(&self) -> String {
        let word = |one: &Option<String>, other: &Option<String>| {
            one.as_ref().or(other.as_ref()).cloned().unwrap_or_default()
        };
        format!("{}:{}", word(&self.node, &self.of_node), word(&self.interface, &self.of_interface))
    }
}

pub(super) fn run(command: NetemCommand) -> anyhow::Result<()> {
    match command {
        NetemCommand::Set { at, delay, jitter, loss, rate, corruption } => {
            let impairment = Impairment { delay, jitter, loss, rate_kbit: rate, corruption };
            let lab = find_lab(at.lab.as_deref())?;
            lab.impair(&at.end(), &impairment)?;
            show(&lab, &[at.end()])
        }
        NetemCommand::Show { lab, node, of_node } => {
            let lab = find_lab(lab.as_deref())?;
            let node = lab.find(&node.or(of_node).unwrap_or_default())?;
            let ends = lab.topology().links.iter().flat_map(|link| &link.ends);
            let own = ends.filter(|end| end.node == node.name());
            show(&lab, &own.map(|end| format!("{}:{}", end.node, end.interface)).collect::<Vec<_>>())
        }
        NetemCommand::Reset { at } => Ok(find_lab(at.lab.as_deref())?.heal(&at.end())?),
    }
}

fn show(lab: &Lab, ends: &[String]) -> anyhow::Result<()> {
    println!(
        "{:<24} {:>10} {:>10} {:>10} {:>14} {:>10}  BY",
        "INTERFACE", "DELAY", "JITTER", "LOSS", "RATE (KBIT/S)", "CORRUPTION"
    );
    for end in ends {
        let found = lab.impairment(end)?;
        let by = found.map_or("-".to_owned(), |(_, means)| means.to_string());
        let Impairment { delay, jitter, loss, rate_kbit, corruption } =
            found.map(|(impairment, _)| impairment).unwrap_or_default();
        let (delay, jitter) = (format!("{delay:?}"), format!("{jitter:?}"));
        let [loss, corruption] = [loss, corruption].map(|share| format!("{} %", share.as_percent()));
        println!("{end:<24} {delay:>10} {jitter:>10} {loss:>10} {rate_kbit:>14} {corruption:>10}  {by}");
    }
    Ok(())
}

/// `50ms`, `1.5s`, `200us`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write 50ms, 1.5s or 200us");
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let cases = [
            ("50ms", Some(Duration::from_millis(50))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("200us", Some(Duration::from_micros(200))),
            ("0ms", Some(Duration::ZERO)),
            ("50", None),
            ("-1s", None),
            ("1h", None),
            ("ms", None),
            ("nans", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text).ok(), expected, "{text}");
        }
    }
}
