//! How a caller steers a running analysis.

use std::fmt;

use super::{Cancel, EngineError};

/// A flag to stop by, and somebody to tell of progress.
///
/// ```
/// use doodl3::engine::{Cancel, Control};
///
/// let control = Control::new(Cancel::new()).on_progress(|stage, share| assert!(!stage.is_empty() && share <= 1.0));
/// control.report("grid", 0.5);
/// assert!(control.check().is_ok());
/// ```
pub struct Control {
    cancel: Cancel,
    progress: Option<Box<dyn Fn(&'static str, f64) + Send + Sync>>,
}

impl Control {
    /// Stops when `cancel` is raised, tells nobody.
    pub fn new(cancel: Cancel) -> Self {
        Self { cancel, progress: None }
    }

    /// Calls `progress` with the name of a stage and the share of it that is done (0 to 1), from any thread.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(&'static str, f64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// The flag.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Tells that `share` of `stage` is done.
    pub fn report(&self, stage: &'static str, share: f64) {
        if let Some(progress) = &self.progress {
            progress(stage, share);
        }
    }

    /// Refuses to go on once the flag is raised.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn check(&self) -> Result<(), EngineError> {
        if self.cancel.is_raised() { Err(EngineError::Cancelled) } else { Ok(()) }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new(Cancel::new())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}
