//! Text in columns.

/// To which side a column's cells are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// The rows as lines, two spaces between columns, nothing after the last cell of a row.
///
/// A cell wider than `limit` characters does not widen its column; what follows it moves right.
pub(crate) fn columns(rows: &[Vec<String>], align: &[Align], limit: usize) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).filter(|width| *width <= limit).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..align.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(align).map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_long_cell_leaves_the_others_where_they_are() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "1", "x"]), row(["bbb", "22", ""]), row(["much too long", "3", "y"])];
        let lines = columns(&rows, &[Align::Left, Align::Right, Align::Left], 8);
        assert_eq!(lines, ["a     1  x", "bbb  22", "much too long   3  y"]);
    }
}
