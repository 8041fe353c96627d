//! Real logs, written by the SDK (`tests/fixtures/wandb/README.md`), whole, cut and damaged.

use std::io::Write as _;
use std::ops::Range;

use serde_json::{Value as Json, json};
use tempfile::NamedTempFile;

use super::blocks::{BLOCK, CHUNK, HEADER};
use super::*;

const LOGS: [&str; 4] = ["finished", "killed", "long", "typed"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wandb").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("{name}.wandb"))).unwrap()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// NaN, which is not equal to itself, becomes text, so that records can be compared.
fn read_from(path: &Path, from: Position) -> (Vec<Record>, Read) {
    let mut records = Vec::new();
    let mut each = |mut record: Record| {
        let values: &mut [(String, Value)] = match &mut record {
            Record::History(row) => &mut row.values,
            Record::Summary(change) | Record::Config(change) => &mut change.set,
            _ => &mut [],
        };
        for (_, value) in values {
            if matches!(value, Value::Number(number) if number.is_nan()) {
                *value = Value::Text("NaN".into());
            }
        }
        records.push(record);
    };
    let read = read_on(path, from, &mut each).unwrap();
    (records, read)
}

fn read(bytes: &[u8]) -> (Vec<Record>, Read) {
    read_from(file(bytes).path(), Position::default())
}

/// Where the whole records of an undamaged log are, read in the plainest way.
fn places(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut places, mut from, mut at) = (Vec::new(), 0, HEADER.len());
    loop {
        if BLOCK - at % BLOCK < CHUNK {
            at = at.next_multiple_of(BLOCK);
        }
        let Some(&[.., l0, l1, kind]) = bytes.get(at..at + CHUNK) else { return places };
        let end = at + CHUNK + usize::from(u16::from_le_bytes([l0, l1]));
        if end > bytes.len() {
            return places;
        }
        if matches!(kind, 1 | 2) {
            from = at;
        }
        if matches!(kind, 1 | 4) {
            places.push(from..end);
        }
        at = end;
    }
}

/// The records of an undamaged log, each with its place; `None` for kinds that are passed over.
fn placed(bytes: &[u8]) -> Vec<(Range<usize>, Option<Record>)> {
    let mut read = Vec::new();
    for place in places(bytes) {
        let (before, _) = read_until(bytes, place.start);
        let (with, _) = read_until(bytes, place.end);
        read.push((place, with.get(before.len()).cloned()));
    }
    read
}

fn read_until(bytes: &[u8], end: usize) -> (Vec<Record>, Read) {
    read(&bytes[..end])
}

/// Pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// A log with these records, which need not be records.
pub(in super::super) fn log_of(records: &[Vec<u8>]) -> Vec<u8> {
    let mut log = HEADER.to_vec();
    for record in records {
        let (mut rest, mut first) = (record.as_slice(), true);
        loop {
            let mut room = BLOCK - log.len() % BLOCK;
            if room < CHUNK {
                log.resize(log.len() + room, 0);
                room = BLOCK;
            }
            let (payload, after) = rest.split_at(rest.len().min(room - CHUNK));
            let kind = match (first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let summed = [&[kind], payload].concat();
            log.extend(crc32fast::hash(&summed).to_le_bytes());
            log.extend((payload.len() as u16).to_le_bytes());
            log.extend(summed);
            (rest, first) = (after, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    log
}

/// A field of a protobuf message: text, bytes or another message.
pub(in super::super) fn field(tag: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_varint(tag << 3 | 2, &mut field);
    prost::encoding::encode_varint(bytes.as_ref().len() as u64, &mut field);
    [&field, bytes.as_ref()].concat()
}

/// A record with one row, given as names and JSON.
pub(in super::super) fn row_of(number: u8, values: &[(&str, &str)]) -> Vec<u8> {
    let item = |(name, value): &(&str, &str)| field(1, [field(2, name), field(16, value)].concat());
    let items: Vec<Vec<u8>> = values.iter().map(item).collect();
    [vec![8, number], field(2, items.concat())].concat()
}

/// A record with one row `{"text": "xx…x"}`.
fn row(number: u8, length: usize) -> Vec<u8> {
    row_of(number, &[("text", &format!("\"{}\"", "x".repeat(length)))])
}

/// A value as `logs.py` writes it.
fn as_dumped(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Integer(value) => json!(value),
        Value::Number(value) if value.is_nan() => json!("NaN"),
        Value::Number(value) if value.is_infinite() => {
            json!(if *value > 0.0 { "Infinity" } else { "-Infinity" })
        }
        Value::Number(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::Json(text) => serde_json::from_str(&text.replace("NaN", "\"NaN\"")).unwrap(),
    }
}

fn object(values: &[(String, Value)]) -> Json {
    Json::Object(values.iter().map(|(name, value)| (name.clone(), as_dumped(value))).collect())
}

#[test]
fn real_logs_hold_what_python_reads_from_them() {
    for name in LOGS {
        let expected: Json =
            serde_json::from_slice(&std::fs::read(fixture(&format!("{name}.json"))).unwrap()).unwrap();
        let (records, Read { torn, missing, .. }) = read(&bytes(name));
        assert_eq!((torn > 0, missing), (name == "killed", Vec::new()), "{name}");
        let mut told = json!({
            "run": null, "config": {}, "artifacts": [], "alerts": [], "exit_code": null, "rows": []
        });
        for record in &records {
            let configure = |told: &mut Json, change: &[(String, Value)]| {
                for (name, value) in change {
                    told["config"][name] = as_dumped(value);
                }
            };
            match record {
                Record::Run(run) => {
                    configure(&mut told, &run.config);
                    let Run { id, entity, project, name, group, job_type, tags, started, .. } = run;
                    told["run"] = json!([id, entity, project, name, group, job_type, tags, started]);
                }
                Record::Config(change) => configure(&mut told, &change.set),
                Record::History(Row { step, values }) => {
                    let row = object(values);
                    assert_eq!(row["_step"], json!(step), "{name}");
                    told["rows"].as_array_mut().unwrap().push(row);
                }
                Record::Artifact(Artifact { kind, name, digest, aliases, metadata, files }) => {
                    let file = |file: &ArtifactFile| {
                        let reference = file.reference.as_deref().unwrap_or_default();
                        json!([file.path, file.digest, reference, file.size])
                    };
                    let files: Vec<Json> = files.iter().map(file).collect();
                    let artifact = json!([kind, name, digest, aliases, metadata, files]);
                    told["artifacts"].as_array_mut().unwrap().push(artifact);
                }
                Record::Alert(Alert { title, text, level, wait_ms }) => {
                    let alert = json!([title, text, level, wait_ms]);
                    told["alerts"].as_array_mut().unwrap().push(alert);
                }
                Record::Exit { code } => told["exit_code"] = json!(code),
                Record::Summary(change) => assert!(!change.set.is_empty(), "{name}"),
            }
        }
        assert_eq!(told, expected, "{name}");
    }
}

#[test]
fn steps_and_losses_of_a_killed_run_are_those_that_were_logged() {
    let (records, _) = read(&bytes("killed"));
    let rows = records.iter().filter_map(|record| match record {
        Record::History(row) => Some((row.step.unwrap(), row.number("train/loss").unwrap())),
        _ => None,
    });
    let rows: Vec<(i64, f64)> = rows.collect();
    assert!(rows.len() > 100);
    for (at, &(step, loss)) in rows.iter().enumerate() {
        assert_eq!((step, loss), (at as i64, 1.0 / (at as f64 + 1.0)));
    }
}

#[test]
fn a_log_that_ends_anywhere_in_its_last_block_is_a_beginning_and_is_read_on() {
    for name in LOGS {
        let bytes = bytes(name);
        let (all, whole) = read(&bytes);
        let block = (bytes.len() - 1) / BLOCK * BLOCK;
        let (mut records, Read { next: mut position, .. }) = read_until(&bytes, block);
        let (growing, complete) = (file(&bytes[..block]), file(&bytes));
        for end in block..=bytes.len() {
            growing.as_file().write_all(&bytes[end.saturating_sub(1).max(block)..end]).unwrap();
            let (new, read) = read_from(growing.path(), position);
            records.extend(new);
            position = read.next;
            assert!(all.starts_with(&records) && read.missing.is_empty(), "{name} until {end}");
            assert_eq!(position.offset + read.torn, end as u64, "{name} until {end}");
            // All of it at once, and the rest at once.
            if end % 50 == 0 {
                assert!(read_until(&bytes, end).0 == records, "{name} until {end}");
                let (rest, read) = read_from(complete.path(), position);
                assert!(all[records.len()..] == rest && read == whole, "{name} until {end}");
            }
        }
        assert!(records == all, "{name}");
    }
}

#[test]
fn a_flipped_bit_costs_the_record_that_holds_it_and_no_other() {
    let mut random = Random(1);
    for (name, stride) in [("finished", 1), ("typed", 1), ("killed", 37), ("long", 97)] {
        let bytes = bytes(name);
        let placed = placed(&bytes);
        let (_, whole) = read(&bytes);
        for at in (0..bytes.len()).step_by(stride) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << random.below(8);
            let damaged = file(&bytes);
            if at < HEADER.len() {
                let error = read_on(damaged.path(), Position::default(), &mut |_| {}).unwrap_err();
                assert!(matches!(error, LogError::NotALog(_) | LogError::Version { .. }), "{error}");
                continue;
            }
            let (records, read) = read_from(damaged.path(), Position::default());
            let hit = placed.iter().position(|(place, _)| place.contains(&at));
            let expected = placed.iter().enumerate().filter(|(index, _)| Some(*index) != hit);
            let expected: Vec<Record> = expected.filter_map(|(_, (_, record))| record.clone()).collect();
            assert!(records == expected, "{name} byte {at}: {:?}", read.missing);
            let Some(hit) = hit else {
                // Zeros that fill a block, or the torn end.
                assert_eq!((read.missing, read.next), (Vec::new(), whole.next), "{name} byte {at}");
                continue;
            };
            let from = placed[hit].0.start as u64;
            if let Some((next, _)) = placed.get(hit + 1) {
                let to = next.start as u64;
                let missing = Missing { from, to, records: Some(1), why: Why::Damaged };
                assert_eq!((read.missing, read.next), (vec![missing], whole.next), "{name} byte {at}");
            } else {
                assert!(read.missing.is_empty(), "{name} byte {at}");
                assert!(read.next.offset <= from && read.torn > 0, "{name} byte {at}");
            }
        }
    }
}

#[test]
fn damaged_logs_that_grow_read_as_if_they_were_read_at_once() {
    let mut random = Random(2);
    for case in 0..300 {
        let mut bytes = bytes(LOGS[case % LOGS.len()]);
        for _ in 0..=random.below(6) {
            let at = HEADER.len() + random.below(bytes.len() - HEADER.len() - 100);
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at..at + 100].fill(random.below(256) as u8),
                2 => drop(bytes.drain(at..at + 1 + random.below(99))),
                _ => bytes.insert(at, random.below(256) as u8),
            }
        }
        let (all, whole) = read(&bytes);
        let growing = file(&[]);
        let (mut position, mut records, mut missing, mut end) =
            (Position::default(), Vec::new(), Vec::new(), 0);
        while end < bytes.len() {
            let more = bytes.len().min(end + 1 + random.below(9_000));
            growing.as_file().write_all(&bytes[end..more]).unwrap();
            end = more;
            let (new, read) = read_from(growing.path(), position);
            records.extend(new);
            missing.extend(read.missing);
            position = read.next;
        }
        assert_eq!((missing, position), (whole.missing, whole.next), "case {case}");
        assert!(records == all, "case {case}");
    }
}

#[test]
fn random_bytes_are_no_records() {
    let mut random = Random(3);
    for case in 0..200 {
        let length = random.below(4 * BLOCK);
        // Few different bytes make many headers that look right.
        let values = [256, 5, 3, 2][case % 4];
        let mut bytes: Vec<u8> = (0..length).map(|_| random.below(values) as u8).collect();
        if let Err(error) = read_on(file(&bytes).path(), Position::default(), &mut |_| {}) {
            assert!(matches!(error, LogError::NotALog(_)), "{error}");
        }
        bytes.splice(..0, HEADER);
        let (records, read) = read(&bytes);
        assert_eq!((records, read.next.offset), (Vec::new(), HEADER.len() as u64), "case {case}");
    }
    // Payloads with a right checksum that are no records.
    for _ in 0..200 {
        let noise = |random: &mut Random| {
            let length = 1 + random.below(3 * BLOCK);
            (0..length).map(|_| random.below(256) as u8).collect::<Vec<u8>>()
        };
        let log = log_of(&[row(1, 5), noise(&mut random), noise(&mut random), row(4, 5)]);
        let (records, read) = read(&log);
        assert!(records.len() >= 2, "{records:?}");
        assert_eq!(read.torn, 0);
    }
}

#[test]
fn records_of_any_length_are_joined() {
    let lengths = [0, 1, BLOCK - 60, BLOCK - 8, BLOCK, 3 * BLOCK, 1_000_000];
    let records: Vec<Vec<u8>> =
        lengths.iter().zip(1..).map(|(&length, number)| row(number, length)).collect();
    let (read_back, Read { next, torn, missing }) = read(&log_of(&records));
    assert_eq!((next.number, torn, missing), (7, 0, Vec::new()));
    for (record, length) in read_back.iter().zip(lengths) {
        let Record::History(row) = record else { panic!("{record:?}") };
        assert_eq!(row.values, [("text".to_owned(), Value::Text("x".repeat(length)))]);
    }
    assert_eq!(read_back.len(), lengths.len());
}

#[test]
fn a_record_that_is_too_long_is_passed_over() {
    let log = log_of(&[row(1, 1), row(2, MOST_BYTES), row(3, 1)]);
    let (records, Read { next, torn, missing }) = read(&log);
    assert_eq!((records.len(), next.number, torn), (2, 3, 0));
    assert_eq!((missing[0].records, missing[0].why), (Some(1), Why::TooLong));
    let Missing { from, to, .. } = missing[0];
    assert_eq!(missing[0].to_string(), format!("1 record cannot be read: bytes {from} to {to} are too long"));
}

#[test]
fn a_record_without_its_end_is_passed_over_when_another_begins() {
    let whole = log_of(&[row(1, 1), row(2, 2 * BLOCK)]);
    // A process that died, and another that went on at the next block.
    let mut log = whole[..BLOCK].to_vec();
    let rest = log_of(&[row(3, 1)]);
    log.extend(&rest[HEADER.len()..]);
    let (records, Read { torn, missing, .. }) = read(&log);
    assert_eq!((records.len(), torn), (2, 0));
    let from = places(&whole)[1].start as u64;
    assert_eq!(missing, [Missing { from, to: BLOCK as u64, records: Some(1), why: Why::Unfinished }]);
}

#[test]
fn zeros_at_the_end_are_waited_for() {
    let log = log_of(&[row(1, 1), row(2, 1)]);
    for zeros in [1, 6, 7, 100, 2 * BLOCK] {
        let mut zeroed = log.clone();
        zeroed.resize(log.len() + zeros, 0);
        let (records, read) = read(&zeroed);
        assert_eq!((records.len(), read.torn, read.missing), (2, zeros as u64, Vec::new()));
        assert_eq!(read.next.offset, log.len() as u64);
    }
}

#[test]
fn other_files_newer_versions_and_shorter_ones_are_refused() {
    let refused = |bytes: &[u8], offset| {
        let log = file(bytes);
        let from = Position { offset, number: 0 };
        let error = read_on(log.path(), from, &mut |_| {}).unwrap_err();
        (error.to_string().replace(&log.path().display().to_string(), "LOG"), error.hint().is_some())
    };
    let version = "W&B's log has version 1 of its format, and only version 0 is understood: LOG";
    assert_eq!(refused(b":W&B\xe1\xbe\x01", 0), (version.into(), true));
    let other = "this is no log of W&B's, or its first 7 bytes are damaged: LOG";
    for bytes in [b"PK\x03\x04".as_slice(), b":W&B\xe1\xbf\x00", b"{}"] {
        assert_eq!(refused(bytes, 0), (other.into(), true));
    }
    let shorter = "W&B's log was 100 bytes long and is shorter now: LOG";
    assert_eq!(refused(&log_of(&[row(1, 1)]), 100), (shorter.into(), true));
    for length in 0..HEADER.len() {
        let (records, read) = read(&HEADER[..length]);
        assert_eq!((records.len(), read.next, read.torn), (0, Position::default(), length as u64));
    }
}
