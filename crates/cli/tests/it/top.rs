//! The live view in a terminal of 80×24, through tmux.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::hall::{Hall, until};
use crate::world::World;

/// A terminal of its own, which ends with the test.
struct Tmux(PathBuf);

impl Tmux {
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.0).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Looks at the screen until this is on it.
    #[track_caller]
    fn shown(&self, wanted: &str) -> String {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let screen = self.run(&["capture-pane", "-p"]);
            if screen.contains(wanted) {
                return screen;
            }
            assert!(Instant::now() < end, "{wanted:?} is not on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.0).arg("kill-server").status();
    }
}

#[test]
fn the_live_view_fits_a_small_terminal_and_ends_with_q() {
    let tmux_is_there =
        Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
    if !tmux_is_there {
        eprintln!("not tested: this machine has no tmux");
        return;
    }
    let world = World::new();
    let hall = Hall::new(&world);
    let _streams = [hall.machine(1), hall.machine(2), hall.machine(3)];
    for number in 1..=3 {
        until(&world, "machine list --waiting -o jsonpath='{.items[*].uuid}'", &Hall::id(number));
    }
    let socket = world.write("tmux.sock", "");
    std::fs::remove_file(&socket).unwrap();
    let token = socket.with_file_name("token");
    let command = format!(
        "METAL_API_URL={} METAL_TOKEN_FILE={} {} top; echo ended; sleep 600",
        world.url(),
        token.display(),
        env!("CARGO_BIN_EXE_metalctl")
    );
    let tmux = Tmux(socket);
    tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command]);
    let first = tmux.shown("Tab shows ports");
    assert!(first.starts_with("3 machines: 3 waiting"), "{first}");
    for part in ["rack p1 rack1", ".  000000000002  waiting"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(
        first.lines().all(|line| line.chars().count() <= 80) && first.lines().count() <= 24,
        "{first}"
    );
    assert_eq!(first.lines().rfind(|line| !line.is_empty()).unwrap(), "q ends, Tab shows ports");
    tmux.run(&["send-keys", "Tab"]);
    let ports = tmux.shown("# up with a machine");
    assert!(ports.contains("?swp1"), "{ports}");
    // What happens is seen without a key.
    tmux.run(&["send-keys", "Tab"]);
    hall.event(2, "INSTALLING", "");
    tmux.shown("2 waiting");
    tmux.run(&["send-keys", "q"]);
    let last = tmux.shown("ended");
    assert!(!last.contains("Tab shows"), "the terminal is as it was before:\n{last}");
}
