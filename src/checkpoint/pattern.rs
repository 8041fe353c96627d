//! What a file's path tells: run, experiment, step, epoch.

use std::path::{Component, Path};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How paths of checkpoints are read.
///
/// Written as a path with fields: `{run}/step-{step}.safetensors`. The fields are `{run}`, `{experiment}`, `{step}` and
/// `{epoch}`; `*` stands for any text within a name. A pattern is held against the last components of a path, so it
/// fits at any depth below the watched directory.
///
/// Without a pattern ([`Pattern::default`]) the run is the folder that holds the file, and the step is the number after a
/// word such as `step`, `iter`, `checkpoint` or `epoch` in the file's name, or in that of a folder like
/// `checkpoint-500`, which then lies in the run's folder.
///
/// ```
/// # use std::path::Path;
/// use doodl3::checkpoint::Pattern;
///
/// let pattern: Pattern = "{run}/step-{step}.safetensors".parse()?;
/// let naming = pattern.matches(Path::new("lr-0.1/seed-3/step-450.safetensors")).expect("it fits");
/// assert_eq!((naming.run.as_str(), naming.step), ("seed-3", Some(450)));
/// assert_eq!(naming.experiment.as_deref(), Some("lr-0.1"));
///
/// let naming = Pattern::default().matches(Path::new("seed-3/epoch=1-step=8-val_loss=1.575.ckpt")).expect("any fits");
/// assert_eq!((naming.epoch, naming.step), (Some(1.0), Some(8)));
/// # Ok::<(), doodl3::checkpoint::PatternError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    /// As it was written; empty for the default.
    text: String,
    /// Pieces of each component; none for the default.
    components: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Any,
    Field(Field),
}

impl Piece {
    fn is_number(&self) -> bool {
        matches!(self, Self::Field(Field::Step | Field::Epoch))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Run,
    Experiment,
    Step,
    Epoch,
}

impl Field {
    const ALL: [(&'static str, Self); 4] =
        [("run", Self::Run), ("experiment", Self::Experiment), ("step", Self::Step), ("epoch", Self::Epoch)];
}

/// What a path told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Naming {
    /// The run: `{run}`, else the folder that holds the checkpoints; empty where that is the watched directory itself.
    pub run: String,
    /// The experiment: `{experiment}`, else the folders above the run's; `None` where there are none.
    pub experiment: Option<String>,
    /// The trainer's step.
    pub step: Option<u64>,
    /// The epoch.
    pub epoch: Option<f64>,
}

/// What is wrong with a pattern, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at character {at} of the pattern `{pattern}`")]
pub struct PatternError {
    what: String,
    /// Position of the character, from 1.
    at: usize,
    pattern: String,
}

impl PatternError {
    /// Position of the character that is wrong, from 1.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut components = vec![Vec::new()];
        let mut seen: Vec<Field> = Vec::new();
        let wrong = |at: usize, what: String| PatternError { what, at: at + 1, pattern: text.to_owned() };
        if text.is_empty() {
            return Err(wrong(0, "a name is missing".into()));
        }
        let mut characters = text.chars().enumerate().peekable();
        while let Some((at, character)) = characters.next() {
            let pieces = components.last_mut().expect("there is always one");
            let piece = match character {
                '/' if pieces.is_empty() => return Err(wrong(at, "a name is missing".into())),
                '/' => {
                    components.push(Vec::new());
                    continue;
                }
                '{' => {
                    let name: String = std::iter::from_fn(|| {
                        characters.next_if(|&(_, c)| c != '}' && c != '/').map(|(_, c)| c)
                    })
                    .collect();
                    if characters.next_if(|&(_, c)| c == '}').is_none() {
                        return Err(wrong(at, "a field is not closed".into()));
                    }
                    let field = Field::ALL.iter().find(|(known, _)| *known == name).ok_or_else(|| {
                        wrong(at, format!("no field is called `{{{name}}}` (there are {{run}}, {{experiment}}, {{step}}, {{epoch}}),"))
                    })?.1;
                    if seen.contains(&field) {
                        return Err(wrong(at, format!("the field `{{{name}}}` stands twice,")));
                    }
                    seen.push(field);
                    Piece::Field(field)
                }
                '}' => return Err(wrong(at, "a field is closed that was not opened".into())),
                '*' => Piece::Any,
                _ => {
                    if let Some(Piece::Text(before)) = pieces.last_mut() {
                        before.push(character);
                        continue;
                    }
                    Piece::Text(character.into())
                }
            };
            // A number ends where its digits do; names and `*` need a text in between to tell where one ends.
            let open_ended = match pieces.last() {
                Some(Piece::Any) => true,
                Some(Piece::Text(_)) | None => false,
                Some(field) => piece != Piece::Any || !field.is_number(),
            };
            if open_ended && !matches!(piece, Piece::Text(_)) {
                return Err(wrong(at, "two fields touch".into()));
            }
            pieces.push(piece);
        }
        if components.last().is_some_and(Vec::is_empty) {
            return Err(wrong(
                text.chars().count() - 1,
                "the name of a file is missing after the last `/`".into(),
            ));
        }
        Ok(Self { text: text.to_owned(), components })
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        if text.is_empty() { Ok(Self::default()) } else { text.parse() }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl Pattern {
    /// What the path tells; `None` where it does not fit. `relative` is taken from the watched directory.
    pub fn matches(&self, relative: &Path) -> Option<Naming> {
        let names: Vec<&str> = relative
            .components()
            .map(|component| match component {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect::<Option<_>>()?;
        if self.components.is_empty() { by_words(&names) } else { self.by_fields(&names) }
    }

    fn by_fields(&self, names: &[&str]) -> Option<Naming> {
        let above = names.len().checked_sub(self.components.len())?;
        let mut found = Found::default();
        for (depth, (pieces, name)) in (above..).zip(self.components.iter().zip(&names[above..])) {
            if !fits(pieces, name, &mut found) {
                return None;
            }
            if pieces.contains(&Piece::Field(Field::Run)) {
                found.run_depth = Some(depth);
            }
        }
        let folder = names.len().checked_sub(2);
        let run_depth = found.run_depth.or(folder);
        Some(Naming {
            run: found.run.or_else(|| folder.map(|depth| names[depth].to_owned())).unwrap_or_default(),
            experiment: found.experiment.or_else(|| folders(names, run_depth)),
            step: found.step,
            epoch: found.epoch.map(|epoch| epoch as f64),
        })
    }
}

/// Names above `depth`, as a path.
fn folders(names: &[&str], depth: Option<usize>) -> Option<String> {
    depth.filter(|&depth| depth > 0).map(|depth| names[..depth].join("/"))
}

#[derive(Clone, Default)]
struct Found {
    run: Option<String>,
    run_depth: Option<usize>,
    experiment: Option<String>,
    step: Option<u64>,
    epoch: Option<u64>,
}

/// Whether `pieces` describe the whole of `text`; fields take as much as they can.
fn fits(pieces: &[Piece], text: &str, found: &mut Found) -> bool {
    let Some((piece, rest)) = pieces.split_first() else {
        return text.is_empty();
    };
    let numeric = piece.is_number();
    let field = match piece {
        Piece::Text(exact) => {
            return text.strip_prefix(exact.as_str()).is_some_and(|text| fits(rest, text, found));
        }
        Piece::Any => None,
        Piece::Field(field) => Some(*field),
    };
    let longest = if numeric { text.bytes().take_while(u8::is_ascii_digit).count() } else { text.len() };
    let shortest = usize::from(field.is_some());
    for length in (shortest..=longest).rev().filter(|&length| text.is_char_boundary(length)) {
        let (taken, text) = text.split_at(length);
        if !fits(rest, text, found) {
            continue;
        }
        match field {
            None => {}
            Some(Field::Run) => found.run = Some(taken.to_owned()),
            Some(Field::Experiment) => found.experiment = Some(taken.to_owned()),
            Some(Field::Step) => found.step = taken.parse().ok(),
            Some(Field::Epoch) => found.epoch = taken.parse().ok(),
        }
        return !numeric || taken.parse::<u64>().is_ok();
    }
    false
}

/// Words before a step, the most telling first.
const STEP_WORDS: [&str; 10] =
    ["global_step", "globalstep", "steps", "step", "iteration", "iter", "it", "update", "checkpoint", "ckpt"];
/// Words before an epoch.
const EPOCH_WORDS: [&str; 3] = ["epochs", "epoch", "ep"];

fn by_words(names: &[&str]) -> Option<Naming> {
    let (&file, folders_of_file) = names.split_last()?;
    let stem = stem(file).to_ascii_lowercase();
    let only_digits = || stem.parse::<u64>().ok().filter(|_| stem.bytes().all(|b| b.is_ascii_digit()));
    let mut step = number_after(&stem, &STEP_WORDS).or_else(only_digits);
    let epoch = number_after(&stem, &EPOCH_WORDS);
    let mut run_depth = folders_of_file.len().checked_sub(1);
    if step.is_none()
        && epoch.is_none()
        && let Some(folder) = folders_of_file.last()
        && let Some(number) = whole_number_name(folder)
    {
        step = Some(number);
        run_depth = run_depth.and_then(|depth| depth.checked_sub(1));
    }
    Some(Naming {
        run: run_depth.map(|depth| names[depth].to_owned()).unwrap_or_default(),
        experiment: folders(names, run_depth),
        step,
        epoch: epoch.map(|epoch| epoch as f64),
    })
}

/// A file's name without the endings of checkpoints.
fn stem(file: &str) -> &str {
    let file = file.strip_suffix(".tar").unwrap_or(file);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// The number of a folder such as `checkpoint-500` or `global_step100`.
fn whole_number_name(folder: &str) -> Option<u64> {
    let folder = folder.to_ascii_lowercase();
    let digits = folder.trim_start_matches(|c: char| !c.is_ascii_digit());
    let word = folder[..folder.len() - digits.len()].trim_end_matches(SEPARATORS);
    if STEP_WORDS.contains(&word) { digits.parse().ok() } else { None }
}

const SEPARATORS: [char; 5] = ['-', '_', '=', '.', ' '];

/// The last number in `text` that follows one of `words`, the first word that has one.
fn number_after(text: &str, words: &[&str]) -> Option<u64> {
    words.iter().find_map(|word| {
        text.rmatch_indices(word).find_map(|(at, _)| {
            let is_word = !text[..at].ends_with(|c: char| c.is_alphanumeric());
            let after = text[at + word.len()..].trim_start_matches(SEPARATORS);
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let ends = !after[digits..].starts_with(|c: char| c.is_alphanumeric());
            if is_word && ends { after[..digits].parse().ok() } else { None }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told<'a> = (&'a str, Option<&'a str>, Option<u64>, Option<f64>);

    fn told(naming: Option<&Naming>) -> Option<Told<'_>> {
        naming.map(|naming| (naming.run.as_str(), naming.experiment.as_deref(), naming.step, naming.epoch))
    }

    #[test]
    fn words_tell_the_step() {
        let cases: [(&str, Told<'_>); 20] = [
            ("r/step-450.safetensors", ("r", None, Some(450), None)),
            ("e/f/r/step_450.pt", ("r", Some("e/f"), Some(450), None)),
            ("step450.pt", ("", None, Some(450), None)),
            ("r/checkpoint_epoch_0012.pt", ("r", None, None, Some(12.0))),
            ("r/epoch=1-step=8-val_loss=1.575.ckpt", ("r", None, Some(8), Some(1.0))),
            ("r/checkpoint-500/model.safetensors", ("r", None, Some(500), None)),
            ("e/r/global_step100/mp_rank_00_model_states.pt", ("r", Some("e"), Some(100), None)),
            ("r/iter_0000040/model.pt", ("r", None, Some(40), None)),
            ("r/ckpt.0003.pth.tar", ("r", None, Some(3), None)),
            ("r/model_step1000_epoch3.pt", ("r", None, Some(1000), Some(3.0))),
            ("r/000123.pt", ("r", None, Some(123), None)),
            ("r/STEP-7.PT", ("r", None, Some(7), None)),
            // The step counts more than the number of the checkpoint.
            ("r/checkpoint-3-step-900.pt", ("r", None, Some(900), None)),
            // Not numbers of steps.
            ("r/resnet18.pt", ("r", None, None, None)),
            ("r/gpt-2.pt", ("r", None, None, None)),
            ("r/step10k.pt", ("r", None, None, None)),
            ("r/unit_5.pt", ("r", None, None, None)),
            ("r/last.ckpt", ("r", None, None, None)),
            ("lr_step_3/model.pt", ("lr_step_3", None, None, None)),
            ("r/step-99999999999999999999999.pt", ("r", None, None, None)),
        ];
        for (path, wanted) in cases {
            assert_eq!(told(Pattern::default().matches(Path::new(path)).as_ref()), Some(wanted), "{path}");
        }
    }

    #[test]
    fn fields_tell_what_they_say() {
        let cases: [(&str, &str, Option<Told<'_>>); 9] = [
            (
                "{run}/step-{step}.safetensors",
                "e/r/step-7.safetensors",
                Some(("r", Some("e"), Some(7), None)),
            ),
            ("{run}/step-{step}.safetensors", "r/step-7.pt", None),
            ("{run}/step-{step}.safetensors", "step-7.safetensors", None),
            ("{experiment}/{run}/{epoch}.pt", "a/b/3.pt", Some(("b", Some("a"), None, Some(3.0)))),
            ("{experiment}-{run}_{step}.pt", "x/a-b-c_9.pt", Some(("c", Some("a-b"), Some(9), None))),
            ("{run}/*/model-{step}*.pt", "r/any/model-12-best.pt", Some(("r", None, Some(12), None))),
            ("ckpt_{step}.pt", "e/r/ckpt_5.pt", Some(("r", Some("e"), Some(5), None))),
            ("{run}.pt", "e/seed-3.pt", Some(("seed-3", Some("e"), None, None))),
            ("{run}-{step}.pt", "r--5.pt", Some(("r-", None, Some(5), None))),
        ];
        for (pattern, path, wanted) in cases {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(told(pattern.matches(Path::new(path)).as_ref()), wanted, "{pattern:?} {path}");
        }
    }

    #[test]
    fn errors_name_the_character() {
        let cases = [
            ("", 1, "a name is missing"),
            ("/a.pt", 1, "a name is missing"),
            ("{run}//a.pt", 7, "a name is missing"),
            ("{run}/", 6, "the name of a file is missing"),
            ("{run}/{stp}.pt", 7, "no field is called `{stp}`"),
            ("{run}/{step.pt", 7, "a field is not closed"),
            ("run}/a.pt", 4, "a field is closed"),
            ("{run}/{run}.pt", 7, "stands twice"),
            ("{run}{step}.pt", 6, "two fields touch"),
        ];
        for (pattern, at, words) in cases {
            let error = pattern.parse::<Pattern>().unwrap_err();
            assert_eq!(error.at(), at, "{pattern}: {error}");
            assert!(error.to_string().contains(words), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_pattern_is_written_as_it_was_read() {
        for text in ["{run}/step-{step}.safetensors", ""] {
            let pattern: Pattern = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(&pattern).unwrap(), text);
        }
    }
}
