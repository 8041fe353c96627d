//! How alerts say numbers.

/// What an alert says: one sentence, the evidence, and what to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Text {
    pub(super) headline: String,
    pub(super) evidence: String,
    pub(super) advice: String,
}

/// A number with three significant digits.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-3..1e6).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let digits = (2 - magnitude.log10().floor() as i32).max(0) as usize;
    format!("{value:.digits$}")
}

/// How many times as large, from a difference of logarithms: "38 times".
pub(super) fn times(log_ratio: f64) -> String {
    let ratio = log_ratio.exp();
    if ratio > 1e6 { "over a million times".into() } else { format!("{} times", number(ratio)) }
}

/// A share in whole per cent.
pub(super) fn percent(share: f64) -> String {
    if share < 0.01 { "under 1 %".into() } else { format!("{:.0} %", 100.0 * share.min(1.0)) }
}

/// "a", "a and b", "a, b and c".
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// A tensor's name as alerts carry it: names come from files, and an alert is of bounded size.
pub(super) fn tensor_name(name: &str) -> String {
    const LONGEST: usize = 120;
    if name.chars().count() <= LONGEST {
        return name.into();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// Where to go back to, as a clause: "the checkpoint at step 40", or that there is none.
pub(super) fn go_back_to(last_good_step: Option<u64>) -> String {
    match last_good_step {
        Some(step) => format!("the checkpoint at step {step}"),
        None => "the start, since no checkpoint from before the trouble is known".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let said: Vec<String> =
            [0.0, 1.0, 0.123_456, 12.345, 123.45, 98_765.4, 1.5e7, -0.000_12].map(number).into();
        assert_eq!(said, ["0", "1.00", "0.123", "12.3", "123", "98765", "1.50e7", "-1.20e-4"]);
        assert_eq!(times(38.0_f64.ln()), "38.0 times");
        assert_eq!(times(900.0), "over a million times");
        assert_eq!((percent(0.004), percent(0.834)), ("under 1 %".into(), "83 %".into()));
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(tensor_name("fc.weight"), "fc.weight");
        assert_eq!(tensor_name(&"ä".repeat(500)).chars().count(), 120);
    }
}
