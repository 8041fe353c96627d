//! `metrics.jsonl`: what a trainer logs beside its checkpoints, one JSON object a line.
//!
//! The file is read on from where the last reading ended. A last line without its end is left for the next time; a line
//! that is no JSON object is passed over. Python's `NaN` and `Infinity`, which are no JSON, are understood.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

use super::names::LOSS_NAMES;
use super::tolerant;

/// Bytes that are read at once.
const BLOCK: usize = 4 << 20;

/// What a reading found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// Training losses, (step, value), in the file's order; NaN for what is not finite.
    pub losses: Vec<(u64, f64)>,
    /// Where the next reading begins.
    pub offset: u64,
}

/// Reads the losses from `offset` to the end.
///
/// # Errors
/// What the system says.
pub fn read_on(path: &Path, offset: u64) -> io::Result<Read> {
    let file = File::open(path)?;
    let mut read = Read { losses: Vec::new(), offset };
    loop {
        let bytes = block(&file, read.offset)?;
        let mut whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole == 0 && bytes.len() == BLOCK {
            // A line longer than a block is no line of ours: its pieces are passed over.
            whole = BLOCK;
        }
        read.losses.extend(bytes[..whole].split(|&byte| byte == b'\n').filter_map(loss));
        read.offset += whole as u64;
        if bytes.len() < BLOCK {
            return Ok(read);
        }
    }
}

/// Up to [`BLOCK`] bytes from `offset`; fewer only at the end.
fn block(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The loss that a line tells.
fn loss(line: &[u8]) -> Option<(u64, f64)> {
    let line = std::str::from_utf8(line).ok()?.trim();
    if !LOSS_NAMES.iter().any(|name| line.contains(name)) {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = tolerant::from_str(line).ok()?;
    let step = object.get("step")?;
    let step = step
        .as_u64()
        .or_else(|| step.as_f64().filter(|s| s.fract() == 0.0 && *s >= 0.0).map(|s| s as u64))?;
    let value = LOSS_NAMES.iter().find_map(|name| object.get(*name))?;
    if value.is_null() {
        let Nonfinite { nonfinite } = Nonfinite::deserialize(serde_json::Value::Object(object)).ok()?;
        return nonfinite.then_some((step, f64::NAN));
    }
    let value = tolerant::number(value)?;
    Some((step, if value.is_finite() { value } else { f64::NAN }))
}

#[derive(Deserialize)]
struct Nonfinite {
    #[serde(default)]
    nonfinite: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_all_their_forms() {
        let told = |line: &str| loss(line.as_bytes());
        assert_eq!(told(r#"{"step": 3, "train/loss": 0.5, "lr": 0.1}"#), Some((3, 0.5)));
        assert_eq!(told(r#"{"step": 3.0, "loss": 1}"#), Some((3, 1.0)));
        assert_eq!(told(r#"{"step": 3, "loss": 9, "train/loss": 0.5}"#), Some((3, 0.5)));
        for line in [
            r#"{"step": 3, "train/loss": null, "nonfinite": true}"#,
            r#"{"step": 3, "train/loss": NaN}"#,
            r#"{"note": "a \"NaN\"", "train/loss": -Infinity, "step": 3}"#,
        ] {
            let (step, value) = told(line).unwrap();
            assert!(step == 3 && value.is_nan(), "{line}");
        }
        for line in [
            r#"{"step": 3, "eval/loss": 0.5}"#,
            r#"{"step": 3, "train/loss": null}"#,
            r#"{"step": -3, "train/loss": 1}"#,
            r#"{"step": 3, "train/loss": "#,
            r#"["train/loss"]"#,
            "",
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }

    #[test]
    fn a_torn_line_waits_for_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let first = "{\"step\":1,\"train/loss\":1.0}\n";
        std::fs::write(file.path(), format!("{first}{{\"step\":2,\"train/l")).unwrap();
        let read = read_on(file.path(), 0).unwrap();
        assert_eq!(read, Read { losses: vec![(1, 1.0)], offset: first.len() as u64 });
        std::fs::write(file.path(), format!("{first}{{\"step\":2,\"train/loss\":2.0}}\n")).unwrap();
        assert_eq!(read_on(file.path(), read.offset).unwrap().losses, [(2, 2.0)]);
    }
}
