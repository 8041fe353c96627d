//! Names under which runs of W&B tell their loss and their step, and of files.

use serde_json::Value;

pub(super) use crate::adapters::names::LOSS_NAMES;
use crate::adapters::tolerant;

/// Beginning of the path of a file in an artifact, such as `artifacts/model-abc:v3/step-40.pt`.
pub(super) const ARTIFACTS: &str = "artifacts";
/// Beginning of the path of a file that a run saves; on this machine the folder in which it is.
pub(super) const SAVED: &str = "files";

/// Metrics that are the trainer's step where W&B's own step is not, the most telling first: Lightning's, Hugging Face's.
pub(super) const STEP_NAMES: [&str; 3] = ["trainer/global_step", "train/global_step", "global_step"];

/// Fields of an artifact's metadata that tell the step, the most telling first.
const METADATA: [&str; 6] =
    ["step", "global_step", "trainer/global_step", "train/global_step", "iteration", "iter"];

/// Words before the number in an alias that tells the step, such as `step_400` or `checkpoint-400`.
const ALIASES: [&str; 6] = ["step", "global_step", "checkpoint", "ckpt", "iteration", "iter"];

/// A value as a step: a whole number from 0 on.
pub(super) fn as_step(value: &Value) -> Option<u64> {
    let step = tolerant::number(value)?;
    (step >= 0.0 && step.fract() == 0.0 && step < 9e15).then_some(step as u64)
}

/// The step that an artifact's metadata or its aliases tell.
pub(super) fn told_step<'a>(metadata: &Value, aliases: impl IntoIterator<Item = &'a str>) -> Option<u64> {
    let by_metadata = METADATA.iter().find_map(|name| as_step(&metadata[*name]));
    by_metadata.or_else(|| aliases.into_iter().find_map(step_of_alias))
}

fn step_of_alias(alias: &str) -> Option<u64> {
    ALIASES.iter().find_map(|word| {
        let rest = alias.strip_prefix(word)?;
        rest.trim_start_matches(['-', '_', '=']).parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn artifacts_tell_their_step_in_many_ways() {
        assert_eq!(told_step(&json!({ "step": 400, "epoch": 3 }), ["step_1"]), Some(400));
        assert_eq!(told_step(&json!({ "trainer/global_step": 40.0 }), []), Some(40));
        assert_eq!(told_step(&json!({}), ["latest", "best", "checkpoint-500"]), Some(500));
        assert_eq!(told_step(&json!({ "step": "NaN" }), ["v3", "step", "epoch_2.0"]), None);
        assert_eq!(told_step(&Value::Null, []), None);
    }
}
