//! Files made to do harm, damaged files, files still being written: each ends in one clear error, soon and in little
//! memory, and nothing in them is run.

use std::path::Path;
use std::process::Command;

use doodl3::checkpoint::{self, CheckpointError};
use proptest::prelude::*;

use crate::checkpoint::{fixtures, summarize};

/// One entry of a zip file.
struct Entry<'a> {
    name: &'a str,
    data: Vec<u8>,
    /// What the directory says about its length, where that is a lie.
    claimed: Option<u32>,
    method: u16,
}

fn stored(name: &str, data: impl Into<Vec<u8>>) -> Entry<'_> {
    Entry { name, data: data.into(), claimed: None, method: 0 }
}

/// A zip file as PyTorch writes it: sizes in the central directory alone.
fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let header = file.len() as u32;
        let name_length = entry.name.len() as u16;
        file.extend(b"PK\x03\x04\0\0\0\x08");
        file.extend(entry.method.to_le_bytes());
        file.extend([0; 16]);
        file.extend(name_length.to_le_bytes());
        file.extend([0; 2]);
        file.extend(entry.name.bytes());
        file.extend(&entry.data);

        let size = entry.claimed.unwrap_or(entry.data.len() as u32);
        directory.extend(b"PK\x01\x02\0\0\0\0\0\x08");
        directory.extend(entry.method.to_le_bytes());
        directory.extend([0; 8]);
        directory.extend(size.to_le_bytes());
        directory.extend(size.to_le_bytes());
        directory.extend(name_length.to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(header.to_le_bytes());
        directory.extend(entry.name.bytes());
    }
    let start = file.len() as u32;
    let length = directory.len() as u32;
    let count = entries.len() as u16;
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(length.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// A file of `torch.save` with this pickle and one storage of 16 bytes.
fn torch_file(pickle: impl Into<Vec<u8>>) -> Vec<u8> {
    zip(&[stored("a/data.pkl", pickle), stored("a/byteorder", "little"), stored("a/data/0", [0; 16])])
}

/// Short text, as a pickle has it.
fn text(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8], text.as_bytes()].concat()
}

/// A 64-bit integer, as a pickle has it.
fn long(number: i64) -> Vec<u8> {
    [&[0x8a, 8], number.to_le_bytes().as_slice()].concat()
}

fn tuple(items: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), items.iter().flat_map(|&item| long(item)).collect(), b"t".to_vec()].concat()
}

/// `{'weight': tensor}` with a tensor of the storage `0` of `count` 32-bit floats.
fn state_dict(count: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [
        b"\x80\x02}".to_vec(),
        text("weight"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        long(count),
        b"tQ".to_vec(),
        long(offset),
        tuple(shape),
        tuple(strides),
        b"\x89Nt".to_vec(),
        b"Rs.".to_vec(),
    ]
    .concat()
}

/// A safetensors file with this header and `data` bytes of zeros.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &vec![0; data]].concat()
}

fn pieces(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A file's name, its bytes, and words that the error must have.
type Attack = (&'static str, Vec<u8>, &'static str);

/// Pickles that run code, have no end or ask for too much.
fn hostile_pickles() -> Vec<Attack> {
    let dictionary = |value: &[u8]| pieces(&[b"\x80\x02}", &text("weight"), value, b"s."]);
    // Each list holds the one before a hundred times: 100^20 entries in 4 kB.
    let mut bomb = pieces(&[b"\x80\x02}", &text("weight"), b"]\x940"]);
    for level in 0..20_u8 {
        bomb.extend(b"](");
        bomb.extend([b'h', level].repeat(100));
        bomb.extend(b"e\x940");
    }
    bomb.extend(b"h\x14s.");
    let cyclic = b"\x80\x02}q\x00\x8c\x01ah\x00s.".to_vec();
    let run = pieces(&[b"\x80\x02cposix\nsystem\n", &text("touch /tmp/doodl3-was-here"), b"\x85R."]);
    let run_for_a_tensor = dictionary(&pieces(&[
        b"cposix\nsystem\n((",
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &long(4),
        b"tQtR",
    ]));
    vec![
        ("runs_code.pt", torch_file(run), "posix.system"),
        ("runs_code_for_a_tensor.pt", torch_file(run_for_a_tensor), "posix.system"),
        ("bomb_of_references.pt", torch_file(bomb), "without end"),
        ("refers_to_itself.pt", torch_file(cyclic), "deep"),
        (
            "nested_tuples.pt",
            torch_file(dictionary(&pieces(&[b")", &[0x85; 3_000_000]]))),
            "more than 2000000 values",
        ),
        ("full_stack.pt", torch_file(pieces(&[b"\x80\x02", &[b'N'; 7_000_000], b"."])), "more than"),
        ("marks.pt", torch_file(pieces(&[b"\x80\x02", &[b'('; 7_000_000], b"."])), "too many marks"),
        (
            "long_text.pt",
            torch_file(b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x3f.".to_vec()),
            "ends in the middle",
        ),
        ("long_bytes.pt", torch_file(b"\x80\x02B\xff\xff\xff\xff.".to_vec()), "ends in the middle"),
        ("no_stop.pt", torch_file(b"\x80\x02}".to_vec()), "ends in the middle"),
        ("empty_stack.pt", torch_file(b"\x80\x02R.".to_vec()), "from the stack"),
        ("pops_past_mark.pt", torch_file(b"\x80\x02N(R.".to_vec()), "from the stack"),
        (
            "short_arguments.pt",
            torch_file(dictionary(b"ctorch._utils\n_rebuild_tensor_v2\n)R")),
            "too few numbers",
        ),
        ("recalls_nothing.pt", torch_file(b"\x80\x02h\x05.".to_vec()), "never kept"),
        ("old_protocol.pt", torch_file(b"(dp0\n.".to_vec()), "opcode"),
    ]
}

/// Tensors that do not lie in their storages.
fn hostile_tensors() -> Vec<Attack> {
    vec![
        ("large_shape.pt", torch_file(state_dict(4, 0, &[1 << 40], &[1])), "more elements than its storage"),
        ("overflowing_shape.pt", torch_file(state_dict(4, 0, &[1 << 40, 1 << 40], &[1, 1])), "more elements"),
        (
            "overflowing_strides.pt",
            torch_file(state_dict(4, 0, &[2, 2], &[i64::MAX, i64::MAX])),
            "reaches beyond",
        ),
        ("large_offset.pt", torch_file(state_dict(4, i64::MAX, &[1], &[1])), "reaches beyond"),
        ("negative_offset.pt", torch_file(state_dict(4, -1, &[1], &[1])), "begins nowhere"),
        ("negative_stride.pt", torch_file(state_dict(4, 3, &[2], &[-1])), "no sensible strides"),
        ("short_storage.pt", torch_file(state_dict(1 << 30, 0, &[1 << 30], &[1])), "missing or too short"),
        ("one_element_a_million_times.pt", torch_file(state_dict(4, 0, &[1_000_000], &[0])), "more elements"),
    ]
}

/// Zip archives that are not what they say.
fn hostile_archives() -> Vec<Attack> {
    let two_pickles = zip(&[stored("a/data.pkl", "."), stored("b/data.pkl", ".")]);
    let twice = zip(&[stored("a/data.pkl", "."), stored("a/data.pkl", ".")]);
    let claims = |claimed, method| {
        zip(&[
            Entry { name: "a/data.pkl", data: b"\x80\x02}.".to_vec(), claimed: Some(claimed), method },
            stored("a/data/0", [0; 16]),
        ])
    };
    let mut beyond = torch_file(state_dict(4, 0, &[4], &[1]));
    let end = beyond.len();
    beyond[end - 6..end - 2].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    let mut many = torch_file(state_dict(4, 0, &[4], &[1]));
    many[end - 12..end - 10].copy_from_slice(&9_u16.to_le_bytes());
    vec![
        ("two_pickles.pt", two_pickles, "several pickles"),
        ("name_twice.pt", twice, "stands twice"),
        ("large_claim.pt", claims(0xffff_fff0, 0), "reaches beyond the data"),
        ("deflated.pt", claims(4, 8), "compressed"),
        ("directory_beyond_the_end.pt", beyond, "beyond the end"),
        ("more_entries_than_there_are.pt", many, "in the middle of an entry"),
        ("big_endian.pt", zip(&[stored("a/data.pkl", "."), stored("a/byteorder", "big")]), "big-endian"),
        ("no_pickle.pt", zip(&[stored("a/b.txt", "x")]), "no data.pkl"),
    ]
}

/// Headers of safetensors that do not describe the data behind them.
fn hostile_safetensors() -> Vec<Attack> {
    let entry = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}")
    };
    let one = |name: &str, dtype: &str, shape: &str, begin: u64, end: u64| {
        format!("{{\"{name}\":{}}}", entry(dtype, shape, begin, end))
    };
    vec![
        (
            "header_of_2_to_62.safetensors",
            pieces(&[&(1_u64 << 62).to_le_bytes(), b"{}      "]),
            "the format allows",
        ),
        ("header_no_json.safetensors", safetensors("{]", 8), "cannot be read"),
        (
            "header_nested.safetensors",
            safetensors(&("{\"a\":".to_owned() + &"[".repeat(1_000_000)), 8),
            "cannot be read",
        ),
        (
            "overlap.safetensors",
            safetensors(
                &format!("{{\"a\":{},\"b\":{}}}", entry("F32", "[2]", 0, 8), entry("F32", "[2]", 4, 12)),
                12,
            ),
            "begins at byte 4",
        ),
        ("gap.safetensors", safetensors(&one("a", "F32", "[2]", 4, 12), 12), "begins at byte 4"),
        (
            "name_twice.safetensors",
            safetensors(
                &format!("{{\"a\":{},\"a\":{}}}", entry("F32", "[1]", 0, 4), entry("F32", "[1]", 4, 8)),
                8,
            ),
            "stands twice",
        ),
        ("backwards.safetensors", safetensors(&one("a", "F32", "[1]", 4, 0), 4), "cannot lie"),
        ("wrong_size.safetensors", safetensors(&one("a", "F32", "[3]", 0, 8), 8), "cannot lie"),
        (
            "overflowing_shape.safetensors",
            safetensors(&one("a", "F32", "[4611686018427387904,4]", 0, 0), 0),
            "cannot lie",
        ),
        ("rest.safetensors", safetensors(&one("a", "F32", "[2]", 0, 8), 9), "it goes on"),
        ("unknown_type.safetensors", safetensors(&one("a", "C64", "[1]", 0, 8), 8), "C64"),
        ("metadata_no_text.safetensors", safetensors("{\"__metadata__\":{\"step\":3}}", 0), "cannot be read"),
    ]
}

/// What is no whole checkpoint.
fn no_checkpoints() -> Vec<Attack> {
    vec![
        ("random.pt", (0..=255).collect(), "neither"),
        ("model-00001-of-00002.safetensors", safetensors("{}", 0), "one part"),
    ]
}

fn hostile_files() -> impl Iterator<Item = Attack> {
    [hostile_pickles(), hostile_tensors(), hostile_archives(), hostile_safetensors(), no_checkpoints()]
        .into_iter()
        .flatten()
}

#[test]
fn each_attack_ends_in_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, words) in hostile_files() {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = summarize(&path).map(|summary| summary.parameters).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(words), "{name}: `{message}` should say `{words}`");
        assert!(message.len() < 1000, "{name}: {message}");
        assert!(!error.is_transient(), "{name}: waiting does not help: {message}");
    }
    assert!(!Path::new("/tmp/doodl3-was-here").exists());
}

#[test]
fn no_attack_takes_much_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, _) in hostile_files() {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        // An allocation that fails aborts the process; so does a stack that overflows.
        let run = Command::new("sh")
            .args(["-c", "ulimit -v 1000000 && exec \"$0\" inspect \"$1\"", env!("CARGO_BIN_EXE_doodl3")])
            .arg(&path)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{name}: {message}");
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a_sound_file_by_the_same_makers_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.pt");
    std::fs::write(&path, torch_file(state_dict(4, 1, &[3, 1], &[1, 7]))).unwrap();
    let opened = checkpoint::open(&path).unwrap();
    assert_eq!(opened.contents().tensors[0].shape, [3, 1]);
    assert_eq!(opened.read_f32(0).unwrap(), [0.0; 3]);
}

#[test]
fn a_file_cut_off_anywhere_is_one_that_may_still_grow() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["state_dict.pt", "views.pt", "step-000450.safetensors"] {
        let whole = std::fs::read(fixtures().join(file)).unwrap();
        let path = folder.path().join(file);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = checkpoint::open(&path).map(drop).unwrap_err();
            assert!(error.is_transient(), "{file} at {length} of {}: {error}", whole.len());
            assert!(!checkpoint::looks_complete(&path).unwrap());
        }
    }
}

#[test]
fn a_file_that_has_its_size_but_not_its_content_may_still_be_filled() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixtures().join("step-000450.safetensors")).unwrap();
    let path = folder.path().join("step-000450.safetensors");
    for written in [0, 4, 8, 100] {
        let mut bytes = vec![0; whole.len()];
        bytes[..written].copy_from_slice(&whole[..written]);
        std::fs::write(&path, bytes).unwrap();
        let error = checkpoint::open(&path).map(drop).unwrap_err();
        assert!(matches!(error, CheckpointError::Incomplete { .. }), "{written}: {error}");
    }
}

/// Reads a file of these bytes as far as it goes.
fn read(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    match summarize(&path) {
        Ok(summary) => {
            assert!(summary.sketch.values.iter().all(|value| value.is_finite()));
            for statistics in summary.statistics {
                let numbers =
                    [statistics.norm, statistics.mean, statistics.variance, statistics.min, statistics.max];
                assert!(numbers.iter().all(|number| number.is_finite()), "{statistics:?}");
            }
        }
        Err(error) => assert!(error.to_string().ends_with(&path.display().to_string())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_bytes_never_make_the_reader_fall(
        file in prop::sample::select(vec![
            "state_dict.pt", "training.pt", "views.pt", "dtypes.pt", "module.pt", "protocol_5.pt", "dtypes.safetensors",
            "step-000450.safetensors",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = std::fs::read(fixtures().join(file)).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read(file, &bytes);
    }

    #[test]
    fn any_pickle_is_read_or_refused(
        pickle in prop::collection::vec(
            prop_oneof![
                // Opcodes, and what a tensor is made of.
                prop::sample::select(b"()NQR}]tseuabc.012hqKJ\x80\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x93\x94\x95\x81\x92".to_vec())
                    .prop_map(|byte| vec![byte]),
                any::<u8>().prop_map(|byte| vec![b'K', byte]),
                any::<u8>().prop_map(|byte| vec![b'h', byte % 8]),
                any::<u8>().prop_map(|byte| vec![b'q', byte % 8]),
                prop::sample::select(vec!["weight", "storage", "0", "cpu", "model", "state_dict", "optimizer"]).prop_map(text),
                Just(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec()),
                Just(b"ctorch\nFloatStorage\n".to_vec()),
                Just(b"ccollections\nOrderedDict\n".to_vec()),
                Just(state_dict(4, 0, &[2, 2], &[1, 2])[2..].to_vec()),
                Just(tuple(&[2, 2])),
            ],
            0..60,
        ),
    ) {
        read("any.pt", &torch_file(pieces(&[b"\x80\x02", &pickle.concat(), b"."])));
    }
}
