//! A Redis of our own, as SONiC starts it: a socket, numbered databases, and news of every key.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use switch::backend::sonic::schema::Rows;

pub(crate) struct Redis {
    server: Mutex<Option<Child>>,
    socket: PathBuf,
}

impl Redis {
    pub(crate) fn is_installed() -> bool {
        Path::new("/usr/bin/redis-server").exists()
    }

    pub(crate) fn start(folder: &Path) -> Self {
        let redis = Self { server: Mutex::default(), socket: folder.join("redis.sock") };
        redis.begin();
        redis
    }

    /// Empty, as after a start of the machine.
    pub(crate) fn begin(&self) {
        let server = Command::new("/usr/bin/redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--notify-keyspace-events", "AKE", "--unixsocket"])
            .arg(&self.socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(server);
        let begin = Instant::now();
        while self.run(4, &["PING"]) != "PONG" {
            assert!(begin.elapsed() < Duration::from_secs(120), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A crash.
    pub(crate) fn end(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What somebody types on the switch, for CONFIG_DB.
    pub(crate) fn cli(&self, line: &str) -> String {
        self.run(4, &line.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn run(&self, base: u8, words: &[&str]) -> String {
        let mut command = Command::new("/usr/bin/redis-cli");
        command.arg("-s").arg(&self.socket).args(["-n", &base.to_string()]).args(words);
        let output = command.stderr(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// How many commands there were, the one that asks among them.
    pub(crate) fn commands(&self) -> usize {
        let said = self.run(0, &["INFO", "stats"]);
        let count = said.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.unwrap().trim().parse().unwrap()
    }

    /// As SONiC does with its file when it boots.
    pub(crate) fn load(&self, rows: &Rows) {
        for (key, fields) in rows {
            let mut words = vec!["HSET", key.as_str()];
            words.extend(fields.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
            self.run(4, &words);
        }
        self.run(4, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}
