//! The live view in a terminal of 80×24, through tmux.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::hall::{Hall, until};
use crate::world::World;

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
    until(&world, "machine list --waiting -o jsonpath='{.items[*].uuid}'", &Hall::id(3));
    let socket = world.write("tmux.sock", "");
    std::fs::remove_file(&socket).unwrap();
    let tmux = |arguments: &[&str]| {
        let output = Command::new("tmux").arg("-S").arg(&socket).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let token = socket.with_file_name("token");
    let command = format!(
        "METAL_API_URL={} METAL_TOKEN_FILE={} {} top; echo ended; sleep 30",
        world.url(),
        token.display(),
        env!("CARGO_BIN_EXE_metalctl")
    );
    tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command]);
    let shown = |wanted: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = tmux(&["capture-pane", "-p"]);
            if screen.contains(wanted) {
                return screen;
            }
            assert!(Instant::now() < end, "{wanted:?} is not on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let first = shown("Tab shows ports");
    assert!(first.starts_with("3 machines: 3 waiting"), "{first}");
    for part in ["rack p1 rack1", ".  000000000002  waiting"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(
        first.lines().all(|line| line.chars().count() <= 80) && first.lines().count() <= 24,
        "{first}"
    );
    assert_eq!(first.lines().rfind(|line| !line.is_empty()).unwrap(), "q ends, Tab shows ports");
    tmux(&["send-keys", "Tab"]);
    let ports = shown("# up with a machine");
    assert!(ports.contains("?swp1"), "{ports}");
    // What happens is seen without a key.
    tmux(&["send-keys", "Tab"]);
    hall.event(2, "INSTALLING", "");
    shown("2 waiting");
    tmux(&["send-keys", "q"]);
    let last = shown("ended");
    tmux(&["kill-server"]);
    assert!(!last.contains("Tab shows"), "the terminal is as it was before:\n{last}");
}
