//! The events: a line through the whole picture for each, its words above.

use super::scale::Scale;
use super::{MARGIN, WIDTH};
use crate::story::report::EventReport;
use crate::story::units::counted;
use crate::svg::{self, Anchor, line, rect, text, text_width};
use crate::xml::Element;

const ROW: f64 = 17.0;
const MOST_ROWS: usize = 5;
const SIZE: f64 = 11.0;

/// The words of the events in as few rows as hold them, from `y` down, and how high that is.
///
/// Events that find no room keep their line and are counted.
pub(super) fn labels(events: &[EventReport], scale: &Scale, y: f64) -> (Vec<Element>, f64) {
    // Where each row's last words end.
    let mut rows: Vec<f64> = Vec::new();
    let mut labels = Vec::new();
    let mut unnamed = 0;
    for event in events {
        let x = scale.x(event.at);
        let width = text_width(&event.text, SIZE) + 8.0;
        let right_aligned = x + width > WIDTH - MARGIN / 2.0;
        let (left, right) = if right_aligned { (x - width, x) } else { (x, x + width) };
        let free = rows.iter().position(|end| *end + 6.0 <= left);
        let row = match free {
            Some(row) => row,
            None if rows.len() < MOST_ROWS => {
                rows.push(0.0);
                rows.len() - 1
            }
            None => {
                unnamed += 1;
                continue;
            }
        };
        rows[row] = right;
        let top = y + row as f64 * ROW;
        // Paper behind the words: the lines of later events pass behind them.
        labels.push((row, x, rect(left, top, width, ROW - 2.0, svg::PALE_GREY)));
        let (at, anchor) = if right_aligned { (x - 4.0, Anchor::End) } else { (x + 4.0, Anchor::Start) };
        labels.push((row, x, text((at, top + 11.5), SIZE, anchor, svg::INK, &event.text)));
    }
    let height = rows.len().max(1) as f64 * ROW;
    // From its words down to the plot, drawn first, so that words of lower rows cover it.
    let leaders = labels
        .iter()
        .step_by(2)
        .map(|(row, x, _)| line((*x, y + *row as f64 * ROW), (*x, y + height), svg::INK, 1.0));
    let mut all: Vec<Element> = leaders.collect();
    all.extend(labels.into_iter().map(|(_, _, label)| label));
    if unnamed > 0 {
        let words = format!("and {} without words here", counted(unnamed, "event"));
        all.push(text((MARGIN, y + height - 6.0), SIZE, Anchor::Start, svg::MUTED, &words));
    }
    (all, height)
}

/// The lines of the events through the plot.
pub(super) fn lines(events: &[EventReport], scale: &Scale, top: f64, bottom: f64) -> Vec<Element> {
    let faint = if events.len() > 20 { 0.12 } else { 0.6 };
    let shown = events.iter().filter(|event| scale.shows(event.at));
    let mark = |event: &EventReport| {
        let x = scale.x(event.at);
        line((x, top), (x, bottom), svg::INK, 1.0).with("opacity", faint)
    };
    shown.map(mark).collect()
}
