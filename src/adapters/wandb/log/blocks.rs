//! The blocks of a log: a file header, then blocks of 32 KiB, each a sequence of chunks.
//!
//! | what | bytes |
//! |---|---|
//! | file header | `:W&B`, `E1 BE`, version; it belongs to the first block |
//! | chunk | CRC-32 (IEEE) of type and payload, length of the payload (u16), type, payload; little-endian |
//! | rest of a block that holds no chunk's header | zeros |
//!
//! It is `LevelDB`'s log format with another checksum. Here damage is told from a torn end, and within a damaged block the
//! next chunk whose checksum is right is looked for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a block.
pub(super) const BLOCK: usize = 32 << 10;

/// The file header with the one version that is known.
pub(super) const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];

/// Bytes before a chunk's payload.
pub(super) const CHUNK: usize = 7;

/// What the file header tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// A log of the known version.
    Log,
    /// The file holds so many bytes of the header, and no more.
    Short(u64),
    /// Another version.
    Version(u8),
    /// Another file.
    Other,
}

/// Which part of a record a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Full,
    First,
    Middle,
    Last,
}

/// What comes next in a log.
#[derive(Debug)]
pub(super) enum Piece<'b> {
    /// A chunk whose checksum is right.
    Chunk { at: u64, end: u64, part: Part, payload: &'b [u8] },
    /// Something unreadable that begins here.
    Damage { at: u64 },
}

/// A log, block after block.
pub(super) struct Blocks<'f> {
    file: &'f File,
    block: Vec<u8>,
    /// Where the block begins in the file.
    start: u64,
    /// Where reading goes on in the block.
    at: usize,
}

/// What stands at a place of a block.
enum Place {
    /// A chunk of so many bytes, with its header.
    Chunk(Part, usize),
    /// The block's rest is unused.
    Unused,
    /// The file ends before a header or a payload does.
    Torn,
    /// No chunk.
    Damage,
}

impl<'f> Blocks<'f> {
    /// Opens a log at a byte, the beginning of a chunk.
    pub(super) fn open(file: &'f File, offset: u64) -> io::Result<(Self, Opening)> {
        let mut blocks = Self { file, block: Vec::with_capacity(BLOCK), start: 0, at: 0 };
        blocks.load(0, HEADER.len())?;
        let opening = match *blocks.block {
            [.., version] if blocks.block.len() == HEADER.len() => match (blocks.block == HEADER, version) {
                (true, _) => Opening::Log,
                (false, version) if version > 0 && blocks.block[..6] == HEADER[..6] => {
                    Opening::Version(version)
                }
                (false, _) => Opening::Other,
            },
            _ if HEADER.starts_with(&blocks.block) => Opening::Short(blocks.block.len() as u64),
            _ => Opening::Other,
        };
        let offset = offset.max(HEADER.len() as u64);
        let within = offset % BLOCK as u64;
        if opening == Opening::Log {
            blocks.load(offset - within, BLOCK)?;
        }
        blocks.at = within as usize;
        Ok((blocks, opening))
    }

    /// How far the file was seen to reach.
    pub(super) fn seen(&self) -> u64 {
        self.start + self.block.len() as u64
    }

    /// Whether nothing stands between what was read and the end of the file.
    pub(super) fn at_a_seam(&self) -> bool {
        let rest = self.block.get(self.at..).unwrap_or_default();
        rest.is_empty() || (BLOCK - self.at < CHUNK && rest.iter().all(|&byte| byte == 0))
    }

    /// The next piece; `None` at the end of what can be read now.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        loop {
            let at = self.at;
            match self.place(at) {
                Place::Chunk(part, length) => {
                    self.at = at + length;
                    return Ok(Some(Piece::Chunk {
                        at: self.start + at as u64,
                        end: self.start + self.at as u64,
                        part,
                        payload: &self.block[at + CHUNK..self.at],
                    }));
                }
                Place::Unused => {
                    if self.block.len() < BLOCK || !self.load_next()? {
                        return Ok(None);
                    }
                }
                Place::Torn | Place::Damage => {
                    match self.next_beginning(at + 1) {
                        Some(next) => self.at = next,
                        // What follows is still to be written.
                        None if self.block.len() < BLOCK => return Ok(None),
                        None => self.at = BLOCK,
                    }
                    return Ok(Some(Piece::Damage { at: self.start + at as u64 }));
                }
            }
        }
    }

    /// What stands at `at`.
    fn place(&self, at: usize) -> Place {
        let rest = self.block.get(at..).unwrap_or_default();
        if at + CHUNK > BLOCK {
            return Place::Unused;
        }
        let &[c0, c1, c2, c3, l0, l1, kind, ..] = rest else {
            return Place::Torn;
        };
        let length = CHUNK + usize::from(u16::from_le_bytes([l0, l1]));
        let part = match kind {
            1 => Part::Full,
            2 => Part::First,
            3 => Part::Middle,
            4 => Part::Last,
            // Files may be made longer before they are written.
            0 if rest.iter().all(|&byte| byte == 0) => return Place::Unused,
            _ => return Place::Damage,
        };
        if at + length > BLOCK {
            return Place::Damage;
        }
        match rest.get(CHUNK - 1..length) {
            None => Place::Torn,
            Some(summed) if crc32fast::hash(summed) == u32::from_le_bytes([c0, c1, c2, c3]) => {
                Place::Chunk(part, length)
            }
            Some(_) => Place::Damage,
        }
    }

    /// The first place from `from` on where a record begins. That 32 bits fit by chance is a matter of one in millions of
    /// damaged blocks.
    fn next_beginning(&self, from: usize) -> Option<usize> {
        (from..self.block.len().saturating_sub(CHUNK)).find(|&at| {
            matches!(self.block[at + CHUNK - 1], 1 | 2)
                && matches!(self.place(at), Place::Chunk(_, length) if length > CHUNK)
        })
    }

    /// Goes to the next block; whether there is one.
    fn load_next(&mut self) -> io::Result<bool> {
        let mut probe = [0];
        let next = self.start + BLOCK as u64;
        if self.file.read_at(&mut probe, next)? == 0 {
            return Ok(false);
        }
        self.load(next, BLOCK)?;
        self.at = 0;
        Ok(true)
    }

    fn load(&mut self, start: u64, length: usize) -> io::Result<()> {
        self.block.resize(length, 0);
        self.start = start;
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut self.block[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.block.truncate(filled);
        Ok(())
    }
}
