//! Commands in a guest. Each goes over one of a few serial lines, which are sockets on the host; who uses one locks a
//! file, so that any number of processes can speak with a guest.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::qmp;
use crate::spec::{LANES, lane_socket};

/// How long a command may take unless told.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the way there and back may take beyond that, on a busy host.
const MARGIN: Duration = Duration::from_secs(20);
/// How often somebody looks who waits.
const LOOK: Duration = Duration::from_millis(50);

/// The way into a guest. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    folder: PathBuf,
    name: String,
}

/// What a command said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// As a shell tells it; 124 when it took too long, 127 when there is no such program.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Channel {
    /// To the guest of this name, with its sockets in this folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self { folder: folder.to_owned(), name: name.to_owned() }
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It does not in this time; the message has the end of its console.
    pub fn wait(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        let answer = self.call(&["true"], None, until, PATIENCE);
        answer.map(drop).with_context(|| {
            let path = self.folder.join(format!("{}.console.log", self.name));
            let text = std::fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let mut last: Vec<_> = text.lines().rev().take(8).collect();
            last.reverse();
            format!("{} does not come up; its console ends with:\n{}", self.name, last.join("\n"))
        })
    }

    /// Runs a command and waits for its end, a minute at most.
    ///
    /// # Errors
    /// The guest does not answer. That the command fails is no error.
    pub fn run<S: AsRef<str>>(&self, command: &[S]) -> Result<Output> {
        self.run_for(command, PATIENCE)
    }

    /// Runs a command and waits for its end; it is ended after this time.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_for<S: AsRef<str>>(&self, command: &[S], patience: Duration) -> Result<Output> {
        self.call(command, None, Instant::now() + patience + MARGIN, patience)
    }

    /// Runs a command with something on its standard input.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn feed<S: AsRef<str>>(&self, command: &[S], input: &[u8]) -> Result<Output> {
        self.call(command, Some(input), Instant::now() + PATIENCE + MARGIN, PATIENCE)
    }

    /// Runs a command that must not fail, and returns what it printed.
    ///
    /// # Errors
    /// As [`Self::run`], and when it fails; the message has what it complained about.
    pub fn ok<S: AsRef<str>>(&self, command: &[S]) -> Result<String> {
        self.run(command)?.ok(command).with_context(|| format!("in {}", self.name))
    }

    /// Writes a file, and the folder in which it is.
    ///
    /// # Errors
    /// As [`Self::ok`].
    pub fn write(&self, path: &str, contents: &[u8], mode: u32) -> Result<()> {
        let script = r#"mkdir -p "${1%/*}/" && cat >"$1" && chmod "$2" "$1""#;
        let mode = format!("{mode:o}");
        let command = ["sh", "-c", script, "write", path, &mode];
        self.feed(&command, contents)?.ok(&command).map(drop)
    }

    /// Starts a command that goes on; what it says is added to a file in the guest. Returns its process id.
    ///
    /// # Errors
    /// As [`Self::ok`].
    pub fn spawn<S: AsRef<str>>(&self, command: &[S], log: &str) -> Result<u32> {
        let script = r#"log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!"#;
        let all: Vec<_> = ["sh", "-c", script, "spawn", log]
            .into_iter()
            .chain(command.iter().map(AsRef::as_ref))
            .collect();
        Ok(self.ok(&all)?.trim().parse()?)
    }

    /// Resets it like a button would; what is not on the disk is lost. Does not wait.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn reset(&self) -> Result<()> {
        qmp::say(connect(&self.folder.join(format!("{}.qmp", self.name)))?, "system_reset")
    }

    fn call<S: AsRef<str>>(
        &self,
        command: &[S],
        input: Option<&[u8]>,
        until: Instant,
        seconds: Duration,
    ) -> Result<Output> {
        let tag = format!("{:016x}", fastrand::u64(..));
        let question = question(&tag, seconds.as_secs().max(1), input, command)?;
        let (lane, _lock) = self.lane(until)?;
        let socket = lane_socket(&self.folder, &self.name, lane);
        let mut stream = loop {
            match connect(&socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => {
                    return Err(error).with_context(|| format!("{} does not run", self.name));
                }
                Err(_) => sleep(LOOK),
            }
        };
        let left = until.saturating_duration_since(Instant::now()).max(LOOK);
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        stream.write_all(question.as_bytes())?;
        answer(&tag, &mut BufReader::new(stream))
            .with_context(|| format!("{} does not answer", self.name))
    }

    /// A lane that nobody uses.
    fn lane(&self, until: Instant) -> Result<(usize, Flock<File>)> {
        loop {
            for lane in 0..LANES {
                let path = self.folder.join(format!("{}.lane{lane}.lock", self.name));
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    Ok(lock) => return Ok((lane, lock)),
                    Err((_, Errno::EWOULDBLOCK)) => {}
                    Err((_, error)) => return Err(error.into()),
                }
            }
            ensure!(Instant::now() < until, "all ways into {} are in use", self.name);
            sleep(LOOK);
        }
    }
}

impl Output {
    /// What was printed.
    ///
    /// # Errors
    /// The command failed.
    pub fn ok<S: AsRef<str>>(self, command: &[S]) -> Result<String> {
        if self.status == 0 {
            return Ok(self.stdout);
        }
        let words: Vec<_> = command.iter().map(AsRef::as_ref).collect();
        let said = [self.stderr.trim(), self.stdout.trim()].join("\n");
        bail!("{} failed ({}): {}", words.join(" "), self.status, said.trim());
    }
}

/// Paths of sockets have a hundred bytes; by way of the open folder they are short.
fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let folder = File::open(path.parent().unwrap_or(path))?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short)
}

/// One line, in a line of its own whatever somebody before left half said.
fn question<S: AsRef<str>>(
    tag: &str,
    seconds: u64,
    input: Option<&[u8]>,
    command: &[S],
) -> Result<String> {
    let mut line = format!("\nrun {tag} {seconds} ");
    match input {
        None => line.push('-'),
        // an empty word would vanish
        Some([]) => line.push_str("''"),
        Some(input) => line.push_str(&STANDARD.encode(input)),
    }
    for word in command {
        let word = word.as_ref();
        ensure!(!word.contains('\0'), "a word of a command has no NUL in it");
        line.push_str(" '");
        line.push_str(&word.replace('\'', r"'\''").replace('\n', r#"'"$newline"'"#));
        line.push('\'');
    }
    line.push_str(" end\n");
    Ok(line)
}

/// Everything before the line with the tag is left over from somebody else.
fn answer(tag: &str, from: &mut impl BufRead) -> Result<Output> {
    let mut line = Vec::new();
    let numbers = loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            bail!("it ended");
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(at) = text.find(tag) {
            break text[at + tag.len()..].to_owned();
        }
    };
    let mut numbers = numbers.split_whitespace().map(str::parse::<u32>);
    let mut next = || numbers.next().context("half an answer")?.context("no number");
    let (status, out, err) = (next()?, next()?, next()?);
    let mut text = |length: u32| -> Result<String> {
        let mut bytes = Vec::new();
        from.take(length.into()).read_to_end(&mut bytes)?;
        ensure!(bytes.len() == length as usize, "the answer is cut off");
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Output { status: status.try_into()?, stdout: text(out)?, stderr: text(err)? })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_behind_what_others_left() {
        let mut bytes = &b"\n\nabc 0 3 0\nxyzt1 3 4 2\nout\n!!rest"[..];
        let output = answer("t1", &mut bytes).expect("answer");
        assert_eq!(output, Output { status: 3, stdout: "out\n".into(), stderr: "!!".into() });
        answer("t1", &mut &b"t1 0 9 0\nshort"[..]).expect_err("cut off");
        answer("t1", &mut &b"t1 0 x\n"[..]).expect_err("no number");
        answer("t1", &mut &b""[..]).expect_err("nothing");
    }

    #[test]
    fn failures_have_their_reason() {
        let output = Output { status: 2, stdout: String::new(), stderr: "no such thing\n".into() };
        let error = output.ok(&["ip", "link"]).expect_err("failed").to_string();
        assert_eq!(error, "ip link failed (2): no such thing");
    }

    proptest! {
        /// Read by a real shell the way that the guest does it.
        #[test]
        fn words_arrive_as_they_are(words in prop::collection::vec("[^\0]{0,12}", 1..4)) {
            let line = question("t", 1, None, &words).expect("words");
            prop_assert_eq!(line.matches('\n').count(), 2);
            let script = "newline='\n'\nIFS= read -r line\nline=${line% end}\neval \"set -- $line\"\nshift 4\nprintf '%s\\0' \"$@\"";
            let mut shell = Command::new("sh");
            let shell = shell.args(["-c", script]).stdin(std::process::Stdio::piped());
            let mut child = shell.stdout(std::process::Stdio::piped()).spawn().expect("sh");
            child.stdin.take().expect("stdin").write_all(line.trim_start().as_bytes()).expect("written");
            let output = child.wait_with_output().expect("output");
            let wanted: String = words.iter().map(|word| format!("{word}\0")).collect();
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
        }
    }
}
