//! A server, files to serve, a home directory: what a session needs. Transcripts without what changes from run to run.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use expect_test::ExpectFile;
use tempfile::TempDir;

/// Everything around the commands of one test.
pub(crate) struct World {
    home: TempDir,
    server: Option<Server>,
    files: String,
    environment: Vec<(String, String)>,
}

struct Server {
    address: String,
    database: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl World {
    /// Without a server.
    pub(crate) fn alone() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            server: None,
            files: files(),
            environment: Vec::new(),
        }
    }

    /// With a server and the token of an operator.
    pub(crate) fn new() -> Self {
        let mut world = Self::alone();
        let server = Server::start(world.home.path());
        let token = server.token(Some(proto::api::AdminRole::Editor), Duration::from_secs(3600), 0);
        std::fs::write(world.home.path().join("token"), token).unwrap();
        std::fs::write(world.home.path().join("agent"), server.agent()).unwrap();
        world.set("METAL_API_URL", &format!("http://{}", server.address));
        world.set("METAL_TOKEN_FILE", world.home.path().join("token").to_str().unwrap());
        world.server = Some(server);
        world
    }

    /// Sets a variable of the commands that follow.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Forgets a variable.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// Where images and kernels are.
    pub(crate) fn files(&self) -> &str {
        &self.files
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.as_ref().expect("a server").address)
    }

    /// A token that was made so long ago.
    pub(crate) fn old_token(&self, seconds_ago: i64) -> String {
        let server = self.server.as_ref().expect("a server");
        server.token(None, Duration::from_secs(600), seconds_ago)
    }

    /// The API as agents of boot, switches and BMCs call it.
    pub(crate) fn agent(&self) -> client::Client {
        client::Client::new(client::Config {
            url: self.url(),
            token: client::TokenSource::File(self.home.path().join("agent")),
            ca_cert_pem: None,
        })
        .unwrap()
    }

    /// Writes a file below the home directory, where the commands run.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command line to be started; words may stand in single quotes.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metalctl"));
        command
            .args(words(line))
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("COLUMNS", "100")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs one command line; words may stand in single quotes.
    pub(crate) fn run(&self, line: &str, input: &str) -> Done {
        let mut command = self.command(line);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who does not read its input may be gone already.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        Done {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// The transcript of several commands, with the changing parts replaced. `line <<< text` gives input.
    pub(crate) fn session(&self, lines: &[&str]) -> String {
        let mut text = String::new();
        for line in lines {
            let (command, input) = line.split_once(" <<< ").unwrap_or((line, ""));
            let done = self.run(command, input);
            text.push_str(&format!("$ metalctl {line}\n{}{}", done.out, done.err));
            if done.code != 0 {
                text.push_str(&format!("(exit {})\n", done.code));
            }
            text.push('\n');
        }
        let text = text
            .replace(&self.files, "http://files")
            .replace(self.home.path().to_str().unwrap(), "HOME");
        let text = match &self.server {
            Some(server) => text.replace(&server.address, "SERVER"),
            None => text,
        };
        steady(&text)
    }
}

/// How a command ended.
pub(crate) struct Done {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let database = format!("sqlite:{}", folder.join("metal.db").display());
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let of_thread = database.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let config = server::Config {
                    listen: "127.0.0.1:0".to_owned(),
                    database: of_thread,
                    issuer: ISSUER.to_owned(),
                    rate: server::rate::Config {
                        token_per_minute: 100_000,
                        address_per_minute: 100_000,
                    },
                    ..server::Config::default()
                };
                let running = server::start(config).await.unwrap();
                tell.send(running.address.to_string()).unwrap();
                drop(stopped.await);
                running.stop().await.unwrap();
            });
        });
        Self { address: told.recv().unwrap(), database, stop: Some(stop), thread: Some(thread) }
    }

    fn token(
        &self,
        role: Option<proto::api::AdminRole>,
        life: Duration,
        seconds_ago: i64,
    ) -> String {
        let token = proto::api::Token { admin_role: role.map(Into::into), ..Default::default() };
        self.signed(token, life, seconds_ago)
    }

    /// A token of agents that speak for all machines and switches.
    fn agent(&self) -> String {
        let editor = proto::api::MachineRole::Editor;
        let token = proto::api::Token {
            infra_role: Some(proto::api::InfraRole::Editor.into()),
            machine_roles: [("*".to_owned(), editor.into())].into_iter().collect(),
            ..Default::default()
        };
        self.signed(token, Duration::from_secs(3600), 0)
    }

    fn signed(&self, token: proto::api::Token, life: Duration, seconds_ago: i64) -> String {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let db = store::Db::open(&self.database).await.unwrap();
            let mut tx = db.begin_write().await.unwrap();
            let mut token = proto::api::Token {
                user: "metal-stack".to_owned(),
                description: "test".to_owned(),
                token_type: proto::api::TokenType::Api.into(),
                ..token
            };
            let now =
                jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - seconds_ago)
                    .unwrap();
            let secret =
                server::auth::create_token(&mut tx, ISSUER, &mut token, life, now).await.unwrap();
            tx.commit().await.unwrap();
            secret
        })
    }
}

const ISSUER: &str = "http://localhost";

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Answers every request with an empty file: the server looks whether images can be fetched.
fn files() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let missing = request[..length].windows(8).any(|part| part == b"/missing")
                || request[..length].starts_with(b"POST");
            let status = if missing { "404 Not Found" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    url
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (None::<String>, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Ids in the order of their appearance, times and ages by what they are.
fn steady(text: &str) -> String {
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut steady = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let word_begins =
            steady.chars().last().is_none_or(|before| !before.is_ascii_alphanumeric());
        if word_begins && is_uuid(rest) {
            let next = ids.len() + 1;
            let number = *ids.entry(rest[..36].to_owned()).or_insert(next);
            // As wide as the real one, so that tables stay aligned.
            steady.push_str(&format!("{number:0>8}-0000-0000-0000-000000000000"));
            rest = &rest[36..];
        } else if word_begins && let Some(length) = time(rest) {
            steady.push_str("<time>");
            rest = &rest[length..];
        } else {
            steady.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    let lines: Vec<String> = steady
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let last = words.len() - 1;
            let words: Vec<&str> = words
                .into_iter()
                .enumerate()
                .map(|(at, word)| match is_seconds(word) {
                    // A slow machine needs two digits; tables stay aligned.
                    true if word.len() == 3 && at < last => "0s ",
                    true => "0s",
                    false => word,
                })
                .collect();
            words.join(" ")
        })
        .collect();
    lines.join("\n") + "\n"
}

/// Compares a transcript. Where something became a minute old meanwhile, columns of ages are wider: then spaces do not count.
#[track_caller]
pub(crate) fn compare(wanted: &ExpectFile, text: &str) {
    if text.split_whitespace().any(is_minutes) && squeezed(text) == squeezed(&wanted.data()) {
        return;
    }
    wanted.assert_eq(text);
}

/// Words, and all ages as if they were seconds.
fn squeezed(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        match (is_minutes(word), rest.peek()) {
            (true, Some(&"0s")) => {}
            (true, _) => words.push("0s"),
            (false, _) => words.push(word),
        }
    }
    words
}

fn is_minutes(word: &str) -> bool {
    word.strip_suffix('m').is_some_and(|digits| digits.parse::<u8>().is_ok())
}

#[test]
fn what_became_a_minute_old_is_the_same() {
    let (quick, slow) = ("ID  AGE\na   0s\nb   0s\n", "ID  AGE\na   1m 17s\nb   2m\n");
    assert_eq!(squeezed(&steady(slow)), squeezed(quick));
    assert_ne!(squeezed("ID  AGE\na   1m 0s\n"), squeezed(quick));
}

fn is_uuid(text: &str) -> bool {
    text.len() >= 36
        && text.is_char_boundary(36)
        && text[..36].bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Length of a time such as `2026-01-01T00:00:00.123Z`.
fn time(text: &str) -> Option<usize> {
    let end = text.find('Z').filter(|end| (19..=30).contains(end))?;
    let digits = text[..end].bytes().all(|b| b.is_ascii_digit() || b"-T:.".contains(&b));
    (digits && text.as_bytes()[10] == b'T').then_some(end + 1)
}

fn is_seconds(word: &str) -> bool {
    word.strip_suffix('s').is_some_and(|digits| {
        matches!(digits.len(), 1 | 2) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}
