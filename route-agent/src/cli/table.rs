//! Plain aligned columns.

use std::fmt::Write;

/// Rows under a heading, each column as wide as its widest cell.
pub(super) fn render(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    line(&mut text, &widths, heading.iter().copied());
    for row in rows {
        line(&mut text, &widths, row.iter().map(String::as_str));
    }
    text
}

fn line<'a>(text: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    let start = text.len();
    for (width, cell) in widths.iter().zip(cells) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{cell:<width$}  ");
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

/// `3d4h`, `4h12m`, `12m5s`, `5s`: how long ago.
pub(super) fn age(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s}s"),
        (0, h, m, _) => format!("{h}h{m}m"),
        (d, h, _, _) => format!("{d}d{h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let text = render(
            &["PEER", "STATE"],
            &[vec!["tor-a".into(), "Idle".into()], vec!["b".into(), String::new()]],
        );
        assert_eq!(text, "PEER   STATE\ntor-a  Idle\nb\n");
    }

    #[test]
    fn ages_name_the_two_largest_units() {
        let cases = [(5, "5s"), (65, "1m5s"), (3_720, "1h2m"), (90_000, "1d1h")];
        for (seconds, expected) in cases {
            assert_eq!(age(seconds), expected);
        }
    }
}
