//! W&B's transaction logs, `wandb/{run,offline-run}-*/run-<id>.wandb`: what a run told its SDK, whether it was sent or not.
//!
//! A log is read on from where the last reading ended, while it grows and after its process has died. `blocks` knows the
//! blocks and chunks, `records` the protobuf messages; this file joins chunks into records and says what is missing.
//! Memory is bounded by the longest record, see [`MOST_BYTES`]. The format is that of the SDK's `core/` (0.22 to 0.31).
//!
//! What cannot be read is passed over at the next record that can: one flipped bit costs one record. A place counts as
//! damaged only once a whole record follows it, since until then it may be a record that is still being written. So the end
//! of a log, torn or damaged, is never an error; the next reading begins there again.

mod blocks;
mod records;
#[cfg(test)]
pub(super) mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use self::blocks::{Blocks, Opening, Part, Piece};
pub use self::records::{Alert, Artifact, Change, File as ArtifactFile, Record, Row, Run, Value};

/// The longest record that is read, in bytes. W&B itself takes rows up to 10 MiB; manifests of artifacts with very many
/// files are longer.
pub const MOST_BYTES: usize = 64 << 20;

/// Where a reading ended and the next begins: after the last whole record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes from the file's beginning.
    pub offset: u64,
    /// The number of the record before, counted from 1 by the SDK; 0 before the first.
    pub number: i64,
}

/// What a reading came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Where the next reading begins.
    pub next: Position,
    /// Bytes after that which are no whole record: one that is still being written, or the torn end of a log whose process
    /// died.
    pub torn: u64,
    /// What was passed over, in the log's order.
    pub missing: Vec<Missing>,
}

/// A part of a log that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its first byte.
    pub from: u64,
    /// The byte after its last.
    pub to: u64,
    /// How many records are missing, by the numbers of those around them; `None` where these do not tell.
    pub records: Option<u64>,
    /// Why.
    pub why: Why,
}

/// Why a part of a log was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A checksum or a header is wrong.
    Damaged,
    /// Its end was never written, although others follow.
    Unfinished,
    /// It is longer than [`MOST_BYTES`].
    TooLong,
    /// Its checksum is right, and yet it is no record.
    Strange,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.records {
            Some(1) => f.write_str("1 record")?,
            Some(records) => write!(f, "{records} records")?,
            None => f.write_str("some records")?,
        }
        let why = match self.why {
            Why::Damaged => "damaged",
            Why::Unfinished => "not written to the end",
            Why::TooLong => "too long",
            Why::Strange => "not understood",
        };
        write!(f, " cannot be read: bytes {} to {} are {why}", self.from, self.to)
    }
}

/// Why a log cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refuses.
    #[error("{source}: {}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its first bytes are not those of a log.
    #[error("this is no log of W&B's, or its first 7 bytes are damaged: {}", .0.display())]
    NotALog(PathBuf),
    /// It is written by a newer SDK than this program knows.
    #[error("W&B's log has version {version} of its format, and only version 0 is understood: {}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it says.
        version: u8,
    },
    /// It is shorter than what was read of it: another file has taken its place.
    #[error("W&B's log was {offset} bytes long and is shorter now: {}", path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
        /// Where reading was to go on.
        offset: u64,
    },
}

impl LogError {
    /// What to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Disk { .. } => None,
            Self::NotALog(_) => Some("move the file away, or copy it again from where it was written"),
            Self::Version { .. } => {
                Some("update doodl3, or watch the run at the W&B server after `wandb sync`")
            }
            Self::Shorter { .. } => Some("read it again from its beginning"),
        }
    }
}

/// Reads a log from `from` to its end and hands each record on. A log of which not even the first 7 bytes are written is
/// empty.
///
/// # Errors
/// [`LogError`]; not for what is damaged or torn, which [`Read`] tells.
pub fn read_on(path: &Path, from: Position, each: &mut dyn FnMut(Record)) -> Result<Read, LogError> {
    let disk = |source| LogError::Disk { path: path.into(), source };
    let file = File::open(path).map_err(disk)?;
    if file.metadata().map_err(disk)?.len() < from.offset {
        return Err(LogError::Shorter { path: path.into(), offset: from.offset });
    }
    let (mut blocks, opening) = Blocks::open(&file, from.offset).map_err(disk)?;
    match opening {
        Opening::Log => {}
        Opening::Short(length) => return Ok(Read { next: from, torn: length, missing: Vec::new() }),
        Opening::Other => return Err(LogError::NotALog(path.into())),
        Opening::Version(version) => return Err(LogError::Version { path: path.into(), version }),
    }
    let mut joiner = Joiner { each, next: from, state: State::Between, gap: None, missing: Vec::new() };
    joiner.next.offset = from.offset.max(blocks::HEADER.len() as u64);
    while let Some(piece) = blocks.next().map_err(disk)? {
        joiner.take(&piece);
    }
    let end = blocks.seen();
    let Joiner { mut next, state, gap, missing, .. } = joiner;
    if matches!(state, State::Between) && gap.is_none() && blocks.at_a_seam() {
        next.offset = next.offset.max(end);
    }
    Ok(Read { next, torn: end.saturating_sub(next.offset), missing })
}

/// Joins chunks into records.
struct Joiner<'e> {
    each: &'e mut dyn FnMut(Record),
    /// After the last record that was whole.
    next: Position,
    state: State,
    /// What was passed over since the last whole record, which is told when the next one comes.
    gap: Option<(u64, u64, Why)>,
    missing: Vec<Missing>,
}

/// What the chunks so far have come to.
enum State {
    /// A record is complete.
    Between,
    /// A record that began at `from` goes on.
    Within { from: u64, bytes: Vec<u8> },
    /// What began at `from` is lost; the next beginning of a record is waited for.
    Lost { from: u64, why: Why },
}

impl Joiner<'_> {
    fn take(&mut self, piece: &Piece<'_>) {
        match *piece {
            Piece::Damage { at } => self.lose(at, Why::Damaged),
            Piece::Chunk { at, end, part, payload } => match part {
                Part::Full | Part::First => {
                    self.begin(at);
                    if part == Part::Full {
                        self.record(at, end, payload);
                    } else {
                        self.state = State::Within { from: at, bytes: payload.to_vec() };
                    }
                }
                Part::Middle | Part::Last => self.go_on(at, end, part, payload),
            },
        }
    }

    /// Another record begins at a byte: what is not whole before it is lost.
    fn begin(&mut self, at: u64) {
        let lost = match std::mem::replace(&mut self.state, State::Between) {
            State::Between => return,
            State::Within { from, .. } => (from, Why::Unfinished),
            State::Lost { from, why } => (from, why),
        };
        self.pass_over(lost.0, at, lost.1);
    }

    fn go_on(&mut self, at: u64, end: u64, part: Part, payload: &[u8]) {
        match &mut self.state {
            State::Within { from, bytes } if bytes.len() + payload.len() > MOST_BYTES => {
                self.state = State::Lost { from: *from, why: Why::TooLong };
            }
            State::Within { bytes, .. } => bytes.extend_from_slice(payload),
            State::Between => self.lose(at, Why::Damaged),
            State::Lost { .. } => {}
        }
        if part == Part::Last {
            match std::mem::replace(&mut self.state, State::Between) {
                State::Within { from, bytes } => self.record(from, end, &bytes),
                State::Lost { from, why: Why::TooLong } => self.pass_over(from, end, Why::TooLong),
                lost => self.state = lost,
            }
        }
    }

    fn lose(&mut self, at: u64, why: Why) {
        let from = match self.state {
            State::Between => at,
            State::Within { from, .. } | State::Lost { from, .. } => from,
        };
        self.state = State::Lost { from, why };
    }

    fn pass_over(&mut self, from: u64, to: u64, why: Why) {
        let (from, why) = self.gap.map_or((from, why), |(from, _, why)| (from, why));
        self.gap = Some((from, to, why));
    }

    /// A whole record.
    fn record(&mut self, from: u64, end: u64, bytes: &[u8]) {
        let Some((number, record)) = records::decode(bytes) else {
            self.pass_over(from, end, Why::Strange);
            return;
        };
        if let Some((from, to, why)) = self.gap.take() {
            let between = number.checked_sub(self.next.number).map(|between| between.saturating_sub(1));
            let records =
                between.and_then(|between| u64::try_from(between).ok()).filter(|&records| records > 0);
            self.missing.push(Missing { from, to, records, why });
        }
        self.next = Position { offset: end, number };
        if let Some(record) = record {
            (self.each)(record);
        }
    }
}
