//! Names: of parameters without the prefixes of wrappers, of files that may be checkpoints, of metadata that tell the
//! step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Components that wrappers put anywhere into a name: `torch.compile`, FSDP, activation checkpointing.
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// First components that belong to the program around the model, where all parameters carry them: data-parallel
/// wrappers, attributes of Lightning modules and of training classes.
const PREFIXES: [&str; 8] =
    ["module", "model", "net", "network", "_forward_module", "ema_model", "state_dict", "weights"];

/// The parameters' names without the prefixes that wrappers add, so that a model is known whichever way it was trained.
///
/// Components such as `_orig_mod` are taken out wherever they stand; first components such as `module` or `model` where
/// all names have them. Where two names would become one, all stay as they are.
///
/// ```
/// use doodl3::checkpoint::normalize_names;
/// assert_eq!(normalize_names(&["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"]), ["fc.weight", "fc.bias"]);
/// ```
pub fn normalize_names<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    let mut normalized: Vec<Vec<&str>> = names
        .iter()
        .map(|name| name.as_ref().split('.').filter(|component| !WRAPPERS.contains(component)).collect())
        .collect();
    while let Some(&first) = normalized.first().and_then(|name| name.first())
        && PREFIXES.contains(&first)
        && normalized.iter().all(|name| name.len() > 1 && name[0] == first)
    {
        for name in &mut normalized {
            name.remove(0);
        }
    }
    let joined: Vec<String> = normalized.iter().map(|name| name.join(".")).collect();
    let distinct: BTreeSet<&String> = joined.iter().collect();
    if distinct.len() == joined.len() && !distinct.contains(&String::new()) {
        joined
    } else {
        names.iter().map(|name| name.as_ref().to_owned()).collect()
    }
}

/// Endings of files that may be checkpoints.
pub const ENDINGS: [&str; 8] =
    [".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pt.tar", ".pth.tar", ".pt2"];

/// Beginnings of files that trainers put beside the weights and that hold none.
const COMPANIONS: [&str; 6] =
    ["optimizer", "scheduler", "scaler", "rng_state", "training_args", "random_states"];

/// Whether a file may be a checkpoint, by its path alone.
///
/// Not so: hidden and temporary files and folders of writers that rename at the end, optimiser and scheduler files of
/// known trainers, doodl3's own folders.
pub fn is_candidate(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let lower = name.to_ascii_lowercase();
    let folder_in_the_way = path.parent().is_some_and(|parent| {
        parent.components().filter_map(|component| component.as_os_str().to_str()).any(|folder| {
            matches!(folder, "doodl3" | ".doodl3" | "doodl3-reports")
                || folder.starts_with("tmp-checkpoint-")
                || folder.contains(".orbax-checkpoint-tmp")
        })
    });
    ENDINGS.iter().any(|ending| lower.ends_with(ending))
        && !name.starts_with('.')
        && !lower.starts_with("tmp")
        && !lower.contains(".tmp")
        && !COMPANIONS.iter().any(|companion| lower.starts_with(companion))
        && !folder_in_the_way
}

/// Whether a file's name says that it is one part of several, as in `model-00001-of-00003.safetensors`.
pub(super) fn is_part(path: &Path) -> bool {
    let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    stem.rsplit_once("-of-").is_some_and(|(before, parts)| {
        let part = before.rsplit_once('-').map_or(before, |(_, part)| part);
        digits(parts) && digits(part)
    })
}

/// Metadata that tell the step, the most telling first.
const STEP_KEYS: [&str; 6] = ["global_step", "step", "iteration", "iter", "steps", "num_updates"];

/// Metadata that tell the epoch.
const EPOCH_KEYS: [&str; 2] = ["epoch", "epochs"];

/// The trainer's step in a checkpoint's metadata.
pub(super) fn step_in(metadata: &BTreeMap<String, String>) -> Option<u64> {
    let number = number_in(metadata, &STEP_KEYS)?;
    (number.fract() == 0.0 && number < (1u64 << 53) as f64).then_some(number as u64)
}

/// The epoch in a checkpoint's metadata.
pub(super) fn epoch_in(metadata: &BTreeMap<String, String>) -> Option<f64> {
    number_in(metadata, &EPOCH_KEYS)
}

fn number_in(metadata: &BTreeMap<String, String>, keys: &[&str]) -> Option<f64> {
    keys.iter()
        .filter_map(|&key| metadata.get(key)?.trim().parse::<f64>().ok())
        .find(|number| number.is_finite() && *number >= 0.0)
}

/// Longest text that is kept of a name or a value that a file brings.
const LONGEST_TEXT: usize = 400;

/// Text from a file, fit for a message: of bounded length, without control characters.
pub(super) fn clip(text: &str) -> String {
    let mut clipped: String =
        text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_vanish_from_names() {
        let cases: [(&[&str], &[&str]); 7] = [
            (&["module.a", "module.b"], &["a", "b"]),
            (&["module._orig_mod.model.a", "module._orig_mod.model.b"], &["a", "b"]),
            (&["a._fsdp_wrapped_module.b", "c"], &["a.b", "c"]),
            (&["model.layers.0", "lm_head.weight"], &["model.layers.0", "lm_head.weight"]),
            // A name must be left, and names must stay different.
            (&["module"], &["module"]),
            (&["_orig_mod.a", "a"], &["_orig_mod.a", "a"]),
            (&[], &[]),
        ];
        for (names, wanted) in cases {
            assert_eq!(normalize_names(names), wanted, "{names:?}");
        }
    }

    #[test]
    fn files_are_told_by_their_paths() {
        let candidates = [
            "a.safetensors",
            "run/step-1.PT",
            "x/epoch=1-step=8-val_loss=1.575.ckpt",
            "checkpoint.pth.tar",
            "checkpoint-500/pytorch_model.bin",
        ];
        let others = [
            ".tmpAB12.safetensors",
            "a.safetensors.tmp",
            "model.pt.tmp.1234",
            "tmp-checkpoint-5/model.safetensors",
            "run.orbax-checkpoint-tmp-3/a.pt",
            "checkpoint-500/optimizer.pt",
            "checkpoint-500/training_args.bin",
            "run/doodl3/probe.safetensors",
            "loss.csv",
            "model.py",
            "a",
        ];
        for path in candidates {
            assert!(is_candidate(Path::new(path)), "{path}");
        }
        for path in others {
            assert!(!is_candidate(Path::new(path)), "{path}");
        }
        assert!(is_part(Path::new("model-00001-of-00003.safetensors")));
        assert!(!is_part(Path::new("best-of-breed.pt")));
    }

    #[test]
    fn metadata_tell_step_and_epoch() {
        let metadata = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let both = metadata(&[("step", "5"), ("global_step", "70"), ("epoch", "1.5")]);
        assert_eq!((step_in(&both), epoch_in(&both)), (Some(70), Some(1.5)));
        for nonsense in ["-1", "NaN", "1e300", "many", "0.5"] {
            assert_eq!(step_in(&metadata(&[("step", nonsense)])), None, "{nonsense}");
        }
    }
}
