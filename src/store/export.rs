//! The state as canonical JSON: what was found, without times and without places outside the sources.

use serde::Serialize;

use super::{StoreError, Tables};
use crate::alert::Alert;
use crate::engine::Analysis;

/// Everything that matters of a state, in an order of its own. Two agents that saw the same checkpoints have the same,
/// however often they were interrupted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Export {
    /// Version of this form: 1.
    pub format: u32,
    /// By source, experiment, run and step.
    pub checkpoints: Vec<ExportedCheckpoint>,
    /// Files that could not be used, by source and path.
    pub refused: Vec<ExportedFile>,
    /// By source, experiment and run, then step of opening, detector and episode.
    pub alerts: Vec<ExportedAlert>,
    /// The last analysis of each group, by source, experiment, run and signature.
    pub analyses: Vec<ExportedAnalysis>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportedCheckpoint {
    pub source: String,
    pub experiment: String,
    pub run: String,
    pub step: u64,
    pub epoch: Option<f64>,
    pub path: String,
    pub digest: String,
    pub signature: String,
    pub finite: bool,
    pub norm: Option<f64>,
    pub update_ratio: Option<f64>,
    pub instability: Option<f64>,
    /// blake3 of sketch, single weights and statistics.
    pub measured: String,
    pub model: Option<String>,
    pub evaluation_error: Option<String>,
    pub loss: Option<f64>,
    /// blake3 of the predictions.
    pub predictions: Option<String>,
}

/// A file that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    pub source: String,
    pub path: String,
    pub reason: String,
}

/// An alert, and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportedAlert {
    pub source: String,
    pub experiment: String,
    pub signature: String,
    pub alert: Alert,
}

/// The last analysis of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportedAnalysis {
    pub source: String,
    pub experiment: String,
    pub run: String,
    pub signature: String,
    pub name: String,
    pub analysis: Option<Analysis>,
    pub reason: Option<String>,
}

impl Tables<'_> {
    /// The whole state in its canonical form.
    pub fn export(&self) -> Result<Export, StoreError> {
        Ok(Export {
            format: 1,
            checkpoints: self.exported_checkpoints()?,
            refused: self.exported_files()?,
            alerts: self.exported_alerts()?,
            analyses: self.exported_analyses()?,
        })
    }

    fn exported_checkpoints(&self) -> Result<Vec<ExportedCheckpoint>, StoreError> {
        let hash = |parts: &[Vec<u8>]| {
            let mut hasher = blake3::Hasher::new();
            for part in parts {
                hasher.update(part);
            }
            hasher.finalize().to_hex().to_string()
        };
        let mut statement = self.connection.prepare(
            "SELECT r.source, r.experiment, r.name, c.step, c.epoch, c.path, c.digest, c.signature, c.finite, c.norm,
                c.update_ratio, c.instability, c.sketch, c.coordinates, c.statistics, c.model, c.evaluation_error,
                c.loss, c.predictions
            FROM checkpoints c JOIN runs r ON r.id = c.run_id ORDER BY r.source, r.experiment, r.name, c.step",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(ExportedCheckpoint {
                source: row.get(0)?,
                experiment: row.get(1)?,
                run: row.get(2)?,
                step: row.get::<_, i64>(3)? as u64,
                epoch: row.get(4)?,
                path: row.get(5)?,
                digest: row.get(6)?,
                signature: row.get(7)?,
                finite: row.get(8)?,
                norm: row.get(9)?,
                update_ratio: row.get(10)?,
                instability: row.get(11)?,
                measured: hash(&[row.get(12)?, row.get(13)?, row.get(14)?]),
                model: row.get(15)?,
                evaluation_error: row.get(16)?,
                loss: row.get(17)?,
                predictions: row.get::<_, Option<Vec<u8>>>(18)?.map(|bytes| hash(&[bytes])),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn exported_files(&self) -> Result<Vec<ExportedFile>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT source, path, error FROM files WHERE error IS NOT NULL ORDER BY source, path")?;
        let rows = statement.query_map([], |row| {
            Ok(ExportedFile { source: row.get(0)?, path: row.get(1)?, reason: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn exported_alerts(&self) -> Result<Vec<ExportedAlert>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT r.source, r.experiment, a.signature, a.alert FROM alerts a JOIN runs r ON r.id = a.run_id
            ORDER BY r.source, r.experiment, r.name, a.signature",
        )?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?)))?;
        let mut alerts = Vec::new();
        for row in rows {
            let (source, experiment, signature, json) = row?;
            let alert: Alert = serde_json::from_str(&json)
                .map_err(|error| StoreError::Damaged { what: "alert", reason: error.to_string() })?;
            alerts.push(ExportedAlert { source, experiment, signature, alert });
        }
        let key = |row: &ExportedAlert| (row.alert.opened_step, row.alert.detector, row.alert.episode);
        for run in alerts.chunk_by_mut(|a, b| {
            (&a.source, &a.experiment, &a.alert.run, &a.signature)
                == (&b.source, &b.experiment, &b.alert.run, &b.signature)
        }) {
            run.sort_by_key(key);
        }
        Ok(alerts)
    }

    fn exported_analyses(&self) -> Result<Vec<ExportedAnalysis>, StoreError> {
        let mut analyses = Vec::new();
        for group in self.groups()? {
            if let Some(analysed) = self.last_analysis(group.id)? {
                let (analysis, reason) = match analysed.result {
                    Ok(analysis) => (Some(analysis), None),
                    Err(reason) => (None, Some(reason)),
                };
                analyses.push(ExportedAnalysis {
                    source: group.source,
                    experiment: group.experiment,
                    run: group.run,
                    signature: group.signature,
                    name: analysed.name,
                    analysis,
                    reason,
                });
            }
        }
        Ok(analyses)
    }
}
