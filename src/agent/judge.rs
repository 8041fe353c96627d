//! What the detectors see, and in which order.
//!
//! The detectors' state on a run is a fold over its checkpoints in the order of their steps. A checkpoint that comes out
//! of order, and a step that comes again with other weights (a trainer that went back and resumed), rewinds it: the
//! detectors begin anew and see all checkpoints below that step again, from what is stored. So no detector sees a step
//! twice, and the state depends on the checkpoints that there are, not on when they came or how often the agent was
//! killed meanwhile. Alerts of the future that was abandoned are resolved.
//!
//! All of this happens inside one transaction with the rows that it is about.

use std::collections::BTreeMap;

use crate::alert::{Alert, AlertState};
use crate::detect::{Detector, Observation, RunMonitor, Settings};
use crate::store::{RunId, StoreError, Tables};

/// Losses ahead of the newest checkpoint that are shown to the detectors at once; more wait for their checkpoint.
const MOST_AHEAD: u64 = 1024;

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Opened,
    /// Its severity has risen.
    Escalated,
    /// It is over.
    Resolved,
    /// It goes on.
    Repeated,
}

/// The detectors of some runs during a transaction.
#[derive(Debug)]
pub struct Judge<'t> {
    tables: &'t Tables<'t>,
    settings: &'t Settings,
    monitors: BTreeMap<Key, RunMonitor>,
    alerts: BTreeMap<(Key, Detector, u32), Alert>,
}

/// A run, and the signature of its checkpoints.
type Key = (RunId, String);

impl<'t> Judge<'t> {
    /// Nothing judged yet.
    pub fn new(tables: &'t Tables<'t>, settings: &'t Settings) -> Self {
        Self { tables, settings, monitors: BTreeMap::new(), alerts: BTreeMap::new() }
    }

    /// Shows the detectors a checkpoint that was written.
    pub fn checkpoint(&mut self, run: RunId, signature: &str, step: u64) -> Result<(), StoreError> {
        let key = (run, signature.to_owned());
        let mut seen = self.monitor(&key)?.step();
        if seen.is_some_and(|seen| seen >= step) {
            self.rewind(&key, step)?;
            seen = None;
        }
        for missed in self.tables.steps_between(run, signature, seen, step)? {
            self.observe(&key, missed)?;
        }
        self.observe(&key, step)
    }

    /// Shows the detectors losses that came without a checkpoint: those logged after theirs had been judged, and those
    /// ahead of the next one, since a loss that is not finite is worth an alert at once.
    pub fn losses(&mut self, run: RunId, signature: &str) -> Result<(), StoreError> {
        let key = (run, signature.to_owned());
        let seen = self.monitor(&key)?.step().unwrap_or(0);
        let few_ahead = self.tables.count_losses_ahead(run, seen)? <= MOST_AHEAD;
        let points = self.tables.take_losses(run, if few_ahead { u64::MAX } else { seen })?;
        self.observe_losses(&key, &points)
    }

    /// Shows the detectors the loss on the probe batch, where the run logs none itself.
    pub fn evaluated(
        &mut self,
        run: RunId,
        signature: &str,
        step: u64,
        loss: Option<f64>,
    ) -> Result<(), StoreError> {
        let key = (run, signature.to_owned());
        let seen = self.monitor(&key)?.step();
        if seen.is_some_and(|seen| seen >= step) && !self.tables.logs_losses(run)? {
            self.observe_losses(&key, &[(step, loss.unwrap_or(f64::NAN))])?;
        }
        Ok(())
    }

    /// Writes the detectors' state and the alerts; returns those that changed.
    pub fn finish(self) -> Result<Vec<(RunId, Alert, Change)>, StoreError> {
        for ((run, signature), monitor) in &self.monitors {
            self.tables.put_monitor(*run, signature, monitor)?;
        }
        let mut changes = Vec::new();
        for (((run, signature), detector, episode), alert) in self.alerts {
            let before = self.tables.alert(run, &signature, detector, episode)?;
            if before.as_ref() != Some(&alert) {
                self.tables.put_alert(run, &signature, &alert)?;
                changes.push((run, change(before.as_ref(), &alert), alert));
            }
        }
        Ok(changes.into_iter().map(|(run, change, alert)| (run, alert, change)).collect())
    }

    fn monitor(&mut self, key: &Key) -> Result<&mut RunMonitor, StoreError> {
        if !self.monitors.contains_key(key) {
            let monitor = match self.tables.monitor(key.0, &key.1)? {
                Some(monitor) => monitor,
                None => RunMonitor::new(self.tables.run_name(key.0)?),
            };
            self.insert(key, monitor)?;
        }
        Ok(self.monitors.get_mut(key).expect("it was put there"))
    }

    fn insert(&mut self, key: &Key, mut monitor: RunMonitor) -> Result<(), StoreError> {
        let logged = self.tables.logs_losses(key.0)?;
        monitor.name_losses(if logged { "train/loss" } else { "the loss on the probe batch" });
        self.monitors.insert(key.clone(), monitor);
        Ok(())
    }

    fn rewind(&mut self, key: &Key, step: u64) -> Result<(), StoreError> {
        self.tables.give_back_losses(key.0)?;
        self.insert(key, RunMonitor::new(self.tables.run_name(key.0)?))?;
        self.alerts.retain(|(run, ..), _| run != key);
        for mut alert in self.tables.run_alerts(key.0, &key.1)? {
            if alert.opened_step >= step && alert.state == AlertState::Open {
                alert.state = AlertState::Resolved;
                alert.resolved_step = Some(step);
                self.keep(key, vec![alert]);
            }
        }
        Ok(())
    }

    fn observe(&mut self, key: &Key, step: u64) -> Result<(), StoreError> {
        let (tables, settings) = (self.tables, self.settings);
        let (sketch, statistics) = tables.measured(key.0, step)?;
        let losses = tables.take_losses(key.0, step)?;
        let monitor = self.monitor(key)?;
        let late = losses.partition_point(|&(at, _)| monitor.step().is_some_and(|seen| at <= seen));
        let (late, losses) = losses.split_at(late);
        let mut alerts = Vec::new();
        if !late.is_empty() {
            alerts = monitor.observe_losses(late, settings).alerts;
        }
        let observation = Observation { step, sketch: &sketch, statistics: &statistics, losses };
        let report = monitor.observe(&observation, settings);
        tables.put_readings(key.0, step, report.norm, report.update_ratio, report.instability)?;
        alerts.extend(report.alerts);
        self.keep(key, alerts);
        // A checkpoint that is seen again may have been evaluated before.
        let row = tables.checkpoint(key.0, step)?;
        if let Some(row) = row.filter(|row| row.model.is_some() && row.evaluation_error.is_none()) {
            self.evaluated(key.0, &key.1, step, row.loss)?;
        }
        Ok(())
    }

    fn observe_losses(&mut self, key: &Key, points: &[(u64, f64)]) -> Result<(), StoreError> {
        if !points.is_empty() {
            let settings = self.settings;
            let alerts = self.monitor(key)?.observe_losses(points, settings).alerts;
            self.keep(key, alerts);
        }
        Ok(())
    }

    fn keep(&mut self, key: &Key, alerts: Vec<Alert>) {
        for alert in alerts {
            self.alerts.insert((key.clone(), alert.detector, alert.episode), alert);
        }
    }
}

fn change(before: Option<&Alert>, after: &Alert) -> Change {
    match before {
        None => Change::Opened,
        Some(before) if before.severity < after.severity => Change::Escalated,
        Some(before) if before.state != after.state => match after.state {
            AlertState::Open => Change::Opened,
            AlertState::Resolved => Change::Resolved,
        },
        Some(_) => Change::Repeated,
    }
}
