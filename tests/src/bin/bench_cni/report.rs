//! The tables: what was measured, and what it is beside what it must be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::contender::Who;
use crate::load::Samples;

/// Everything measured in one run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    one_by_one: BTreeMap<Who, Samples>,
    all_at_once: BTreeMap<Who, Samples>,
    pub(crate) version: Vec<Duration>,
    pub(crate) empty: Vec<Duration>,
    pub(crate) commit: Vec<Duration>,
    /// Part of the processors' time that others used.
    pub(crate) others: f64,
}

/// A line of the table of verdicts.
struct Verdict {
    metric: &'static str,
    measured: f64,
    must: Bound,
    aim: Bound,
    /// "x", " ms", " MB".
    unit: &'static str,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtMost(bound) => value <= bound,
            AtLeast(bound) => value >= bound,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            AtMost(bound) => format!("<= {bound}{unit}"),
            AtLeast(bound) => format!(">= {bound}{unit}"),
        }
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match (self.must.holds(self.measured), self.aim.holds(self.measured)) {
            (false, _) => "**missed**",
            (true, false) => "must",
            (true, true) => "aim",
        }
    }
}

/// The value below which `share` of the times lie, in milliseconds.
fn quantile(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

fn p50(times: &[Duration]) -> f64 {
    quantile(times, 0.5)
}

fn p99(times: &[Duration]) -> f64 {
    quantile(times, 0.99)
}

/// Calls in a second.
fn rate(times: &[Duration], span: Duration) -> f64 {
    times.len() as f64 / span.as_secs_f64()
}

fn per_call_ms(total: Duration, calls: usize) -> f64 {
    total.as_secs_f64() * 1e3 / calls as f64
}

impl Results {
    pub(crate) fn one_by_one(&mut self, who: Who) -> &mut Samples {
        self.one_by_one.entry(who).or_default()
    }

    pub(crate) fn all_at_once(&mut self, who: Who) -> &mut Samples {
        self.all_at_once.entry(who).or_default()
    }

    /// Both tables, under a heading with `circumstances`.
    pub(crate) fn table(&self, circumstances: &str, plugin_bytes: u64) -> String {
        let mut text = format!("### CNI: a pod's network, made and taken away\n\n{circumstances}\n\n");
        text.push_str("| metric | measured | must | aim | reached |\n|---|---|---|---|---|\n");
        for verdict in self.verdicts(plugin_bytes) {
            let Verdict { metric, measured, must, aim, unit } = &verdict;
            let digits = if *measured < 0.1 { 4 } else { 2 };
            let (must, aim, word) = (must.text(unit), aim.text(unit), verdict.word());
            line(
                &mut text,
                format_args!("| {metric} | {measured:.digits$}{unit} | {must} | {aim} | {word} |"),
            );
        }
        text.push_str("\nMilliseconds, one call at a time and 32 at once:\n\n");
        text.push_str("| contender | at once | ADDs | ADD p50 | p99 | DEL p50 | p99 | ADD/s | DEL/s | CPU per ADD | CPU per DEL |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
        for (at_once, results) in [(1, &self.one_by_one), (super::AT_ONCE, &self.all_at_once)] {
            for (who, samples) in results {
                let Samples { add, del, add_total, del_total } = samples;
                let (adds, dels) = (rate(add, add_total.span), rate(del, del_total.span));
                let mut figures = String::new();
                for value in [p50(add), p99(add), p50(del), p99(del)] {
                    let digits = if value < 100.0 { 2 } else { 0 };
                    figures.push_str(&format!(" {value:.digits$} |"));
                }
                let cpu = match at_once {
                    1 => format!(
                        "{:.2} | {:.2}",
                        per_call_ms(add_total.cpu, add.len()),
                        per_call_ms(del_total.cpu, del.len())
                    ),
                    _ => "|".to_owned(),
                };
                let (name, count) = (who.name(), add.len());
                line(
                    &mut text,
                    format_args!("| {name} | {at_once} | {count} |{figures} {adds:.0} | {dels:.0} | {cpu} |"),
                );
            }
        }
        let (version, empty) = (&self.version, &self.empty);
        line(
            &mut text,
            format_args!(
                "\nStart and end of a process: VERSION p50 {:.2} ms, p99 {:.2}; an empty static program p50 {:.2} ms, p99 {:.2}.",
                p50(version),
                p99(version),
                p50(empty),
                p99(empty)
            ),
        );
        let (p50, p99, others) = (p50(&self.commit), p99(&self.commit), self.others * 100.0);
        line(
            &mut text,
            format_args!(
                "\nA commit of a few octets to the disk (fdatasync), which every ADD of ours waits for: p50 {p50:.2} ms, p99 {p99:.2}. Others used {others:.0} % of the processors: on a busy machine a commit waits for its turn, and so do we."
            ),
        );
        text
    }

    fn verdicts(&self, plugin_bytes: u64) -> Vec<Verdict> {
        let none = Samples::default();
        let one = |who: Who| self.one_by_one.get(&who).unwrap_or(&none);
        let many = |who: Who| self.all_at_once.get(&who).unwrap_or(&none);
        let ratio = |metric, measured, must, aim| Verdict { metric, measured, must, aim, unit: "x" };
        let add = |a: &Samples, b: &Samples| p50(&a.add) / p50(&b.add);
        let del = |a: &Samples, b: &Samples| p50(&a.del) / p50(&b.del);
        let adds = |samples: &Samples| rate(&samples.add, samples.add_total.span);
        let dels = |samples: &Samples| rate(&samples.del, samples.del_total.span);
        let (v4, dual, full) = (one(Who::OursV4), one(Who::OursDual), one(Who::OursFull));
        let (ptp, ptp_dual, ptp_full) = (one(Who::PtpV4), one(Who::PtpDual), one(Who::PtpFull));
        let (burst, ptp_burst) = (many(Who::OursV4), many(Who::PtpV4));
        vec![
            ratio("IPv4 ADD p50 beside ptp + host-local", add(v4, ptp), AtMost(0.5), AtMost(0.3)),
            ratio("IPv4 ADD p50 beside the floor", add(v4, one(Who::FloorV4)), AtMost(2.0), AtMost(1.5)),
            ratio("IPv4 ADD p99 beside its p50", p99(&v4.add) / p50(&v4.add), AtMost(4.0), AtMost(2.5)),
            ratio("dual stack ADD p50 beside IPv4 ADD", add(dual, v4), AtMost(1.5), AtMost(1.3)),
            ratio(
                "dual stack ADD p50 beside ptp dual stack",
                add(dual, ptp_dual),
                AtMost(0.01),
                AtMost(0.002),
            ),
            ratio("ADD p50, 32 at once, beside ptp", add(burst, ptp_burst), AtMost(0.35), AtMost(0.15)),
            ratio(
                "ADDs a second, 32 at once, beside ptp",
                adds(burst) / adds(ptp_burst),
                AtLeast(3.0),
                AtLeast(6.0),
            ),
            ratio(
                "ADD p50 on a crowded node beside an empty one",
                add(one(Who::OursCrowded), v4),
                AtMost(1.3),
                AtMost(1.1),
            ),
            ratio(
                "ADD p50, host ports and bandwidth, beside ptp, portmap, bandwidth",
                add(full, ptp_full),
                AtMost(0.1),
                AtMost(0.06),
            ),
            ratio(
                "DEL p50, host ports and bandwidth, beside ptp, portmap, bandwidth",
                del(full, ptp_full),
                AtMost(0.35),
                AtMost(0.25),
            ),
            ratio("DEL p50 beside ptp + host-local", del(v4, ptp), AtMost(0.95), AtMost(0.9)),
            ratio("DEL p50, 32 at once, beside ptp", del(burst, ptp_burst), AtMost(0.6), AtMost(0.4)),
            ratio(
                "DELs a second, 32 at once, beside ptp",
                dels(burst) / dels(ptp_burst),
                AtLeast(2.0),
                AtLeast(4.0),
            ),
            Verdict {
                metric: "CPU per IPv4 ADD",
                measured: per_call_ms(v4.add_total.cpu, v4.add.len()),
                must: AtMost(2.5),
                aim: AtMost(1.5),
                unit: " ms",
            },
            ratio(
                "VERSION p50 beside an empty process",
                p50(&self.version) / p50(&self.empty),
                AtMost(2.0),
                AtMost(1.3),
            ),
            Verdict {
                metric: "size of the static file",
                measured: plugin_bytes as f64 / 1e6,
                must: AtMost(2.0),
                aim: AtMost(2.0),
                unit: " MB",
            },
        ]
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Total;

    fn samples(add_ms: u64, del_ms: u64) -> Samples {
        let times = |ms| vec![Duration::from_millis(ms); 100];
        let total = |cpu, span| Total { cpu: Duration::from_millis(cpu), span: Duration::from_secs(span) };
        Samples { add: times(add_ms), del: times(del_ms), add_total: total(200, 1), del_total: total(0, 2) }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!((p50(&times), p99(&times)), (51.0, 100.0));
        assert_eq!(quantile(&times[..1], 0.99), 100.0);
        assert!(p50(&[]).is_nan());
    }

    #[test]
    fn the_tables_say_what_was_reached() {
        let mut results = Results::default();
        *results.one_by_one(Who::OursV4) = samples(2, 36);
        *results.one_by_one(Who::PtpV4) = samples(10, 40);
        *results.one_by_one(Who::FloorV4) = samples(1, 36);
        let text = results.table("Here.", 1_300_000);
        assert!(
            text.contains("| IPv4 ADD p50 beside ptp + host-local | 0.20x | <= 0.5x | <= 0.3x | aim |"),
            "{text}"
        );
        assert!(
            text.contains("| IPv4 ADD p50 beside the floor | 2.00x | <= 2x | <= 1.5x | must |"),
            "{text}"
        );
        assert!(
            text.contains(
                "| towpath-cni, IPv4 | 1 | 100 | 2.00 | 2.00 | 36.00 | 36.00 | 100 | 50 | 2.00 | 0.00 |"
            ),
            "{text}"
        );
        // Nothing was measured with 32 at once: that is no success.
        assert!(
            text.contains("| ADD p50, 32 at once, beside ptp | NaNx | <= 0.35x | <= 0.15x | **missed** |"),
            "{text}"
        );
    }
}
