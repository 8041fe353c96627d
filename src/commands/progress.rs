//! What a person sees who waits.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use doodl3::agent::Event;
use doodl3::telemetry;

use super::{count, say};

/// One line that follows the agent. On a terminal it moves; elsewhere it is written now and then, while something
/// trains.
pub(super) struct Progress {
    bar: ProgressBar,
    follows: JoinHandle<()>,
}

/// How far a training is: epochs done, of so many.
pub(super) type Epochs = watch::Receiver<(u64, u64)>;

impl Progress {
    /// Shows what the events tell, and the training, where there is one.
    pub(super) fn show(events: Receiver<Event>, training: Option<Epochs>) -> Self {
        let bar = telemetry::bars().add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{spinner} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        let line = Line { training, bar: bar.clone(), ..Line::default() };
        Self { bar, follows: tokio::spawn(line.follow(events)) }
    }

    /// Takes the line away.
    pub(super) fn clear(self) {
        self.follows.abort();
        self.bar.finish_and_clear();
    }
}

struct Line {
    bar: ProgressBar,
    training: Option<Epochs>,
    taken: usize,
    evaluated: usize,
    analysing: Option<(&'static str, f64)>,
    /// Tenths of the training that were told where there is no terminal.
    told: u64,
}

impl Default for Line {
    fn default() -> Self {
        Self { bar: ProgressBar::hidden(), training: None, taken: 0, evaluated: 0, analysing: None, told: 0 }
    }
}

impl Line {
    async fn follow(mut self, mut events: Receiver<Event>) {
        loop {
            self.write();
            match events.recv().await {
                Ok(Event::Taken { checkpoints }) => self.taken += checkpoints,
                Ok(Event::Evaluated) => self.evaluated += 1,
                Ok(Event::Analysing { stage, share }) => self.analysing = Some((stage, share)),
                Ok(Event::Analysed(_)) => self.analysing = None,
                Ok(Event::Alert(..)) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn write(&mut self) {
        let mut parts = Vec::new();
        let epochs = self.training.as_ref().map(|training| *training.borrow());
        if let Some((epoch, epochs)) = epochs.filter(|(epoch, epochs)| epoch < epochs) {
            parts.push(format!("epoch {epoch} of {epochs}"));
        }
        parts.push(format!("{} read", count(self.taken, "checkpoint")));
        if self.evaluated > 0 {
            parts.push(format!("{} evaluated", self.evaluated));
        }
        if let Some((stage, share)) = self.analysing {
            parts.push(format!("analysing ({stage}, {:.0} %)", 100.0 * share));
        }
        let text = parts.join(", ");
        let tenths = epochs.map_or(0, |(epoch, epochs)| 10 * epoch / epochs.max(1));
        if telemetry::bars().is_hidden() && tenths > self.told {
            self.told = tenths;
            say(&format!("{text}\n"));
        }
        self.bar.set_message(text);
    }
}
