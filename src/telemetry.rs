//! Logging: one line an event, on standard error, out of the way of progress bars.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config;

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `verbosity` is 0 for what happens, more for details, less for warnings and errors alone; the
/// environment's filter ([`config::LOG`]) stands above it.
///
/// # Panics
/// When called twice.
pub fn start(verbosity: i8, format: Format) {
    let level = match verbosity {
        ..=-2 => "error",
        -1 => "warn",
        0 => "info",
        1 => "debug",
        2.. => "trace",
    };
    let filter = EnvFilter::builder().with_env_var(config::LOG).try_from_env().unwrap_or_else(|_unset| {
        // usvg warns of each character that its font lacks: run names may hold any. The verifier of certificates tells at
        // each attempt what we tell once, with what to do.
        let others = if level == "error" { "error" } else { "warn" };
        EnvFilter::new(format!("{others},usvg=error,rustls_platform_verifier=off,doodl3={level}"))
    });
    let colours =
        io::stderr().is_terminal() && std::env::var_os(config::NO_COLOR).is_none_or(|v| v.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AroundBars)
        .with_target(false)
        .with_ansi(colours);
    match format {
        Format::Text => builder.with_timer(Clock).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}

/// The progress bars, which log lines do not disturb. Hidden where standard error is no terminal.
pub fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Local time of day to the second: the day is known to whom reads a terminal, and a service's log has its own.
struct Clock;

impl tracing_subscriber::fmt::time::FormatTime for Clock {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", jiff::ZonedDateTime::now().strftime("%H:%M:%S"))
    }
}

struct AroundBars;

impl MakeWriter<'_> for AroundBars {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line
    }
}

/// Writes whole events to standard error while the bars are out of the way.
struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bars().suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
