//! What the input says of each run, worked out once and read by the page and by every picture.

use std::collections::BTreeMap;

use super::palette::{self, Colour};
use super::{ReportInput, RunView};
use crate::alert::{Alert, AlertState, Severity};
use crate::engine::{Analysis, Fate, Forecast, Outlook, Role, Trajectory};

/// The input, by run.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) input: &'a ReportInput,
    /// Every run that anything is known of, by name.
    pub(super) runs: Vec<Run<'a>>,
    /// The colour of each Morse set.
    pub(super) colours: Vec<Colour>,
}

/// One run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) name: &'a str,
    pub(super) view: Option<&'a RunView>,
    pub(super) trajectory: Option<&'a Trajectory>,
    /// Its alerts, the most urgent first.
    pub(super) alerts: Vec<&'a Alert>,
    pub(super) standing: Standing,
    /// Where it went, if it is in the analysis.
    pub(super) destination: Option<Destination>,
    /// Where random paths lead from there, unless it has diverged.
    pub(super) forecast: Option<&'a Forecast>,
}

/// How a run does, by its alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// No alert, or only for information.
    Healthy,
    /// There was a warning or worse, and it is over.
    Recovered,
    /// A warning is open.
    Watch,
    /// An alert of high severity is open.
    Unstable,
    /// Weights or loss are no longer finite, or the run is called lost.
    Diverged,
}

/// Where a run is at its last checkpoint, or can go from there. Ordered as the report lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    /// Inside this attractor or open set.
    Inside(usize),
    /// Elsewhere, where every path ends in this attractor.
    Toward(usize),
    /// Where several attractors can be reached.
    Undecided,
    /// Where the trusted region can be left.
    Escapes,
    /// Where the map is not trusted.
    Untrusted,
    /// Beyond the domain.
    Outside,
    /// Nowhere: the run has diverged, and its last usable checkpoint tells nothing of its end.
    Lost,
}

impl<'a> Reading<'a> {
    pub(super) fn new(input: &'a ReportInput) -> Self {
        let mut runs: BTreeMap<&str, Run> = BTreeMap::new();
        let entry = |runs: &mut BTreeMap<&'a str, Run<'a>>, name: &'a str, set: &dyn Fn(&mut Run<'a>)| {
            set(runs.entry(name).or_insert_with(|| Run::named(name)));
        };
        for view in &input.runs {
            entry(&mut runs, &view.run, &|run| run.view = Some(view));
        }
        for alert in &input.alerts {
            entry(&mut runs, &alert.run, &|run| run.alerts.push(alert));
        }
        if let Ok(analysis) = &input.analysis {
            let focus = input.focus.as_ref();
            let told = |run: &String| focus.is_none_or(|focus| focus == run);
            for trajectory in analysis.trajectories.iter().filter(|trajectory| told(&trajectory.run)) {
                entry(&mut runs, &trajectory.run, &|run| run.trajectory = Some(trajectory));
            }
        }
        let mut runs: Vec<Run> = runs.into_values().collect();
        for run in &mut runs {
            run.alerts.sort_by_key(|alert| urgency(alert));
            run.standing = standing(&run.alerts);
            let Some((analysis, trajectory)) = input.analysis.as_ref().ok().zip(run.trajectory) else {
                continue;
            };
            if run.standing == Standing::Diverged {
                run.destination = Some(Destination::Lost);
                continue;
            }
            let outlook = analysis.basins.outlook.iter().find(|outlook| outlook.run == trajectory.run);
            run.destination = destination(analysis, trajectory, outlook);
            run.forecast = outlook.map(|outlook| &outlook.forecast);
        }
        let colours = input.analysis.as_ref().map(|analysis| palette::assign(&analysis.morse_graph));
        Self { input, runs, colours: colours.unwrap_or_default() }
    }

    /// The analysis, if there is one.
    pub(super) fn analysis(&self) -> Option<&'a Analysis> {
        self.input.analysis.as_ref().ok()
    }

    /// All alerts, the most urgent first.
    pub(super) fn alerts(&self) -> Vec<&'a Alert> {
        let mut alerts: Vec<&Alert> = self.input.alerts.iter().collect();
        alerts.sort_by_key(|alert| urgency(alert));
        alerts
    }

    /// The worst standing of any run.
    pub(super) fn standing(&self) -> Standing {
        self.runs.iter().map(|run| run.standing).max().unwrap_or(Standing::Healthy)
    }

    /// The colour of a destination.
    pub(super) fn colour(&self, destination: Option<Destination>) -> Colour {
        match destination {
            Some(Destination::Inside(set) | Destination::Toward(set)) => {
                self.colours.get(set).copied().unwrap_or(palette::NO_SET)
            }
            _ => palette::NO_SET,
        }
    }
}

impl<'a> Run<'a> {
    fn named(name: &'a str) -> Self {
        Self {
            name,
            view: None,
            trajectory: None,
            alerts: Vec::new(),
            standing: Standing::Healthy,
            destination: None,
            forecast: None,
        }
    }

    /// Whether it is shown apart from the others, in the colour of alerts.
    pub(super) fn stands_out(&self) -> bool {
        self.standing > Standing::Healthy
    }

    /// Number of its checkpoints.
    pub(super) fn checkpoints(&self) -> usize {
        let seen = self.view.map_or(0, |view| view.steps.len());
        seen.max(self.trajectory.map_or(0, |trajectory| trajectory.steps.len()))
    }
}

/// Sorts alerts: open before resolved, then by severity, the oldest first, then by run, detector and episode.
fn urgency(alert: &Alert) -> impl Ord + '_ {
    let resolved = alert.state == AlertState::Resolved;
    (
        resolved,
        std::cmp::Reverse(alert.severity),
        alert.opened_step,
        alert.run.as_str(),
        alert.detector,
        alert.episode,
    )
}

fn standing(alerts: &[&Alert]) -> Standing {
    let of = |alert: &&Alert| match (alert.state, alert.severity) {
        (_, Severity::Info) => Standing::Healthy,
        (AlertState::Resolved, _) => Standing::Recovered,
        (AlertState::Open, Severity::Warning) => Standing::Watch,
        (AlertState::Open, Severity::High) => Standing::Unstable,
        (AlertState::Open, Severity::Critical) => Standing::Diverged,
    };
    alerts.iter().map(of).max().unwrap_or(Standing::Healthy)
}

/// Where a run is at its last checkpoint, or else what becomes of it there. Sets that are only passed are not where it
/// goes.
fn destination(
    analysis: &Analysis,
    trajectory: &Trajectory,
    outlook: Option<&Outlook>,
) -> Option<Destination> {
    let set = *trajectory.morse_sets.last()?;
    let stays = |set: &usize| {
        let role = analysis.morse_graph.sets.get(*set).map(|set| set.role);
        matches!(role, Some(Role::Attractor | Role::Open))
    };
    if let Some(set) = set.filter(stays) {
        return Some(Destination::Inside(set));
    }
    Some(match outlook?.fate {
        Some(Fate::Certain(set)) => Destination::Toward(set),
        Some(Fate::Undecided) => Destination::Undecided,
        Some(Fate::Escapes) => Destination::Escapes,
        Some(Fate::Untrusted) => Destination::Untrusted,
        None => Destination::Outside,
    })
}

/// What a Morse set is called in pictures and tables.
pub(super) fn set_name(set: usize) -> String {
    format!("M{set}")
}

/// The word for a role.
pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Attractor => "attractor",
        Role::Open => "open",
        Role::Repeller => "repeller",
        Role::Intermediate => "intermediate",
    }
}
