//! Checkpoints, and what the evaluator found of them.

use rusqlite::{OptionalExtension, Row, named_params, params};

use super::blob::{Layout, floats_from_bytes, floats_to_bytes, statistics_from_bytes, statistics_to_bytes};
use super::runs::identity;
use super::{GroupId, RunId, StoreError, Tables};
use crate::checkpoint::{FileIdentity, Summary, TensorStatistics};

/// Number of a checkpoint in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointId(pub(super) i64);

/// A checkpoint to be written.
#[derive(Clone, Debug)]
pub struct NewCheckpoint<'a> {
    /// Its run.
    pub run: RunId,
    /// Its group.
    pub group: GroupId,
    /// The trainer's step.
    pub step: u64,
    /// The trainer's epoch, where known.
    pub epoch: Option<f64>,
    /// Path below the source's folder.
    pub path: &'a str,
    /// What is kept of it.
    pub summary: &'a Summary,
}

/// What is known of a run's checkpoint at some step.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRow {
    /// Its number.
    pub id: CheckpointId,
    /// Its run.
    pub run_id: RunId,
    /// Name of its run.
    pub run: String,
    /// The trainer's step.
    pub step: u64,
    /// Path below the source's folder.
    pub path: String,
    /// When the file was last changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Digest of the content.
    pub digest: String,
    /// Digest of the parameters' names and shapes.
    pub signature: String,
    /// Whether every weight is a finite number.
    pub finite: bool,
    /// ‖θₜ‖.
    pub norm: Option<f64>,
    /// ‖θₜ − θₜ₋₁‖ / ‖θₜ₋₁‖.
    pub update_ratio: Option<f64>,
    /// The instability score.
    pub instability: Option<f64>,
    /// Digest of the model with which it was evaluated; `None` where it was not.
    pub model: Option<String>,
    /// Why it could not be evaluated.
    pub evaluation_error: Option<String>,
    /// Loss on the probe batch.
    pub loss: Option<f64>,
}

/// A checkpoint that waits to be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToEvaluate {
    /// Its number.
    pub id: CheckpointId,
    /// Name of the source.
    pub source: String,
    /// Name of its run.
    pub run: String,
    /// The trainer's step.
    pub step: u64,
    /// Path below the source's folder.
    pub path: String,
    /// The file as it was read.
    pub identity: Option<FileIdentity>,
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// Loss and predictions.
    Done {
        /// Loss on the probe batch; `None` where it is not finite.
        loss: Option<f64>,
        /// Predictions; empty where one is not finite.
        predictions: Vec<f32>,
    },
    /// It cannot be evaluated, and trying again would not help.
    Failed {
        /// Why.
        reason: String,
    },
}

const ROW: &str =
    "c.id, r.name, c.step, c.path, c.modified_ns, c.digest, c.signature, c.finite, c.norm, c.update_ratio,
    c.instability, c.model, c.evaluation_error, c.loss, c.run_id";

fn checkpoint_row(row: &Row<'_>) -> rusqlite::Result<CheckpointRow> {
    Ok(CheckpointRow {
        id: CheckpointId(row.get(0)?),
        run_id: RunId(row.get(14)?),
        run: row.get(1)?,
        step: row.get::<_, i64>(2)? as u64,
        path: row.get(3)?,
        modified_ns: row.get(4)?,
        digest: row.get(5)?,
        signature: row.get(6)?,
        finite: row.get(7)?,
        norm: row.get(8)?,
        update_ratio: row.get(9)?,
        instability: row.get(10)?,
        model: row.get(11)?,
        evaluation_error: row.get(12)?,
        loss: row.get(13)?,
    })
}

impl Tables<'_> {
    /// The checkpoint of a run at a step.
    pub fn checkpoint(&self, run: RunId, step: u64) -> Result<Option<CheckpointRow>, StoreError> {
        let sql = format!(
            "SELECT {ROW} FROM checkpoints c JOIN runs r ON r.id = c.run_id
            WHERE c.run_id = ?1 AND c.step = ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row(params![run.0, step as i64], checkpoint_row).optional()?)
    }

    /// Highest step of a run's checkpoints.
    pub fn last_step(&self, run: RunId) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT max(step) FROM checkpoints WHERE run_id = ?1";
        let step: Option<i64> = self.connection.prepare_cached(sql)?.query_row([run.0], |row| row.get(0))?;
        Ok(step.map(|step| step as u64))
    }

    /// Signature of a run's last checkpoint.
    pub fn last_signature(&self, run: RunId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT signature FROM checkpoints WHERE run_id = ?1 ORDER BY step DESC LIMIT 1";
        Ok(self.connection.prepare_cached(sql)?.query_row([run.0], |row| row.get(0)).optional()?)
    }

    /// Steps of a run's checkpoints of one signature that lie between two steps (both excluded), increasing.
    pub fn steps_between(
        &self,
        run: RunId,
        signature: &str,
        after: Option<u64>,
        before: u64,
    ) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT step FROM checkpoints
            WHERE run_id = ?1 AND signature = ?2 AND step > ?3 AND step < ?4 ORDER BY step";
        let mut statement = self.connection.prepare_cached(sql)?;
        let after = after.map_or(-1, |step| step as i64);
        let rows = statement
            .query_map(params![run.0, signature, after, before as i64], |row| row.get::<_, i64>(0))?;
        Ok(rows.map(|step| step.map(|step| step as u64)).collect::<Result<_, _>>()?)
    }

    /// Writes a checkpoint; an older one of the same run and step is replaced, with all that was known of it.
    pub fn put_checkpoint(&self, checkpoint: &NewCheckpoint<'_>) -> Result<(), StoreError> {
        let Summary { digest, signature, identity, sketch, statistics, coordinates, .. } = checkpoint.summary;
        let layout = self.layout_id(&Layout {
            tensors: statistics.iter().map(|s| (s.name.clone(), s.shape.clone())).collect(),
            coordinates: coordinates.iter().map(|c| (c.tensor, c.element)).collect(),
        })?;
        let finite = statistics.iter().all(|s| s.nonfinite == 0);
        let coordinates: Vec<f32> = coordinates.iter().map(|c| c.value).collect();
        let sql = "INSERT OR REPLACE INTO checkpoints
            (run_id, group_id, step, epoch, path, modified_ns, digest, signature, finite, layout_id,
                sketch, sketch_exact, coordinates, statistics)
            VALUES (:run, :group, :step, :epoch, :path, :modified, :digest, :signature, :finite, :layout,
                :sketch, :exact, :coordinates, :statistics)";
        self.connection.prepare_cached(sql)?.execute(named_params! {
            ":run": checkpoint.run.0,
            ":group": checkpoint.group.0,
            ":step": checkpoint.step as i64,
            ":epoch": checkpoint.epoch,
            ":path": checkpoint.path,
            ":modified": identity.modified_ns,
            ":digest": digest,
            ":signature": signature,
            ":finite": finite,
            ":layout": layout,
            ":sketch": floats_to_bytes(&sketch.values),
            ":exact": sketch.exact,
            ":coordinates": floats_to_bytes(&coordinates),
            ":statistics": statistics_to_bytes(statistics),
        })?;
        Ok(())
    }

    /// Notes what the detectors measured at a checkpoint.
    pub fn put_readings(
        &self,
        run: RunId,
        step: u64,
        norm: Option<f64>,
        update_ratio: Option<f64>,
        instability: Option<f64>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE checkpoints SET norm = ?3, update_ratio = ?4, instability = ?5
            WHERE run_id = ?1 AND step = ?2";
        self.connection.prepare_cached(sql)?.execute(params![
            run.0,
            step as i64,
            norm,
            update_ratio,
            instability
        ])?;
        Ok(())
    }

    /// Sketch and statistics of a checkpoint.
    pub fn measured(&self, run: RunId, step: u64) -> Result<(Vec<f32>, Vec<TensorStatistics>), StoreError> {
        let sql =
            "SELECT c.sketch, c.statistics, l.layout FROM checkpoints c JOIN layouts l ON l.id = c.layout_id
            WHERE c.run_id = ?1 AND c.step = ?2";
        let (sketch, statistics, layout): (Vec<u8>, Vec<u8>, String) =
            self.connection
                .prepare_cached(sql)?
                .query_row(params![run.0, step as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let layout: Layout = serde_json::from_str(&layout)
            .map_err(|error| StoreError::Damaged { what: "layout", reason: error.to_string() })?;
        Ok((floats_from_bytes(&sketch)?, statistics_from_bytes(layout.tensors, &statistics)?))
    }

    /// The checkpoints of a group, by run and step.
    pub fn checkpoints(&self, group: GroupId) -> Result<Vec<CheckpointRow>, StoreError> {
        let sql = format!(
            "SELECT {ROW} FROM checkpoints c JOIN runs r ON r.id = c.run_id
            WHERE c.group_id = ?1 ORDER BY r.name, c.step"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([group.0], checkpoint_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Sketch, and predictions where there are any, of a checkpoint.
    pub fn coordinates(&self, id: CheckpointId) -> Result<(Vec<f32>, Option<Vec<f32>>), StoreError> {
        let sql = "SELECT sketch, predictions FROM checkpoints WHERE id = ?1";
        let (sketch, predictions): (Vec<u8>, Option<Vec<u8>>) =
            self.connection.prepare_cached(sql)?.query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((floats_from_bytes(&sketch)?, predictions.as_deref().map(floats_from_bytes).transpose()?))
    }

    /// The first checkpoints that were not evaluated yet, by step and run. Those with weights that are not finite are
    /// left out: nothing can be learnt from them.
    pub fn to_evaluate(&self, limit: usize) -> Result<Vec<ToEvaluate>, StoreError> {
        let sql = "SELECT c.id, r.source, r.name, c.step, c.path, f.device, f.inode, f.size, f.modified_ns
            FROM checkpoints c JOIN runs r ON r.id = c.run_id
            LEFT JOIN files f ON f.source = r.source AND f.path = c.path
            WHERE c.model IS NULL AND c.finite ORDER BY c.step, r.name, r.source LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([limit as i64], |row| {
            let device: Option<i64> = row.get(5)?;
            Ok(ToEvaluate {
                id: CheckpointId(row.get(0)?),
                source: row.get(1)?,
                run: row.get(2)?,
                step: row.get::<_, i64>(3)? as u64,
                path: row.get(4)?,
                identity: device.map(|_| identity(row, 5)).transpose()?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Number of checkpoints that wait to be evaluated.
    pub fn count_to_evaluate(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM checkpoints WHERE model IS NULL AND finite";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))? as u64)
    }

    /// Notes what came of an evaluation with the model of this digest. Says nothing where the checkpoint was replaced
    /// meanwhile; returns its run, group and signature otherwise.
    pub fn put_evaluation(
        &self,
        id: CheckpointId,
        model: &str,
        evaluation: &Evaluation,
    ) -> Result<Option<(RunId, GroupId, String)>, StoreError> {
        let (loss, predictions, error) = match evaluation {
            Evaluation::Done { loss, predictions } => {
                (*loss, (!predictions.is_empty()).then(|| floats_to_bytes(predictions)), None)
            }
            Evaluation::Failed { reason } => (None, None, Some(reason)),
        };
        let sql = "UPDATE checkpoints SET model = ?2, loss = ?3, predictions = ?4, evaluation_error = ?5 WHERE id = ?1
            RETURNING run_id, group_id, signature";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement.query_row(params![id.0, model, loss, predictions, error], |row| {
            Ok((RunId(row.get(0)?), GroupId(row.get(1)?), row.get(2)?))
        });
        Ok(row.optional()?)
    }

    /// Has a checkpoint evaluated again whose evaluation failed.
    pub fn forget_failed_evaluation(&self, id: CheckpointId) -> Result<(), StoreError> {
        let sql = "UPDATE checkpoints SET model = NULL, evaluation_error = NULL, crashes = 0
            WHERE id = ?1 AND evaluation_error IS NOT NULL";
        self.connection.prepare_cached(sql)?.execute([id.0])?;
        Ok(())
    }

    /// Counts a crash of the evaluator at this checkpoint; returns how many there were.
    pub fn count_crash(&self, id: CheckpointId) -> Result<u32, StoreError> {
        let sql = "UPDATE checkpoints SET crashes = crashes + 1 WHERE id = ?1 RETURNING crashes";
        let crashes = self.connection.prepare_cached(sql)?.query_row([id.0], |row| row.get(0)).optional()?;
        Ok(crashes.unwrap_or(0))
    }

    /// Forgets evaluations with any other model than that of this digest, so that they are done again.
    pub fn forget_evaluations_but(&self, model: &str) -> Result<usize, StoreError> {
        let sql = "UPDATE checkpoints
            SET model = NULL, loss = NULL, predictions = NULL, evaluation_error = NULL, crashes = 0
            WHERE model IS NOT NULL AND model <> ?1";
        Ok(self.connection.execute(sql, [model])?)
    }

    fn layout_id(&self, layout: &Layout) -> Result<i64, StoreError> {
        let json = serde_json::to_string(layout)
            .map_err(|error| StoreError::Damaged { what: "layout", reason: error.to_string() })?;
        let mut select = self.connection.prepare_cached("SELECT id FROM layouts WHERE layout = ?1")?;
        if let Some(id) = select.query_row([&json], |row| row.get(0)).optional()? {
            return Ok(id);
        }
        self.connection.execute("INSERT INTO layouts (layout) VALUES (?1)", [&json])?;
        Ok(self.connection.last_insert_rowid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Coordinate, Sketch};
    use crate::store::{Run, Store};

    fn put(tables: &Tables<'_>, step: u64, digest: &str, signature: &str, nonfinite: u64) -> GroupId {
        let run = Run { source: "s".into(), experiment: "e".into(), name: "r".into() };
        let group = tables.group("s", "e", "", signature).unwrap().id;
        let statistics = TensorStatistics {
            name: "w".into(),
            shape: vec![2],
            norm: 5.0,
            mean: 3.5,
            variance: 0.25,
            min: 3.0,
            max: 4.0,
            zeros: 0,
            nonfinite,
            sketch: vec![3.0, 4.0],
        };
        let summary = Summary {
            digest: digest.into(),
            signature: signature.into(),
            step: None,
            epoch: None,
            parameters: 2,
            bytes: 8,
            identity: FileIdentity { device: 1, inode: step, size: 8, modified_ns: 7 },
            sketch: Sketch { values: vec![3.0, 4.0], exact: true },
            statistics: vec![statistics],
            coordinates: vec![Coordinate { tensor: 0, element: 1, value: 4.0 }],
        };
        let run = tables.run(&run).unwrap();
        let path = "r/1.safetensors";
        tables
            .put_checkpoint(&NewCheckpoint { run, group, step, epoch: None, path, summary: &summary })
            .unwrap();
        assert_eq!(tables.measured(run, step).unwrap(), (summary.sketch.values, summary.statistics));
        group
    }

    #[tokio::test]
    async fn a_step_that_comes_again_replaces_the_older_one() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                let group = put(tables, 1, "old", "sig", 0);
                let waiting = tables.to_evaluate(9)?;
                let done = Evaluation::Done { loss: Some(0.5), predictions: vec![1.0] };
                assert!(tables.put_evaluation(waiting[0].id, "model", &done)?.is_some());
                put(tables, 1, "new", "sig", 0);
                let rows = tables.checkpoints(group)?;
                assert_eq!(rows.len(), 1);
                assert_eq!(
                    (rows[0].digest.as_str(), rows[0].loss),
                    ("new", None),
                    "nothing of the old one stays"
                );
                assert_eq!(
                    tables.put_evaluation(waiting[0].id, "model", &done)?,
                    None,
                    "the old one is gone"
                );
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn evaluation_waits_by_step_and_leaves_out_what_is_not_finite() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                for (step, nonfinite) in [(30, 0), (10, 0), (20, 1)] {
                    put(tables, step, "d", "sig", nonfinite);
                }
                let steps: Vec<u64> = tables.to_evaluate(9)?.iter().map(|row| row.step).collect();
                assert_eq!(steps, [10, 30]);
                let id = tables.to_evaluate(1)?[0].id;
                tables.put_evaluation(id, "a", &Evaluation::Failed { reason: "no".into() })?;
                assert_eq!(tables.count_to_evaluate()?, 1);
                assert_eq!(tables.forget_evaluations_but("b")?, 1);
                assert_eq!(tables.count_to_evaluate()?, 2);
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn groups_of_one_experiment_get_folders_of_their_own() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                put(tables, 1, "d", "0123456789", 0);
                put(tables, 2, "d", "abcdefghij", 0);
                let folders = |tables: &Tables<'_>| -> Vec<String> {
                    tables.groups().unwrap().into_iter().map(|group| group.folder).collect()
                };
                assert_eq!(folders(tables), ["e", "e-abcdefgh"]);
                tables.regroup(true)?;
                assert_eq!(folders(tables), ["r", "r-abcdefgh"]);
                tables.regroup(false)?;
                assert_eq!(folders(tables), ["e", "e-abcdefgh"]);
                Ok(())
            })
            .await
            .unwrap();
    }
}
