//! Logged losses, the detectors' state, and alerts.

use rusqlite::{OptionalExtension, params};

use super::{GroupId, RunId, StoreError, Tables};
use crate::alert::Alert;
use crate::checkpoint::FileIdentity;
use crate::detect::{Detector, RunMonitor};

/// How far a metrics file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Device of the file that was read.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Bytes read, up to a line's end.
    pub offset: u64,
}

impl Tail {
    /// Where to go on reading: at the beginning where the file is another one, or shorter than what was read of it.
    pub fn resume(self, file: FileIdentity) -> u64 {
        let same = (self.device, self.inode) == (file.device, file.inode);
        if same && file.size >= self.offset { self.offset } else { 0 }
    }
}

/// A logged loss: (step, value); the value may be NaN or infinite.
pub type LossPoint = (u64, f64);

impl Tables<'_> {
    /// How far a metrics file was read.
    pub fn tail(&self, source: &str, path: &str) -> Result<Option<Tail>, StoreError> {
        let sql = "SELECT device, inode, offset FROM tails WHERE source = ?1 AND path = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let tail = statement.query_row([source, path], |row| {
            Ok(Tail {
                device: row.get::<_, i64>(0)? as u64,
                inode: row.get::<_, i64>(1)? as u64,
                offset: row.get::<_, i64>(2)? as u64,
            })
        });
        Ok(tail.optional()?)
    }

    /// Notes how far a metrics file was read.
    pub fn put_tail(&self, source: &str, path: &str, tail: Tail) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO tails VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![
            source,
            path,
            tail.device as i64,
            tail.inode as i64,
            tail.offset as i64
        ])?;
        Ok(())
    }

    /// Writes logged losses. One that comes again with another value replaces the older one and is judged again.
    pub fn put_losses(&self, run: RunId, points: &[LossPoint]) -> Result<(), StoreError> {
        let sql = "INSERT INTO losses (run_id, step, value) VALUES (?1, ?2, ?3)
            ON CONFLICT DO UPDATE SET value = excluded.value, judged = 0 WHERE value IS NOT excluded.value";
        let mut statement = self.connection.prepare_cached(sql)?;
        for &(step, value) in points {
            // SQLite has no NaN: it becomes NULL, which is read as NaN.
            statement.execute(params![run.0, step as i64, value])?;
        }
        Ok(())
    }

    /// A run's logged losses, by step.
    pub fn losses(&self, run: RunId) -> Result<Vec<LossPoint>, StoreError> {
        self.loss_points(
            "SELECT step, value FROM losses WHERE run_id = ?1 AND step <= ?2 ORDER BY step",
            run,
            u64::MAX,
        )
    }

    /// The last step at which a run logged a loss.
    pub fn last_loss(&self, run: RunId) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT max(step) FROM losses WHERE run_id = ?1";
        let last: Option<i64> = self.connection.prepare_cached(sql)?.query_row([run.0], |row| row.get(0))?;
        Ok(last.map(|step| step as u64))
    }

    /// Whether a run logs losses.
    pub fn logs_losses(&self, run: RunId) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM losses WHERE run_id = ?1 LIMIT 1")?
            .exists([run.0])?)
    }

    /// Number of a run's losses beyond a step that the detectors have not seen.
    pub fn count_losses_ahead(&self, run: RunId, step: u64) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM losses WHERE run_id = ?1 AND step > ?2 AND judged = 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params![run.0, clamp(step)], |row| row.get::<_, i64>(0))? as u64)
    }

    /// Takes the losses up to a step, included, that the detectors have not seen, by step: from now on they have.
    pub fn take_losses(&self, run: RunId, up_to: u64) -> Result<Vec<LossPoint>, StoreError> {
        let sql =
            "SELECT step, value FROM losses WHERE run_id = ?1 AND step <= ?2 AND judged = 0 ORDER BY step";
        let points = self.loss_points(sql, run, up_to)?;
        if !points.is_empty() {
            let sql = "UPDATE losses SET judged = 1 WHERE run_id = ?1 AND step <= ?2 AND judged = 0";
            self.connection.prepare_cached(sql)?.execute(params![run.0, clamp(up_to)])?;
        }
        Ok(points)
    }

    /// Gives back all losses of a run, so that detectors that begin anew see them again.
    pub fn give_back_losses(&self, run: RunId) -> Result<(), StoreError> {
        self.connection.prepare_cached("UPDATE losses SET judged = 0 WHERE run_id = ?1")?.execute([run.0])?;
        Ok(())
    }

    fn loss_points(&self, sql: &str, run: RunId, up_to: u64) -> Result<Vec<LossPoint>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![run.0, clamp(up_to)], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Option<f64>>(1)?.unwrap_or(f64::NAN)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The detectors' state on a run's checkpoints of one signature.
    pub fn monitor(&self, run: RunId, signature: &str) -> Result<Option<RunMonitor>, StoreError> {
        let sql = "SELECT state FROM monitors WHERE run_id = ?1 AND signature = ?2";
        let state: Option<String> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![run.0, signature], |row| row.get(0))
            .optional()?;
        state.map(|state| from_json("detector state", &state)).transpose()
    }

    /// Writes the detectors' state.
    pub fn put_monitor(&self, run: RunId, signature: &str, monitor: &RunMonitor) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO monitors VALUES (?1, ?2, ?3)";
        let state = to_json("detector state", monitor)?;
        self.connection.prepare_cached(sql)?.execute(params![run.0, signature, state])?;
        Ok(())
    }

    /// Writes an alert over what is stored under its detector and episode.
    pub fn put_alert(&self, run: RunId, signature: &str, alert: &Alert) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO alerts VALUES (?1, ?2, ?3, ?4, ?5)";
        let json = to_json("alert", alert)?;
        let detector = alert.detector.name();
        self.connection.prepare_cached(sql)?.execute(params![
            run.0,
            signature,
            detector,
            alert.episode,
            json
        ])?;
        Ok(())
    }

    /// The alert of a run, detector and episode.
    pub fn alert(
        &self,
        run: RunId,
        signature: &str,
        detector: Detector,
        episode: u32,
    ) -> Result<Option<Alert>, StoreError> {
        let sql = "SELECT alert FROM alerts WHERE run_id = ?1 AND signature = ?2 AND detector = ?3 AND episode = ?4";
        let json: Option<String> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![run.0, signature, detector.name(), episode], |row| row.get(0))
            .optional()?;
        json.map(|json| from_json("alert", &json)).transpose()
    }

    /// A run's alerts on checkpoints of one signature, by detector and episode.
    pub fn run_alerts(&self, run: RunId, signature: &str) -> Result<Vec<Alert>, StoreError> {
        let sql = "SELECT alert FROM alerts WHERE run_id = ?1 AND signature = ?2 ORDER BY detector, episode";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![run.0, signature], |row| row.get::<_, String>(0))?;
        rows.map(|json| from_json("alert", &json?)).collect()
    }

    /// The alerts on the runs of a group, by run, step of opening, detector and episode.
    pub fn group_alerts(&self, group: GroupId) -> Result<Vec<Alert>, StoreError> {
        let sql = "SELECT a.alert FROM alerts a JOIN runs r ON r.id = a.run_id
            WHERE EXISTS (SELECT 1 FROM checkpoints c
                WHERE c.run_id = a.run_id AND c.signature = a.signature AND c.group_id = ?1)
            ORDER BY r.name, a.detector, a.episode";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([group.0], |row| row.get::<_, String>(0))?;
        let mut alerts: Vec<Alert> =
            rows.map(|json| from_json("alert", &json?)).collect::<Result<_, StoreError>>()?;
        alerts.sort_by(|a, b| {
            (&a.run, a.opened_step, a.detector, a.episode).cmp(&(
                &b.run,
                b.opened_step,
                b.detector,
                b.episode,
            ))
        });
        Ok(alerts)
    }
}

/// SQLite's integers end at 2⁶³ − 1.
fn clamp(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}

fn to_json(what: &'static str, value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged { what, reason: error.to_string() })
}

fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Damaged { what, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Run, Store};

    #[tokio::test]
    async fn each_loss_is_seen_once_unless_it_changes() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                let run =
                    tables.run(&Run { source: "s".into(), experiment: "e".into(), name: "r".into() })?;
                tables.put_losses(run, &[(2, f64::NAN), (1, 0.5), (9, f64::INFINITY)])?;
                let taken = tables.take_losses(run, 5)?;
                assert_eq!(taken[0], (1, 0.5));
                assert!(taken[1].0 == 2 && taken[1].1.is_nan());
                tables.put_losses(run, &[(1, 0.5), (2, 0.25)])?;
                assert_eq!(tables.take_losses(run, 5)?, [(2, 0.25)], "only what changed comes again");
                assert_eq!(tables.take_losses(run, u64::MAX)?, [(9, f64::INFINITY)]);
                tables.give_back_losses(run)?;
                assert_eq!(tables.take_losses(run, u64::MAX)?.len(), 3);
                assert!(tables.logs_losses(run)?);
                Ok(())
            })
            .await
            .unwrap();
    }

    #[test]
    fn a_metrics_file_is_read_on_unless_it_is_another_one() {
        let file = FileIdentity { device: 1, inode: 2, size: 100, modified_ns: 0 };
        let tail = Tail { device: 1, inode: 2, offset: 60 };
        assert_eq!(tail.resume(file), 60);
        assert_eq!(tail.resume(FileIdentity { size: 50, ..file }), 0, "it was cut");
        assert_eq!(tail.resume(FileIdentity { inode: 3, ..file }), 0, "it was replaced");
    }
}
