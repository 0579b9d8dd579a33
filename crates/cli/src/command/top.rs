//! `metalctl top`: a partition to look at instead of to read.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use clap::{ArgMatches, Command};
use jiff::Timestamp;
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::app::{flag, flag_without_value, verb};
use crate::column;
use crate::contract;
use crate::error::{Error, Kind, Result};
use crate::path;
use crate::session::{Session, out};
use crate::table;

/// Two calls each time, below the server's limit per minute.
const EVERY: Duration = Duration::from_secs(3);

pub(crate) fn command(_: &str) -> Command {
    verb("top", "A live view of racks, machines and switch ports")
        .long_about(
            "A live view of racks, machines and switch ports, for a terminal of 80×24 or larger. Operators see all \
             machines, users those of their project.\n\nKeys: arrows or j and k scroll, Tab changes between machines and \
             ports, q ends.",
        )
        .arg(flag("partition", "ID", "Only this partition"))
        .arg(flag("project", "PROJECT", "Only this project, by id or name").short('p'))
        .arg(flag_without_value("once", "Write it once, without a terminal"))
        .after_help("Examples:\n  metalctl top --partition lab\n  metalctl top --once")
}

pub(crate) async fn run(session: &Session, matches: &ArgMatches) -> Result<()> {
    let given = matches.get_one::<String>("project").map(String::as_str);
    let project = match given.or(session.default_project()) {
        Some(project) => Some(session.project_id(project).await?),
        None => None,
    };
    let mut source =
        Source { session, project, partition: matches.get_one::<String>("partition").cloned() };
    // Operators see everything unless they ask for a project.
    if given.is_none() {
        let project = source.project.take();
        if matches!(source.look().await, Err(error) if error.kind == Kind::Denied) {
            source.project = project;
        }
    }
    let mut view = View::default();
    if matches.get_flag("once") || !std::io::stdout().is_terminal() {
        let world = source.look().await?;
        let mut lines = vec![header(&world), String::new()];
        lines.extend(racks(&world, 100, session.now()));
        if !world.switches.is_empty() {
            lines.push(String::new());
            lines.extend(ports(&world, session.now()));
        }
        return out(&(lines.join("\n") + "\n"));
    }
    let mut world = source.look().await?;
    let _terminal = Terminal::enter()?;
    let mut keys = tokio::io::stdin();
    let mut pressed = [0_u8; 8];
    loop {
        let (columns, rows) = size();
        view.limit(&world, rows);
        let text = screen(&world, &view, columns, rows, session.now()).join("\x1b[K\r\n");
        out(&format!("\x1b[H{text}\x1b[K\x1b[J"))?;
        tokio::select! {
            read = keys.read(&mut pressed) => match &pressed[..read.unwrap_or(0)] {
                [] | [b'q' | 3 | 4, ..] => return Ok(()),
                [b'j', ..] | b"\x1b[B" => view.scroll += 1,
                [b'k', ..] | b"\x1b[A" => view.scroll = view.scroll.saturating_sub(1),
                [b' ', ..] | b"\x1b[6~" => view.scroll += usize::from(rows),
                b"\x1b[5~" => view.scroll = view.scroll.saturating_sub(usize::from(rows)),
                [b'\t', ..] => view = View { ports: !view.ports, scroll: 0 },
                _ => {}
            },
            () = tokio::time::sleep(EVERY) => match source.look().await {
                Ok(new) => world = new,
                Err(error) if matches!(error.kind, Kind::Away | Kind::Timeout | Kind::Exhausted) => world.trouble = Some(error.sentence),
                Err(error) => return Err(error),
            },
        }
    }
}

/// What is looked at.
struct Source<'a> {
    session: &'a Session,
    project: Option<String>,
    partition: Option<String>,
}

/// What was seen.
#[derive(Default)]
struct World {
    machines: Vec<Value>,
    switches: Vec<Value>,
    /// Why it is not fresh.
    trouble: Option<String>,
}

/// How it is shown.
#[derive(Clone, Copy, Default)]
struct View {
    ports: bool,
    scroll: usize,
}

impl Source<'_> {
    async fn look(&self) -> Result<World> {
        let query = self
            .partition
            .as_ref()
            .map_or(json!({}), |partition| json!({ "partition": partition }));
        let list = |answer: Value, field: &str| {
            answer.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        if let Some(project) = &self.project {
            let request = json!({ "project": project, "query": query });
            let answer =
                self.session.call_path("/metalstack.api.v2.MachineService/List", &request).await?;
            return Ok(World { machines: list(answer, "machines"), ..World::default() });
        }
        let request = json!({ "query": query });
        let machines =
            self.session.call_path("/metalstack.admin.v2.MachineService/List", &request).await;
        let machines = machines.map_err(|error| match error.kind {
            Kind::Denied => error.hint("with -p or METAL_PROJECT it shows your project's machines"),
            _ => error,
        })?;
        let switches =
            self.session.call_path("/metalstack.admin.v2.SwitchService/List", &request).await?;
        Ok(World {
            machines: list(machines, "machines"),
            switches: list(switches, "switches"),
            trouble: None,
        })
    }
}

impl View {
    /// Does not scroll beyond the end.
    fn limit(&mut self, world: &World, rows: u16) {
        let lines = body(world, *self, 80, Timestamp::UNIX_EPOCH).len();
        self.scroll = self.scroll.min(lines.saturating_sub(usize::from(rows).saturating_sub(4)));
    }
}

/// The whole picture, at most `rows` lines of at most `columns` cells.
fn screen(world: &World, view: &View, columns: u16, rows: u16, now: Timestamp) -> Vec<String> {
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let mut lines = vec![header(world), String::new()];
    let body = body(world, *view, columns, now);
    let room = rows.saturating_sub(lines.len() + 1).max(1);
    let hidden = body.len().saturating_sub(view.scroll + room);
    lines.extend(body.into_iter().skip(view.scroll).take(room));
    lines.resize(rows.saturating_sub(1).max(lines.len()), String::new());
    let other = if view.ports { "machines" } else { "ports" };
    lines.push(match (&world.trouble, hidden) {
        (Some(trouble), _) => format!("not fresh: {trouble}"),
        (None, 0) => format!("q ends, Tab shows {other}"),
        (None, hidden) => format!("q ends, Tab shows {other}, j and k scroll, {hidden} more below"),
    });
    lines.iter().map(|line| cut(line, columns)).collect()
}

/// How many machines are where in their life.
fn header(world: &World) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for machine in &world.machines {
        let state = state(machine);
        match counts.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    counts.sort();
    let counts: Vec<_> =
        counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("{} machines: {}", world.machines.len(), counts.join(", "))
}

/// One word or two for where a machine is in its life.
fn state(machine: &Value) -> String {
    let text = |at: &str| {
        path::get(machine, at).first().map_or(String::new(), |value| column::plain(value))
    };
    match (text("status.condition.state").as_str(), text("status.liveliness").as_str()) {
        ("locked", _) => "locked".to_owned(),
        (_, "dead") => "dead".to_owned(),
        _ => match column::last_event(machine) {
            event if event.is_empty() => "never seen".to_owned(),
            event => event.to_lowercase(),
        },
    }
}

fn body(world: &World, view: View, columns: usize, now: Timestamp) -> Vec<String> {
    if view.ports { ports(world, now) } else { racks(world, columns, now) }
}

/// Machines by rack.
fn racks(world: &World, columns: usize, now: Timestamp) -> Vec<String> {
    let text = |machine: &Value, at: &str| {
        path::get(machine, at).first().map_or(String::new(), |value| column::plain(value))
    };
    let mut rows: Vec<(String, Vec<String>)> = world
        .machines
        .iter()
        .map(|machine| {
            let rack = format!("{} {}", text(machine, "partition.id"), text(machine, "rack"));
            let id = text(machine, "uuid");
            // On narrow terminals the part of the id that tells machines apart.
            let id = if columns >= 110 {
                id
            } else {
                id.rsplit('-').next().unwrap_or_default().to_owned()
            };
            let when =
                text(machine, "recentProvisioningEvents.lastEventTime").parse::<Timestamp>().ok();
            let when =
                when.map_or(String::new(), |then| column::span(now.as_second() - then.as_second()));
            let name = text(machine, "allocation.hostname");
            (
                rack.trim().to_owned(),
                vec![
                    mark(machine).to_owned(),
                    id,
                    state(machine),
                    when,
                    name,
                    text(machine, "size.id"),
                    text(machine, "allocation.image.id"),
                ],
            )
        })
        .collect();
    rows.sort();
    let titles = ["", "ID", "STATE", "SINCE", "HOSTNAME", "SIZE", "IMAGE"];
    let cells: Vec<Vec<String>> = rows.iter().map(|(_, cells)| cells.clone()).collect();
    let table = table::plain(&titles, &cells, true);
    let mut aligned = table.lines();
    let mut lines: Vec<String> = aligned.next().map(str::to_owned).into_iter().collect();
    let mut before = None;
    for ((rack, _), line) in rows.iter().zip(aligned) {
        if before.replace(rack) != Some(rack) {
            lines.push(if rack.is_empty() {
                "not registered".to_owned()
            } else {
                format!("rack {rack}")
            });
        }
        lines.push(line.to_owned());
    }
    lines
}

/// A letter that stands out: problems, work, quiet.
fn mark(machine: &Value) -> &'static str {
    let events = path::get(machine, "recentProvisioningEvents.state");
    let trouble =
        events.first().and_then(|state| state.as_str()).map(contract::short).unwrap_or_default();
    match (trouble, state(machine).as_str()) {
        ("crashloop" | "failed-reclaim", _) | (_, "crashed" | "dead") => "!",
        (_, "locked" | "tainted") => "x",
        (_, "phoned home") => "+",
        (_, "waiting") => ".",
        _ => ">",
    }
}

/// Switches with a letter for each port.
fn ports(world: &World, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for switch in &world.switches {
        let text = |at: &str| {
            path::get(switch, at).first().map_or(String::new(), |value| column::plain(value))
        };
        let synced = text("lastSync.time").parse::<Timestamp>().ok();
        let synced = synced.map_or("never synced".to_owned(), |then| {
            format!("synced {} ago", column::span(now.as_second() - then.as_second()))
        });
        lines.push(format!("{}  rack {}  {synced}", text("id"), text("rack")));
        let connected: Vec<String> = path::get(switch, "machineConnections[*].nic.name")
            .iter()
            .map(|name| column::plain(name))
            .collect();
        let nics = path::get(switch, "nics[*]");
        let ports: Vec<String> = nics
            .iter()
            .map(|nic| {
                let text = |at: &str| {
                    path::get(nic, at).first().map_or(String::new(), |value| column::plain(value))
                };
                let name = text("name");
                let mark = match (text("state.actual").as_str(), connected.contains(&name)) {
                    ("up", true) => "#",
                    ("up", false) => "+",
                    ("down", _) => "-",
                    _ => "?",
                };
                match text("vrf") {
                    vrf if vrf.is_empty() => format!("{mark}{name}"),
                    vrf => format!("{mark}{name}({vrf})"),
                }
            })
            .collect();
        lines.push(format!("  {}", ports.join(" ")));
    }
    lines.push(String::new());
    lines.push("# up with a machine, + up, - down, ? unknown".to_owned());
    lines
}

fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

/// Columns and rows of the terminal; 80×24 when it does not say.
pub(crate) fn size() -> (u16, u16) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let asked = std::process::Command::new("stty")
        .arg("size")
        .stdin(std::process::Stdio::inherit())
        .output()
        .ok();
    let asked = asked.and_then(|output| String::from_utf8(output.stdout).ok());
    let mut words = asked
        .as_deref()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok());
    let (rows, columns) = (words.next(), words.next());
    (columns.or(number("COLUMNS")).unwrap_or(80), rows.or(number("LINES")).unwrap_or(24))
}

/// The terminal without echo and line editing, as it was before when dropped.
struct Terminal(Termios);

impl Terminal {
    fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let failed = |e: nix::Error| {
            Error::failed(format!("this is no terminal: {e}"))
                .hint("--once writes the view without one")
        };
        let before = termios::tcgetattr(stdin.as_fd()).map_err(failed)?;
        let mut raw = before.clone();
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).map_err(failed)?;
        out("\x1b[?1049h\x1b[?25l")?;
        Ok(Self(before))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.0);
        let mut out = std::io::stdout();
        drop(out.write_all(b"\x1b[?25h\x1b[?1049l"));
        drop(out.flush());
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn world() -> World {
        let machine = |number: u32, rack: &str, event: &str, hostname: &str| {
            let mut machine = json!({
                "uuid": format!("00000000-0000-0000-0000-{number:012}"),
                "partition": {"id": "lab"}, "rack": rack, "size": {"id": "n1"},
                "recentProvisioningEvents": {
                    "lastEventTime": "2026-01-01T00:00:00Z",
                    "events": [{"time": "2026-01-01T00:00:00Z", "event": format!("MACHINE_PROVISIONING_EVENT_TYPE_{event}")}],
                },
            });
            if !hostname.is_empty() {
                machine["allocation"] = json!({"hostname": hostname, "image": {"id": "debian-12"}});
            }
            machine
        };
        let mut dead = machine(4, "rack-02", "WAITING", "");
        dead["status"] = json!({"liveliness": "MACHINE_LIVELINESS_DEAD"});
        World {
            machines: vec![
                machine(3, "rack-02", "INSTALLING", "db01"),
                machine(1, "rack-01", "WAITING", ""),
                machine(2, "rack-01", "PHONED_HOME", "web01"),
                dead,
            ],
            switches: vec![json!({
                "id": "leaf01", "rack": "rack-01", "lastSync": {"time": "2026-01-01T00:00:50Z"},
                "nics": [
                    {"name": "swp1", "vrf": "vrf42", "state": {"actual": "SWITCH_PORT_STATUS_UP"}},
                    {"name": "swp2", "state": {"actual": "SWITCH_PORT_STATUS_DOWN"}},
                ],
                "machineConnections": [{"nic": {"name": "swp1"}}],
            })],
            trouble: None,
        }
    }

    fn check(view: View, columns: u16, rows: u16, expected: expect_test::Expect) {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let lines = screen(&world(), &view, columns, rows, now);
        assert_eq!(lines.len(), usize::from(rows));
        assert!(lines.iter().all(|line| line.chars().count() <= usize::from(columns)));
        expected.assert_eq(&(lines.join("\n") + "\n"));
    }

    #[test]
    fn machines_by_rack() {
        check(
            View::default(),
            80,
            12,
            expect![[r#"
            4 machines: 1 dead, 1 installing, 1 phoned home, 1 waiting

               ID            STATE        SINCE  HOSTNAME  SIZE  IMAGE
            rack lab rack-01
            +  000000000002  phoned home  1m     web01     n1    debian-12
            .  000000000001  waiting      1m               n1
            rack lab rack-02
            !  000000000004  dead         1m               n1
            >  000000000003  installing   1m     db01      n1    debian-12


            q ends, Tab shows ports
        "#]],
        );
    }

    #[test]
    fn a_small_terminal_scrolls() {
        check(
            View { scroll: 2, ports: false },
            30,
            6,
            expect![[r#"
            4 machines: 1 dead, 1 installi

            +  000000000002  phoned home  
            .  000000000001  waiting      
            rack lab rack-02
            q ends, Tab shows ports, j and
        "#]],
        );
        let mut view = View { scroll: 99, ports: false };
        view.limit(&world(), 6);
        assert_eq!(view.scroll, 5);
    }

    #[test]
    fn ports_of_switches() {
        check(
            View { scroll: 0, ports: true },
            80,
            8,
            expect![[r#"
            4 machines: 1 dead, 1 installing, 1 phoned home, 1 waiting

            leaf01  rack rack-01  synced 10s ago
              #swp1(vrf42) -swp2

            # up with a machine, + up, - down, ? unknown

            q ends, Tab shows machines
        "#]],
        );
    }
}
