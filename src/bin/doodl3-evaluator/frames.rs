//! The pipes to the agent: requests come in on a thread of their own, answers go out whole.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::mpsc;
use std::time::Duration;

use doodl3::evaluate::protocol::{self, PREFIX, Request, Response};

/// How long a request under way may go on after the agent has gone.
const GRACE: Duration = Duration::from_secs(1);

/// The way to the agent.
pub(crate) struct Replies(File);

impl Replies {
    /// Takes standard output for frames alone. What anything else prints, such as a module's `print`, goes to standard
    /// error from here on.
    pub(crate) fn take_standard_output() -> io::Result<Self> {
        let frames = io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdout(io::stderr())?;
        Ok(Self(frames.into()))
    }

    /// Sends one frame.
    pub(crate) fn send(&mut self, response: &Response) -> io::Result<()> {
        self.0.write_all(&protocol::encode(response).map_err(io::Error::other)?)
    }
}

/// Requests as they come; the channel closes with standard input.
///
/// The agent may die without a word. Then standard input ends, whatever this process is doing, and so does the process:
/// an evaluation never outlives its agent.
pub(crate) fn requests() -> mpsc::Receiver<Request> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let error = loop {
            match read(&mut io::stdin().lock()) {
                Ok(Some(request)) => {
                    if sender.send(request).is_err() {
                        return;
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = error {
            eprintln!("doodl3-evaluator: unreadable request, ending: {error}");
        }
        drop(sender);
        std::thread::sleep(GRACE);
        // Not `exit`: it would take libtorch down under the request that is still running.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
    });
    receiver
}

/// The next request; none at the end of input.
fn read(input: &mut impl io::Read) -> io::Result<Option<Request>> {
    let mut prefix = [0; PREFIX];
    match io::Read::bytes(&mut *input).next().transpose()? {
        Some(first) => prefix[0] = first,
        None => return Ok(None),
    }
    input.read_exact(&mut prefix[1..])?;
    let mut json = vec![0; protocol::length(prefix).map_err(io::Error::other)?];
    input.read_exact(&mut json)?;
    protocol::decode(&json).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_frames_until_the_end() {
        let request = Request::Evaluate { id: 3, checkpoint: "a.pt".into() };
        let frame = protocol::encode(&request).unwrap();
        let mut two = &[frame.clone(), frame.clone()].concat()[..];
        assert_eq!(read(&mut two).unwrap(), Some(request.clone()));
        assert_eq!(read(&mut two).unwrap(), Some(request));
        assert_eq!(read(&mut two).unwrap(), None);
        assert!(read(&mut &frame[..frame.len() - 1]).is_err(), "a frame that ends early");
        assert!(
            read(&mut &u32::MAX.to_le_bytes()[..]).is_err(),
            "a frame too long, refused before it is read"
        );
        assert!(read(&mut &[1, 0, 0, 0, b'x'][..]).is_err(), "not a message");
    }
}
