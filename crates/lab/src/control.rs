//! How commands talk to the supervisor: one line of JSON in, one line out, on a socket that only root can open.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::launch::Tap;

/// A program that the supervisor keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Unique name; its log and its line in the ledger are called so.
    pub name: String,
    /// Namespace to run in; `None` is the host's.
    pub namespace: Option<String>,
    /// Where names of namespaces are a leaf's own; `None` is the host's.
    #[serde(default)]
    pub names: Option<PathBuf>,
    /// A socket that somebody must answer at before it starts.
    #[serde(default)]
    pub needs: Option<PathBuf>,
    /// Ports to open.
    #[serde(default)]
    pub taps: Vec<Tap>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables of its environment beside the supervisor's own.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Whether it is started again when it ends by itself.
    pub restart: bool,
}

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Start a part, or leave it alone when it runs.
    Start(Part),
    /// End a part for good; asking for one that does not run is fine.
    Stop(String),
    /// Tell about all parts.
    List,
    /// End everything, machines first.
    Shutdown,
}

/// A part as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub name: String,
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// How often it ended by itself and was started again.
    pub restarts: u32,
    /// Seconds since its last start.
    pub seconds: u64,
}

/// The answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Why not.
    pub error: Option<String>,
    /// All parts, in the order of their start; only for [`Request::List`].
    #[serde(default)]
    pub parts: Vec<State>,
}

/// A request on its way to the supervisor's loop, with the place for the answer.
pub struct Pending {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: Sender<Answer>,
}

/// Asks the supervisor.
///
/// # Errors
/// No lab runs, or the supervisor says why not.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer> {
    let mut stream =
        UnixStream::connect(socket).context("no lab runs; `cargo xtask lab` starts one")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the supervisor does not answer")?;
    let answer: Answer = serde_json::from_str(&line).context("the supervisor ended")?;
    match answer.error {
        Some(error) => bail!(error),
        None => Ok(answer),
    }
}

/// Listens, and hands each request to whoever holds the receiver.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(socket: &Path) -> Result<Receiver<Pending>> {
    // left by a supervisor that was killed
    std::fs::remove_file(socket).ok();
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            // a client that went away is no trouble of ours
            thread::spawn(move || serve(stream, &sender).ok());
        }
    });
    Ok(receiver)
}

fn serve(mut stream: UnixStream, sender: &Sender<Pending>) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => {
            let (reply, answer) = channel();
            sender.send(Pending { request, reply })?;
            answer.recv()?
        }
        Err(error) => Answer { error: Some(error.to_string()), ..Answer::default() },
    };
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    Ok(stream.write_all(line.as_bytes())?)
}
