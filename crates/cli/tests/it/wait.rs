//! Commands that look on while something happens.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hall::{Hall, allocated, until};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(120);

/// A command that runs, and what it says on one of its outputs.
struct Running {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Running {
    fn errors(world: &World, line: &str) -> Self {
        let mut child = world.command(line).stdout(Stdio::piped()).spawn().unwrap();
        let errors = child.stderr.take().unwrap();
        Self { child, lines: lines(errors), said: String::new() }
    }

    fn answers(world: &World, line: &str) -> Self {
        let mut child = world.command(line).stderr(Stdio::null()).spawn().unwrap();
        let answers = child.stdout.take().unwrap();
        Self { child, lines: lines(answers), said: String::new() }
    }

    /// Reads until a line holds this.
    #[track_caller]
    fn until(&mut self, wanted: &str) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push_str(&format!("{line}\n"));
                    if line.contains(wanted) {
                        return;
                    }
                }
                Err(e) => panic!("{wanted:?} is not said ({e}):\n{}", self.said),
            }
        }
    }

    /// The exit code, and the rest of what it says.
    fn end(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push_str(&format!("{line}\n"));
        }
        (code, self.said)
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[test]
fn a_provisioning_is_followed_to_its_end_and_back() {
    let world = World::new();
    let hall = Hall::new(&world);
    let heard = hall.machine(1);
    until(&world, "machine list --waiting -o name", &Hall::id(1));

    // Created and looked at, then the looking on is ended.
    let create = "machine create -p web --hostname web01 --partition p1 --size c1 --image debian-12 --networks private --wait --wait-timeout 600s -o name";
    let mut creating = Running::errors(&world, create);
    creating.until(&format!("machine {}", Hall::id(1)));
    allocated(&heard);
    hall.event(1, "INSTALLING", "debian-12.0.1");
    creating.until("Installing");
    hall.phase(1, "disks", "1 disk");
    creating.until("disks");
    kill(Pid::from_raw(i32::try_from(creating.child.id()).unwrap()), Signal::SIGINT).unwrap();
    let (code, said) = creating.end();
    assert_eq!(code, 130, "{said}");
    for part in ["the work goes on", &format!("`metalctl machine wait {}`", Hall::id(1))] {
        assert!(said.contains(part), "{part}: {said}");
    }

    // The work went on; somebody looks again.
    let mut waiting = Running::errors(
        &world,
        &format!("machine wait {} -p web --wait-timeout 600s", Hall::id(1)),
    );
    waiting.until("Installing");
    hall.phase(1, "image", "900 MiB");
    waiting.until("image 1.500s 900 MiB");
    hall.event(1, "BOOTING_NEW_KERNEL", "");
    waiting.until("Booting New Kernel");
    hall.phoned_home(1);
    let (code, said) = waiting.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("image 1.500s 900 MiB"), "{said}");
    assert!(said.contains("Phoned Home"), "{said}");
    // A machine that is there needs no waiting.
    let done = world.run(&format!("machine wait {} -p web -o name", Hall::id(1)), "");
    assert_eq!((done.code, done.out.trim()), (0, Hall::id(1).as_str()), "{}", done.err);

    // Released: it is seen how it comes back into the pool.
    let mut deleting = Running::errors(
        &world,
        &format!("machine delete {} -p web -y --wait --wait-timeout 600s", Hall::id(1)),
    );
    deleting.until("Machine Reclaim");
    hall.confirm();
    let _stream = hall.machine(1);
    let (code, said) = deleting.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Waiting"), "{said}");
}

#[test]
fn looking_on_ends_when_the_time_is_over_or_nothing_can_come() {
    let world = World::new();
    let hall = Hall::new(&world);
    let heard = hall.machine(1);
    until(&world, "machine list --waiting -o name", &Hall::id(1));
    let wait = format!("machine wait {}", Hall::id(1));
    let late = world.run(&format!("{wait} --for phoned-home --wait-timeout 1s"), "");
    assert_eq!(late.code, 7, "{}", late.err);
    assert!(late.err.contains("the work goes on"), "{}", late.err);
    let create = world.run("machine create -p web --hostname web01 --partition p1 --size c1 --image debian-12 --networks private -o name", "");
    assert_eq!(create.code, 0, "{}", create.err);
    allocated(&heard);
    hall.call(
        "metal.v1.InstallerService/ReportFailure",
        serde_json::json!({"uuid": Hall::id(1), "phase": "image", "reason": "the image does not have the digest"}),
    );
    let crashed = world.run(&format!("{wait} -p web --wait-timeout 600s"), "");
    assert!(crashed.err.contains("the image does not have the digest"), "{}", crashed.err);
    assert!(![0, late.code].contains(&crashed.code), "{}", crashed.err);
}

#[test]
fn a_list_is_shown_again_when_it_changes() {
    let world = World::new();
    let mut watching =
        Running::answers(&world, "project list --watch=1 --columns name,description");
    world.run("project create --name web --description shop", "");
    watching.until("shop");
    world.run("project update web --description market", "");
    watching.until("market");
    // not Ctrl-C: who runs the tests in the background of a shell has it ignored, and so do their children
    kill(Pid::from_raw(i32::try_from(watching.child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let (_, said) = watching.end();
    assert_eq!(said.matches("market").count(), 1, "nothing changed since:\n{said}");
}
