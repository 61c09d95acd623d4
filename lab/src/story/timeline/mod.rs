//! What happened around the events of a step, as a picture: packets, sessions and routes over one time axis.
//!
//! In: a [`StepReport`] with a timeline. Out: SVG of a fixed width. Rows that changed alike are one row,
//! and what does not fit is counted.

mod events;
mod lanes;
mod packets;
mod scale;

use std::time::Duration;

use lanes::Lane;
use scale::Scale;

use super::report::{Mode, Outcome, Report, StepReport, Timeline};
use super::units::{count, counted, span};
use crate::svg::{self, Anchor, bold, fit, line, rect, text, text_width};
use crate::xml::Element;

const WIDTH: f64 = 1080.0;
const MARGIN: f64 = 24.0;
/// Where the time axis begins: left of it stand the names.
const LEFT: f64 = 260.0;
const LANE: f64 = 19.0;
const BAR: f64 = 13.0;
/// Longest lists that are still read.
const MOST_SESSIONS: usize = 12;
const MOST_ROUTES: usize = 20;

/// The picture of `step`; `None` where it has no timeline.
#[must_use]
pub fn render(report: &Report, step: &StepReport) -> Option<String> {
    let timeline = step.timeline.as_ref()?;
    let times: Vec<Duration> = step.events.iter().map(|event| event.at).collect();
    let scale = Scale::of(timeline, &times, LEFT, WIDTH - LEFT - MARGIN);
    let mut page = Page { items: Vec::new(), y: 0.0 };
    page.head(report, step, timeline, &scale);
    let (labels, height) = events::labels(&step.events, &scale, page.y);
    let top = page.y + height;
    page.y = top + 6.0;
    for series in &timeline.packets {
        let class = step.traffic.iter().find(|class| class.class == series.class);
        page.y = packets::lane(&mut page.items, page.y, series, class, timeline.from, &scale);
    }
    let sessions = lanes::sessions(&timeline.sessions, &scale);
    page.lanes("Sessions that changed", &sessions, MOST_SESSIONS, &scale, |state| Look::of_session(state));
    let routes = lanes::routes(&timeline.routes, &scale);
    let title = "Routes that changed, next hops";
    page.lanes(title, &routes, MOST_ROUTES, &scale, |nexthops| Look::of_route(*nexthops));
    let bottom = page.y + 4.0;
    let ticks = scale.ticks();
    let grid = ticks.iter().map(|(at, _)| line((scale.x(*at), top), (scale.x(*at), bottom), svg::GRID, 1.0));
    page.foot(bottom, &ticks, &scale);
    Some(
        svg::picture(WIDTH, page.y, &format!("{}: {}", report.lab, step.name))
            .children(grid)
            .children(page.items)
            .children(events::lines(&step.events, &scale, top, bottom))
            .children(labels)
            .to_string(),
    )
}

/// How a stretch of a lane looks.
struct Look {
    fill: &'static str,
    ink: &'static str,
    words: String,
}

impl Look {
    fn of_session(state: &str) -> Self {
        let (fill, ink) = match state {
            "Established" => (svg::PALE_GREEN, svg::GREEN),
            "Connect" | "OpenSent" | "OpenConfirm" => (svg::PALE_AMBER, svg::AMBER),
            _ => (svg::PALE_RED, svg::RED),
        };
        Self { fill, ink, words: state.to_owned() }
    }

    fn of_route(nexthops: usize) -> Self {
        match nexthops {
            0 => Self { fill: svg::PALE_RED, ink: svg::RED, words: "gone".to_owned() },
            1 => Self { fill: svg::PALE_BLUE, ink: svg::INK, words: "1".to_owned() },
            more => Self { fill: svg::BLUE, ink: svg::INK, words: more.to_string() },
        }
    }
}

/// What is drawn, from the top down.
struct Page {
    items: Vec<Element>,
    y: f64,
}

impl Page {
    fn head(&mut self, report: &Report, step: &StepReport, timeline: &Timeline, scale: &Scale) {
        let (words, fill) = match (step.outcome, report.mode) {
            (Outcome::Held, Mode::Play) => ("held", svg::GREEN),
            (Outcome::Held, Mode::Prove) => ("breaks when nobody reacts", svg::GREEN),
            (Outcome::Failed, Mode::Play) => ("failed", svg::RED),
            (Outcome::Failed, Mode::Prove) => ("holds although nobody reacts", svg::RED),
            (Outcome::Skipped, _) => ("skipped", svg::AMBER),
        };
        let right = WIDTH - MARGIN;
        let name = fit(&step.name, 18.0, right - MARGIN - text_width(words, 14.0) - 24.0);
        self.items.push(bold(text((MARGIN, 34.0), 18.0, Anchor::Start, svg::INK, &name)));
        self.items.push(bold(text((right, 34.0), 14.0, Anchor::End, fill, words)));
        let whole = timeline.to.saturating_sub(timeline.from);
        let shown = scale.to.saturating_sub(scale.from);
        let cut = if shown < whole {
            format!("{} of {}; nothing changed outside", span(shown), span(whole))
        } else {
            format!("{} shown", span(whole))
        };
        let facts = format!("lab {}, {cut}", report.lab);
        self.items.push(text((MARGIN, 54.0), 12.0, Anchor::Start, svg::MUTED, &facts));
        self.y = 70.0;
    }

    /// A section of lanes, at most `most` of them.
    fn lanes<S>(
        &mut self,
        title: &str,
        lanes: &[Lane<S>],
        most: usize,
        scale: &Scale,
        look: impl Fn(&S) -> Look,
    ) {
        self.y += 10.0;
        let baseline = self.y + 13.0;
        self.items.push(bold(text((MARGIN, baseline), 11.0, Anchor::Start, svg::MUTED, title)));
        if lanes.is_empty() {
            self.items.push(text((LEFT, baseline), 11.0, Anchor::Start, svg::MUTED, "none"));
        }
        self.y += 20.0;
        // A remainder of one takes as much room as the lane itself.
        let most = if lanes.len() == most + 1 { lanes.len() } else { most };
        for lane in lanes.iter().take(most) {
            self.lane(lane, scale, &look);
        }
        let rest: usize = lanes.iter().skip(most).map(|lane| 1 + lane.more).sum();
        if rest > 0 {
            let words = format!("and {} more that changed later", count(rest as u64));
            self.items.push(text((MARGIN, self.y + 13.0), 11.0, Anchor::Start, svg::MUTED, &words));
            self.y += LANE;
        }
    }

    fn lane<S>(&mut self, lane: &Lane<S>, scale: &Scale, look: &impl Fn(&S) -> Look) {
        let (y, baseline) = (self.y + (LANE - BAR) / 2.0, self.y + 13.5);
        let mut room = LEFT - MARGIN - 12.0;
        if lane.more > 0 {
            let more = format!("+{}", count(lane.more as u64));
            room -= text_width(&more, 11.0) + 8.0;
            self.items.push(text((LEFT - 10.0, baseline), 11.0, Anchor::End, svg::MUTED, &more));
        }
        let label = fit(&lane.label, 11.0, room);
        self.items.push(text((MARGIN, baseline), 11.0, Anchor::Start, svg::INK, &label));
        let known = lane.changes.first().map_or(scale.to, |(at, _)| *at);
        if known > scale.from {
            let middle = y + BAR / 2.0;
            let unknown = line((scale.x(scale.from), middle), (scale.x(known), middle), svg::MUTED, 1.0);
            self.items.push(unknown.with("stroke-dasharray", "2 3"));
        }
        let ends = lane.changes.iter().skip(1).map(|(at, _)| *at).chain([scale.to]);
        for ((from, state), to) in lane.changes.iter().zip(ends) {
            let (left, right) = (scale.x(*from), scale.x(to));
            if to <= scale.from || *from > scale.to {
                continue;
            }
            let Look { fill, ink, words } = look(state);
            // So short that no pixel would show it, it is a hairline.
            self.items.push(rect(left, y, (right - left).max(1.0), BAR, fill));
            if *from > scale.from {
                self.items.push(line((left, y), (left, y + BAR), ink, 1.0));
            }
            if text_width(&words, 10.0) + 8.0 <= right - left {
                self.items.push(text((left + 5.0, y + 10.0), 10.0, Anchor::Start, ink, &words));
            }
        }
        self.y += LANE;
    }

    /// The axis and what the colours mean.
    fn foot(&mut self, bottom: f64, ticks: &[(Duration, String)], scale: &Scale) {
        self.items.push(line((LEFT, bottom), (scale.right(), bottom), svg::MUTED, 1.0));
        for (at, words) in ticks {
            let x = scale.x(*at);
            self.items.push(line((x, bottom), (x, bottom + 4.0), svg::MUTED, 1.0));
            let half = text_width(words, 11.0) / 2.0;
            let anchor = match x {
                x if x - half < LEFT => Anchor::Start,
                x if x + half > WIDTH - 4.0 => Anchor::End,
                _ => Anchor::Middle,
            };
            self.items.push(text((x, bottom + 17.0), 11.0, anchor, svg::MUTED, words));
        }
        let words = "after the first event";
        self.items.push(text((LEFT - 10.0, bottom + 17.0), 11.0, Anchor::End, svg::MUTED, words));
        let y = bottom + 42.0;
        let legend = [
            (svg::BLUE, "packets that arrived, 2 or more next hops"),
            (svg::PALE_BLUE, "1 next hop"),
            (svg::RED, "packets lost"),
            (svg::PALE_RED, "session down, route gone"),
            (svg::PALE_AMBER, "session opening"),
            (svg::PALE_GREEN, "Established"),
        ];
        let mut x = MARGIN;
        for (fill, words) in legend {
            self.items.push(rect(x, y - 9.0, 10.0, 10.0, fill));
            self.items.push(text((x + 15.0, y), 11.0, Anchor::Start, svg::MUTED, words));
            x += 15.0 + text_width(words, 11.0) + 14.0;
        }
        self.y = y + 16.0;
    }
}

/// `12 of 4,000 packets lost`.
fn lost_words(lost: u64, sent: u64) -> String {
    if lost == 0 {
        "no packet lost".to_owned()
    } else {
        format!("{} of {} lost", count(lost), counted(sent, "packet"))
    }
}
