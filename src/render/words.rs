//! Numbers and names as people read them.

/// A number to three significant digits: `0.0834`, `12.3`, `1.23e-5`; `not finite` for what is not.
pub(super) fn figure(value: f64) -> String {
    digits(value, 3)
}

/// A number to two significant digits, for where there is little room.
pub(super) fn brief(value: f64) -> String {
    digits(value, 2)
}

fn digits(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    let text = if (1e-3..1e5).contains(&size) {
        let decimals = (digits as f64 - 1.0 - size.log10().floor()).clamp(0.0, 6.0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { trimmed(&text).to_owned() } else { text }
    } else {
        let text = format!("{value:.*e}", digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{exponent}", trimmed(mantissa))
    };
    // The minus sign of prose, but not that of an exponent, which programs know with a hyphen.
    match text.strip_prefix('-') {
        Some(rest) => format!("\u{2212}{rest}"),
        None => text,
    }
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A share of one as a percentage that never rounds something to nothing or nearly all to all.
pub(super) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "unknown".to_owned();
    }
    let hundred = share * 100.0;
    match hundred {
        0.0 => "0 %".to_owned(),
        x if x > 0.0 && x < 0.1 => "< 0.1 %".to_owned(),
        x if x > 99.9 && x < 100.0 => "> 99.9 %".to_owned(),
        x if x.abs() < 10.0 => format!("{} %", trimmed(&format!("{x:.1}"))).replace('-', "\u{2212}"),
        x => format!("{x:.0} %").replace('-', "\u{2212}"),
    }
}

/// A whole number with commas between thousands.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 run`, `2,000 runs`.
pub(super) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(number as u64))
}

/// A list in words, at most `limit` of them: `a, b and c`, `a, b and 7 more`.
pub(super) fn list<S: AsRef<str>>(items: &[S], limit: usize) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        all if all.len() <= limit => {
            format!("{} and {}", all[..all.len() - 1].join(", "), all[all.len() - 1])
        }
        all => format!("{} and {} more", all[..limit.max(1)].join(", "), all.len() - limit.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let written = [0.0, 0.083_44, -1.5, 12.34, 99_999.0, 123_456.0, 1.2e-5, f64::NAN].map(figure);
        assert_eq!(written, ["0", "0.0834", "−1.5", "12.3", "99999", "1.23e5", "1.2e-5", "not finite"]);
        assert_eq!(figure(100.0), "100");
        assert_eq!([0.083_44, 12.34, 1.234e-7].map(brief), ["0.083", "12", "1.2e-7"]);
        assert_eq!(figure(-3e-7), "−3e-7");
    }

    #[test]
    fn shares_do_not_round_to_none_or_all() {
        let written = [0.0, 0.0004, 0.019, 0.934, 0.9996, 1.0, -0.02].map(percent);
        assert_eq!(written, ["0 %", "< 0.1 %", "1.9 %", "93 %", "> 99.9 %", "100 %", "−2 %"]);
    }

    #[test]
    fn things_are_counted_and_listed() {
        assert_eq!(count(1, "run"), "1 run");
        assert_eq!(count(2_000, "run"), "2,000 runs");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(list(&["a", "b", "c", "d"], 2), "a, b and 2 more");
    }
}
