//! Reads a checkpoint again and again and prints how fast: `checkpoint_speed MODE PATH REPEATS`, where MODE is `read`
//! (nothing but positional reads into one buffer), `digest` (blake3 on top) or `summarize` (what doodl3 does).
//! `benches/read_checkpoint.py` runs it beside PyTorch.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use doodl3::checkpoint::{self, Buffer, SketchParameters};
use doodl3::engine::Cancel;

const BUFFER: usize = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mode, path, repeats] = arguments.as_slice() else {
        return Err("usage: checkpoint_speed read|digest|blocks|summarize PATH REPEATS".into());
    };
    let path = Path::new(path);
    let mut best = f64::INFINITY;
    for _ in 0..repeats.parse::<u32>()? {
        let begin = Instant::now();
        match mode.as_str() {
            "read" => read(path)?,
            "digest" => digest(path)?,
            "blocks" => blocks(path)?,
            "summarize" => drop(checkpoint::summarize(path, &SketchParameters::default(), &Cancel::new())?),
            _ => return Err(format!("no such mode: {mode}").into()),
        }
        best = best.min(begin.elapsed().as_secs_f64());
    }
    let bytes = path.metadata()?.len();
    println!(
        "{{\"mode\": \"{mode}\", \"seconds\": {best:.4}, \"gigabytes_per_second\": {:.3}}}",
        bytes as f64 / best / 1e9
    );
    Ok(())
}

fn read(path: &Path) -> Result<(), Box<dyn Error>> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < bytes {
        let length = BUFFER.min((bytes - at) as usize);
        file.read_exact_at(&mut buffer[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

fn blocks(path: &Path) -> Result<(), Box<dyn Error>> {
    let file = checkpoint::open(path)?;
    let mut buffer = Buffer::default();
    for tensor in 0..file.contents().tensors.len() {
        file.read_blocks(tensor, &mut buffer, |_| ControlFlow::Continue(()))?;
    }
    Ok(())
}

fn digest(path: &Path) -> Result<(), Box<dyn Error>> {
    let file = checkpoint::open(path)?;
    let mut buffer = Buffer::default();
    let mut digest = blake3::Hasher::new();
    for tensor in 0..file.contents().tensors.len() {
        file.read_blocks(tensor, &mut buffer, |block| {
            digest.update(block.bytes);
            ControlFlow::Continue(())
        })?;
    }
    std::hint::black_box(digest.finalize());
    Ok(())
}
