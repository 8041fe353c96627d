//! `doodl3-evaluator`: the child process in which libtorch works for doodl3.
//!
//! libtorch can crash, hang or run out of memory on a bad module or checkpoint. It does so here, and the agent, which
//! does not link it, notes it and starts another child. Requests come as frames on standard input, answers go out as
//! frames on standard output ([`doodl3::evaluate::protocol`]); standard error is for people. The process ends with its
//! standard input.

#![expect(clippy::print_stderr, reason = "standard error is where this process speaks to people")]

mod architecture;
mod frames;
mod loss;
mod model;
mod probe;
mod program;
mod script;
mod session;
mod torch_error;
mod train;
mod weights;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use doodl3::evaluate::protocol::{self, Response};
use rustix::process::{Resource, Rlimit};

fn main() -> ExitCode {
    if io::stdin().is_terminal() || std::env::args_os().len() > 1 {
        eprintln!(
            "doodl3-evaluator {} is started by doodl3 and talks to it through pipes; it takes no arguments.\n\
             Try: doodl3 --help",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::from(2);
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("doodl3-evaluator: the agent cannot be reached: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut replies = frames::Replies::take_standard_output()?;
    be_expendable();
    // One thread: polite beside a training job, and the same bits each time.
    tch::set_num_threads(1);
    tch::set_num_interop_threads(1);
    replies.send(&Response::Ready { protocol: protocol::VERSION, libtorch: LIBTORCH.into() })?;
    let mut session = session::Session::default();
    for request in frames::requests() {
        session.answer(request, &mut replies)?;
    }
    Ok(())
}

/// The version of libtorch that tch is made for; torch-sys refuses to be built with another.
const LIBTORCH: &str = "2.13.0";

/// When memory runs out, this process shall go and not the training beside it; nobody needs its core dump. Both are
/// favours: where the system refuses them, evaluation works all the same.
fn be_expendable() {
    std::fs::write("/proc/self/oom_score_adj", "800").ok();
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
}
