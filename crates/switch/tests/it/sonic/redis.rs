//! A Redis of our own, as SONiC starts it: a socket, numbered databases, and news of every key.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use switch::backend::sonic::schema::Rows;

pub(crate) struct Redis {
    server: Child,
    socket: PathBuf,
}

impl Redis {
    pub(crate) fn is_installed() -> bool {
        Path::new("/usr/bin/redis-server").exists()
    }

    pub(crate) fn start(folder: &Path) -> Self {
        let socket = folder.join("redis.sock");
        let server = Command::new("/usr/bin/redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--notify-keyspace-events", "AKE", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { server, socket };
        let begin = Instant::now();
        while redis.run(4, &["PING"]) != "PONG" {
            assert!(begin.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        redis
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What somebody types on the switch, for CONFIG_DB.
    pub(crate) fn cli(&self, line: &str) -> String {
        self.run(4, &line.split(' ').collect::<Vec<_>>())
    }

    fn run(&self, base: u8, words: &[&str]) -> String {
        let mut command = Command::new("/usr/bin/redis-cli");
        command.arg("-s").arg(&self.socket).args(["-n", &base.to_string()]).args(words);
        let output = command.stderr(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
