//! JSON as Python writes it: with bare `NaN`, `Infinity` and `-Infinity`, which are no JSON. They are read as strings of
//! the same letters, which is how careful servers write them.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The names of numbers that are not finite.
const NAMES: [&str; 3] = ["NaN", "-Infinity", "Infinity"];

/// Reads JSON, at first as it should be.
///
/// # Errors
/// What is wrong with it as JSON.
pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes).or_else(|error| match std::str::from_utf8(bytes) {
        Ok(text) if NAMES.iter().any(|name| text.contains(name)) => serde_json::from_str(&quoted(text)),
        _ => Err(error),
    })
}

/// Reads JSON, at first as it should be.
///
/// # Errors
/// What is wrong with it as JSON.
pub(super) fn from_str<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    from_slice(text.as_bytes())
}

/// A number, or the name of one that is not finite; `None` for anything else.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(name) if NAMES.contains(&name.as_str()) => name.parse().ok(),
        _ => None,
    }
}

/// The text with bare names of numbers in quotation marks; what stands in strings is left as it is.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 20);
    let mut rest = text;
    let mut in_string = false;
    while let Some(character) = rest.chars().next() {
        if !in_string && let Some(name) = NAMES.into_iter().find(|name| rest.starts_with(name)) {
            quoted.push('"');
            quoted += name;
            quoted.push('"');
            rest = &rest[name.len()..];
            continue;
        }
        quoted.push(character);
        rest = &rest[character.len_utf8()..];
        if character == '\\' && in_string {
            let escaped = rest.chars().next();
            quoted.extend(escaped);
            rest = &rest[escaped.map_or(0, char::len_utf8)..];
        } else if character == '"' {
            in_string = !in_string;
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_become_strings_and_strings_stay() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity, 1], "NaN": "a \"NaN\" \\", "c": "NaN"}"#;
        let value: Value = from_str(text).unwrap();
        assert!(number(&value["a"]).unwrap().is_nan() && number(&value["c"]).unwrap().is_nan());
        assert_eq!(number(&value["b"][0]), Some(f64::NEG_INFINITY));
        assert_eq!(number(&value["b"][1]), Some(f64::INFINITY));
        assert_eq!(value["NaN"], "a \"NaN\" \\");
        assert_eq!((number(&value["NaN"]), number(&Value::Null)), (None, None));
        assert!(from_str::<Value>("{\"a\": Nan}").is_err());
    }
}
