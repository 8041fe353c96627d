//! Looking at the cancel flag once in a while.

use crate::engine::{Control, EngineError};

/// Vertices, edges or words handled between two looks: a few milliseconds.
const EVERY: u64 = 1 << 20;

/// Looks at the cancel flag by the work done, since an image may have one cell or all.
pub(super) struct Poll<'a> {
    control: &'a Control,
    work: u64,
}

impl<'a> Poll<'a> {
    /// Looks at the flag first once something was done.
    pub(super) fn new(control: &'a Control) -> Self {
        Self { control, work: 0 }
    }

    /// Tells of work done; whether it was time to look at the flag.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    #[inline]
    pub(super) fn after(&mut self, work: u64) -> Result<bool, EngineError> {
        self.work += work;
        if self.work < EVERY {
            return Ok(false);
        }
        self.work = 0;
        self.control.check().map(|()| true)
    }
}
