//! What an analysis covers: the checkpoints of a group as the engine takes them, and the name that follows from them.

use std::collections::BTreeMap;

use crate::alert::{Alert, AlertState, Severity};
use crate::engine::{Parameters, RunSeries, Snapshot};
use crate::store::{CheckpointId, CheckpointRow, GroupId, LossPoint, StoreError, Tables};

/// Goes up when the engine's results change for the same input; part of every analysis' name.
const ENGINE_VERSION: u32 = 8;

/// The checkpoints that an analysis covers: those whose weights are all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    runs: Vec<Member>,
}

/// A run's part.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    run: String,
    snapshots: Vec<Covered>,
    disturbed: Vec<(u64, u64)>,
}

/// A checkpoint that is covered.
#[derive(Clone, Debug, PartialEq)]
struct Covered {
    id: CheckpointId,
    step: u64,
    digest: String,
    /// Digest of the model with which it was evaluated.
    model: Option<String>,
    loss: Option<f64>,
}

impl Members {
    /// The members of a group as they are now.
    pub fn of(tables: &Tables<'_>, group: GroupId) -> Result<Self, StoreError> {
        let rows = tables.checkpoints(group)?;
        let evaluated = rows.iter().any(|row| row.loss.is_some());
        let alerts = tables.group_alerts(group)?;
        let mut runs: Vec<Member> = Vec::new();
        for rows in rows.chunk_by(|a, b| a.run == b.run) {
            let run = &rows[0].run;
            let logged = if evaluated { Vec::new() } else { tables.losses(rows[0].run_id)? };
            runs.push(Member {
                run: run.clone(),
                snapshots: covered(rows, &logged),
                disturbed: disturbed(alerts.iter().filter(|alert| alert.run == *run), rows),
            });
        }
        Ok(Self { runs })
    }

    /// Digest of all that goes into an analysis.
    pub fn name(&self, parameters: &Parameters) -> Result<String, serde_json::Error> {
        let mut hasher = blake3::Hasher::new();
        let mut line = |text: String| {
            hasher.update(text.as_bytes());
            hasher.update(b"\n");
        };
        line(format!("doodl3 analysis, engine {ENGINE_VERSION}"));
        line(serde_json::to_string(parameters)?);
        for Member { run, snapshots, disturbed } in &self.runs {
            line(format!("run {run:?} disturbed {disturbed:?}"));
            for Covered { step, digest, model, loss, .. } in snapshots {
                let loss = loss.map(f64::to_bits);
                line(format!("{step} {digest} {model:?} {loss:?}"));
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The same with sketches and predictions, for the engine.
    pub fn series(&self, tables: &Tables<'_>) -> Result<Vec<RunSeries>, StoreError> {
        let series = self.runs.iter().map(|member| {
            let snapshots = member.snapshots.iter().map(|covered| {
                let (weights, predictions) = tables.coordinates(covered.id)?;
                Ok(Snapshot { step: covered.step, weights, predictions, loss: covered.loss })
            });
            Ok(RunSeries {
                run: member.run.clone(),
                snapshots: snapshots.collect::<Result<_, StoreError>>()?,
                disturbed: member.disturbed.clone(),
            })
        });
        series.collect()
    }

    /// Number of checkpoints.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|member| member.snapshots.len()).sum()
    }

    /// Whether there is no checkpoint.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The finite ones, each with its evaluated loss, or the mean of the losses logged since the one before.
fn covered(rows: &[CheckpointRow], logged: &[LossPoint]) -> Vec<Covered> {
    let mut logged = logged.iter().peekable();
    let mut covered = Vec::with_capacity(rows.len());
    for row in rows {
        let since: Vec<f64> = std::iter::from_fn(|| logged.next_if(|(step, _)| *step <= row.step))
            .map(|&(_, value)| value)
            .filter(|value| value.is_finite())
            .collect();
        let mean = (!since.is_empty()).then(|| since.iter().sum::<f64>() / since.len() as f64);
        if row.finite {
            covered.push(Covered {
                id: row.id,
                step: row.step,
                digest: row.digest.clone(),
                model: row.model.clone().filter(|_| row.evaluation_error.is_none()),
                loss: row.loss.or(mean),
            });
        }
    }
    covered
}

/// Spans that alerts of severity warning or above cover, joined where they meet. One that is open lasts to the end.
fn disturbed<'a>(alerts: impl Iterator<Item = &'a Alert>, rows: &[CheckpointRow]) -> Vec<(u64, u64)> {
    let end = rows.last().map_or(0, |row| row.step);
    let mut joined: BTreeMap<u64, u64> = BTreeMap::new();
    let mut spans: Vec<(u64, u64)> = alerts
        .filter(|alert| alert.severity >= Severity::Warning)
        .map(|alert| {
            let last = match alert.state {
                AlertState::Open => end,
                AlertState::Resolved => alert.resolved_step.unwrap_or(alert.last_step),
            };
            (alert.opened_step, last.max(alert.opened_step))
        })
        .collect();
    spans.sort_unstable();
    for (first, last) in spans {
        match joined.last_entry() {
            Some(mut before) if *before.get() >= first => *before.get_mut() = last.max(*before.get()),
            _ => {
                joined.insert(first, last);
            }
        }
    }
    joined.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detector;
    use crate::store::RunId;

    fn row(step: u64, finite: bool) -> CheckpointRow {
        CheckpointRow {
            id: CheckpointId::default(),
            run_id: RunId::default(),
            run: "r".into(),
            step,
            path: String::new(),
            modified_ns: 0,
            digest: format!("d{step}"),
            signature: String::new(),
            finite,
            norm: None,
            update_ratio: None,
            instability: None,
            model: None,
            evaluation_error: None,
            loss: None,
        }
    }

    fn alert(opened_step: u64, resolved_step: Option<u64>, severity: Severity) -> Alert {
        Alert {
            run: "r".into(),
            detector: Detector::LossSpike,
            episode: 1,
            state: if resolved_step.is_some() { AlertState::Resolved } else { AlertState::Open },
            severity,
            opened_step,
            last_step: opened_step,
            resolved_step,
            repeats: 1,
            peak_score: None,
            threshold: 1.0,
            headline: String::new(),
            evidence: String::new(),
            advice: String::new(),
            last_good_step: None,
            not_checked: Vec::new(),
        }
    }

    #[test]
    fn a_checkpoint_has_the_mean_of_what_was_logged_since_the_one_before() {
        let rows = [row(10, true), row(20, false), row(30, true), row(40, true)];
        let logged = [(1, 3.0), (10, 1.0), (15, f64::NAN), (25, 4.0), (26, f64::INFINITY), (99, 7.0)];
        let covered = covered(&rows, &logged);
        let losses: Vec<_> = covered.iter().map(|c| (c.step, c.loss)).collect();
        assert_eq!(losses, [(10, Some(2.0)), (30, Some(4.0)), (40, None)]);
    }

    #[test]
    fn alerts_disturb_until_they_are_resolved() {
        let rows = [row(0, true), row(100, true)];
        let spans = |alerts: &[Alert]| disturbed(alerts.iter(), &rows);
        assert_eq!(spans(&[alert(50, None, Severity::Warning)]), [(50, 100)]);
        assert_eq!(spans(&[alert(50, Some(60), Severity::Info)]), []);
        let several = [
            alert(70, Some(80), Severity::High),
            alert(10, Some(20), Severity::Warning),
            alert(15, Some(30), Severity::Critical),
        ];
        assert_eq!(spans(&several), [(10, 30), (70, 80)]);
    }

    #[test]
    fn the_name_follows_from_all_that_goes_in() {
        let members = |digest: &str, loss, disturbed: &[(u64, u64)], model: Option<&str>| Members {
            runs: vec![Member {
                run: "r".into(),
                snapshots: vec![Covered {
                    id: CheckpointId::default(),
                    step: 1,
                    digest: digest.into(),
                    model: model.map(Into::into),
                    loss,
                }],
                disturbed: disturbed.to_vec(),
            }],
        };
        let parameters = Parameters::default();
        let other = Parameters { dimension: 1, ..Parameters::default() };
        let names = [
            members("d", None, &[], None).name(&parameters).unwrap(),
            members("d", None, &[], None).name(&other).unwrap(),
            members("e", None, &[], None).name(&parameters).unwrap(),
            members("d", Some(0.5), &[], None).name(&parameters).unwrap(),
            members("d", None, &[(1, 1)], None).name(&parameters).unwrap(),
            members("d", None, &[], Some("m")).name(&parameters).unwrap(),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name));
        }
        assert_eq!(names[0], members("d", None, &[], None).name(&parameters).unwrap());
    }
}
