//! Times and numbers as people read them.

use std::time::Duration;

/// `0.4 ms`, `12 ms`, `3.4 s`, `2 min 05 s`: never more than three digits that matter.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let milliseconds = seconds * 1_000.0;
    if time.is_zero() {
        "0 ms".to_owned()
    } else if milliseconds < 9.95 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 999.5 {
        format!("{milliseconds:.0} ms")
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 packet`, `2 packets`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_three_digits_at_most() {
        let cases = [
            (0, "0 ms"),
            (400, "0.4 ms"),
            (9_949, "9.9 ms"),
            (9_960, "10 ms"),
            (812_400, "812 ms"),
            (999_600, "1.0 s"),
            (12_340_000, "12.3 s"),
            (99_960_000, "1 min 40 s"),
            (125_000_000, "2 min 05 s"),
        ];
        for (microseconds, expected) in cases {
            assert_eq!(span(Duration::from_micros(microseconds)), expected, "{microseconds} us");
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [
            (0, "0 flows"),
            (1, "1 flow"),
            (999, "999 flows"),
            (1_000, "1,000 flows"),
            (1_234_567, "1,234,567 flows"),
        ];
        for (number, expected) in cases {
            assert_eq!(counted(number, "flow"), expected);
        }
    }
}
