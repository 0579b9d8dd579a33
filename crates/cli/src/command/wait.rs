//! `metalctl machine wait`: follows a provisioning until it is where it should be.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::{ArgMatches, Command};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{flag, position, verb};
use crate::column;
use crate::contract;
use crate::error::{Error, Kind, Result};
use crate::output::{Answer, Content, Shape};
use crate::session::{Session, note};
use crate::verb::Group;

/// Often enough for people, seldom enough for the server's limit of calls per minute.
const EVERY: Duration = Duration::from_secs(2);
/// Phases are asked for at every third look.
const PHASES_EVERY: u32 = 3;
/// Events of a life between power-on and release, by the names people type.
const GOALS: [&str; 8] = [
    "PXE Booting",
    "Preparing",
    "Registering",
    "Waiting",
    "Installing",
    "Booting New Kernel",
    "Phoned Home",
    "Machine Reclaim",
];

pub(crate) fn command(_: &str) -> Command {
    verb("wait", "Follow a machine until it is where it should be")
        .long_about(
            "Follow a machine until it is where it should be: an allocated one until it phoned home, a free one until \
             it waits for an allocation, or what --for says. Shows events and phases with their durations on standard \
             error. Ctrl-C stops following; the work goes on.\n\nExit code 7 when the time is over.",
        )
        .arg(position("UUID", "Machine").required(true))
        .arg(flag("project", "PROJECT", "Project, by id or name").short('p'))
        .arg(flag("for", "EVENT", "Event to wait for, for instance phoned-home or waiting"))
        .arg(flag("wait-timeout", "DURATION", "How long to follow it").default_value("30m"))
        .after_help("Examples:\n  metalctl machine wait UUID\n  metalctl machine wait UUID --for waiting --wait-timeout 10m")
}

pub(crate) async fn run(session: &Session, matches: &ArgMatches) -> Result<()> {
    let uuid = matches.get_one::<String>("UUID").cloned().unwrap_or_default();
    let project = matches.get_one::<String>("project").map(String::as_str);
    let project = match project.or(session.default_project()) {
        Some(project) => Some(session.project_id(project).await?),
        None => None,
    };
    let goal = match matches.get_one::<String>("for") {
        Some(text) => Some(goal(text)?),
        None => None,
    };
    let timeout = matches.get_one::<String>("wait-timeout").map_or("30m", String::as_str);
    let mut following = Following { session, uuid, project, group: Group::User };
    let machine = following.until(goal, timeout).await?;
    session.show(answer(machine), "table", &Shape::default())
}

/// Follows a machine to a goal; for `create --wait` and `delete --wait`.
pub(crate) async fn follow(
    session: &Session,
    uuid: &str,
    goal: &'static str,
    timeout: &str,
    group: Group,
) -> Result<Value> {
    let project = match session.default_project() {
        Some(project) if goal == "Phoned Home" => Some(session.project_id(project).await?),
        _ => None,
    };
    Following { session, uuid: uuid.to_owned(), project, group }.until(Some(goal), timeout).await
}

fn answer(machine: Value) -> Answer {
    Answer {
        content: Content::One(machine),
        message: contract::Message::find("metalstack.api.v2.Machine"),
        columns: column::MACHINE,
        id: "uuid",
        noun: "machine",
    }
}

fn goal(text: &str) -> Result<&'static str> {
    let same =
        |goal: &str| goal.replace(' ', "-").eq_ignore_ascii_case(&text.replace([' ', '_'], "-"));
    GOALS.into_iter().find(|goal| same(goal)).ok_or_else(|| {
        Error::usage(format!("there is no event '{text}'")).hint(format!(
            "there are {}",
            GOALS.map(|goal| goal.replace(' ', "-").to_lowercase()).join(", ")
        ))
    })
}

struct Following<'a> {
    session: &'a Session,
    uuid: String,
    project: Option<String>,
    group: Group,
}

impl Following<'_> {
    async fn until(&mut self, goal: Option<&'static str>, timeout: &str) -> Result<Value> {
        let length = crate::duration::parse(timeout).ok_or_else(|| {
            Error::usage(format!("--wait-timeout: '{timeout}' is no duration; write it like 20m"))
        })?;
        // From here on a Ctrl-C is kept until somebody looks, also during a call.
        let mut interrupted = signal(SignalKind::interrupt())?;
        let begun = Timestamp::now();
        let end = tokio::time::Instant::now() + length;
        let mut progress = Progress::new(begun);
        let mut screen = Screen::new();
        let mut away = false;
        let (mut looks, mut phases, mut now) = (0_u32, Vec::new(), Value::Null);
        loop {
            match self.machine().await {
                Ok(machine) => {
                    away = false;
                    let goal = goal.unwrap_or(if machine.get("allocation").is_some() {
                        "Phoned Home"
                    } else {
                        "Waiting"
                    });
                    // At the end everything is told.
                    if looks.is_multiple_of(PHASES_EVERY) || reached(&machine, goal, begun) {
                        (phases, now) = self.timeline().await;
                    }
                    looks += 1;
                    for line in progress.news(&machine, &phases, &now) {
                        screen.line(&line);
                    }
                    if let Some(reason) = failure(&machine) {
                        screen.end();
                        return Err(Error::failed(format!(
                            "machine {} cannot go on: {reason}",
                            self.uuid
                        ))
                        .hint(format!(
                            "`metalctl machine events {}` shows what happened",
                            self.uuid
                        )));
                    }
                    if reached(&machine, goal, begun) {
                        screen.end();
                        return Ok(machine);
                    }
                    screen.status(&progress.status(&machine, &now, goal, Timestamp::now()));
                }
                // A server that restarts or is busy is no reason to stop.
                Err(error)
                    if matches!(error.kind, Kind::Away | Kind::Timeout | Kind::Exhausted) =>
                {
                    if !std::mem::replace(&mut away, true) {
                        screen.line(&format!("{}; still trying", error.sentence));
                    }
                }
                Err(error) => {
                    screen.end();
                    return Err(error);
                }
            }
            if tokio::time::Instant::now() >= end {
                screen.end();
                return Err(Error::new(
                    Kind::Timeout,
                    format!("machine {} is not there after {timeout}; the work goes on", self.uuid),
                )
                .hint(format!("`metalctl machine wait {}` follows it further", self.uuid)));
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = interrupted.recv() => {
                    screen.end();
                    return Err(Error::new(
                        Kind::Interrupted,
                        format!("machine {} is not looked at any more; the work goes on", self.uuid),
                    )
                    .hint(format!("`metalctl machine wait {}` follows it further", self.uuid)));
                }
            }
        }
    }

    /// As a user where it is the user's, else as an operator.
    async fn machine(&mut self) -> Result<Value> {
        if let (Group::User, Some(project)) = (self.group, &self.project) {
            let request = json!({ "uuid": self.uuid, "project": project });
            match self.session.call_path("/metalstack.api.v2.MachineService/Get", &request).await {
                Err(error) if error.kind == Kind::NotFound => {
                    let request = json!({ "uuid": self.uuid });
                    let path = "/metalstack.admin.v2.MachineService/Get";
                    let Ok(answer) = self.session.call_path(path, &request).await else {
                        return Err(error);
                    };
                    self.group = Group::Admin;
                    return Ok(answer["machine"].clone());
                }
                answer => return Ok(answer?["machine"].clone()),
            }
        }
        let request = json!({ "uuid": self.uuid });
        let answer =
            self.session.call_path("/metalstack.admin.v2.MachineService/Get", &request).await;
        let answer = answer.map_err(|error| match error.kind {
            Kind::Denied if self.project.is_none() => {
                error.hint("with -p or METAL_PROJECT it is your project's machine")
            }
            _ => error,
        })?;
        Ok(answer["machine"].clone())
    }

    /// Phases that are done and what comes next; only for information: a server without them is no error.
    async fn timeline(&self) -> (Vec<Value>, Value) {
        let project = self.project.as_deref().filter(|_| self.group == Group::User);
        let mut answer = timeline(self.session, &self.uuid, project).await.unwrap_or_default();
        let phases = answer["phases"].as_array().cloned().unwrap_or_default();
        (phases, answer["progress"].take())
    }
}

/// What the server knows about the way of a machine, as a user of the project or as an operator.
pub(crate) async fn timeline(
    session: &Session,
    uuid: &str,
    project: Option<&str>,
) -> Result<Value> {
    match project {
        Some(project) => {
            let request = json!({ "uuid": uuid, "project": project });
            session.call_path("/metal.v1.TimelineService/Get", &request).await
        }
        None => {
            let request = json!({ "uuid": uuid });
            session.call_path("/metal.v1.TimelineService/AdminGet", &request).await
        }
    }
}

/// Says what a machine waits for; only for information: a server that does not know is no error.
pub(crate) async fn outlook(session: &Session, machine: &Value) {
    let uuid = machine.get("uuid").and_then(Value::as_str).unwrap_or_default();
    let project = machine.pointer("/allocation/project").and_then(Value::as_str);
    let mut told = timeline(session, uuid, project).await;
    if told.is_err() && project.is_some() {
        // an operator need not be in the project
        told = timeline(session, uuid, None).await;
    }
    let told = told.unwrap_or_default();
    if let Some(waiting) = told.pointer("/progress/waitingFor").and_then(Value::as_str) {
        note(&format!("now: {waiting}"));
    }
}

/// The events of a machine, oldest first, with short names.
pub(crate) fn events(machine: &Value) -> Vec<(Timestamp, String, String)> {
    let list = machine.pointer("/recentProvisioningEvents/events").and_then(Value::as_array);
    let mut events: Vec<_> = list
        .into_iter()
        .flatten()
        .filter_map(|event| {
            let time = event.get("time")?.as_str()?.parse().ok()?;
            let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
            Some((time, contract::short(text("event")).to_owned(), text("message").to_owned()))
        })
        .collect();
    events.sort();
    events
}

/// Whether the goal is where the machine is now. A free machine that waits was wiped; one that is allocated has
/// waited before, so there only what came after counts.
fn reached(machine: &Value, goal: &str, begun: Timestamp) -> bool {
    let Some((time, last, _)) = events(machine).pop() else { return false };
    let allocated: Option<Timestamp> =
        machine.pointer("/allocation/meta/createdAt").and_then(|t| t.as_str()?.parse().ok());
    match goal {
        "Phoned Home" => last == goal && allocated.is_none_or(|since| time >= since),
        "Waiting" => last == goal && allocated.is_none(),
        _ => last == goal && time >= begun,
    }
}

/// Why it cannot go on by itself. After one crash it tries again.
fn failure(machine: &Value) -> Option<String> {
    let (_, last, message) = events(machine).pop()?;
    let state = machine.pointer("/recentProvisioningEvents/state").and_then(Value::as_str);
    let again_and_again = state.map(contract::short) == Some("crashloop");
    (last == "Crashed" && again_and_again).then_some(message)
}

/// What was told already.
struct Progress {
    begun: Timestamp,
    told: Option<Timestamp>,
    phases: usize,
    overdue: bool,
}

impl Progress {
    fn new(begun: Timestamp) -> Self {
        Self { begun, told: None, phases: 0, overdue: false }
    }

    /// Lines about what happened since the last look.
    fn news(&mut self, machine: &Value, phases: &[Value], now: &Value) -> Vec<String> {
        let mut lines: Vec<(Timestamp, String)> = Vec::new();
        let events = events(machine);
        // What lies behind at the first look is told by its last event only.
        let since = match self.told {
            Some(told) => events.iter().filter(|(time, ..)| *time > told).collect::<Vec<_>>(),
            None => events.last().into_iter().collect(),
        };
        for (time, event, message) in since {
            let message = if message.is_empty() { String::new() } else { format!("  {message}") };
            lines.push((*time, format!("{event}{message}")));
        }
        self.told = events.last().map(|(time, ..)| *time).or(self.told);
        let known = self.phases.min(phases.len());
        for phase in &phases[known..] {
            let text = |name: &str| phase.get(name).and_then(Value::as_str).unwrap_or_default();
            let started = text("startedAt").parse::<Timestamp>().unwrap_or(self.begun);
            if self.phases > 0 || started >= self.begun {
                let line = format!("  {} {} {}", text("name"), text("duration"), text("message"));
                lines.push((started, line.trim_end().to_owned()));
            }
        }
        self.phases = phases.len();
        lines.sort_by_key(|(time, _)| *time);
        let overdue = now["overdue"] == json!(true);
        if overdue && !std::mem::replace(&mut self.overdue, overdue) {
            let what = now["waitingFor"].as_str().unwrap_or_default();
            lines.push((Timestamp::now(), format!("later than usual: {what}")));
        }
        self.overdue = overdue;
        lines
            .into_iter()
            .map(|(time, line)| format!("{}  {line}", elapsed(self.begun, time)))
            .collect()
    }

    /// One line about now.
    fn status(&self, machine: &Value, progress: &Value, goal: &str, now: Timestamp) -> String {
        let last = events(machine).pop();
        let (state, since) = last
            .map_or(("nothing heard yet".to_owned(), self.begun), |(time, event, _)| (event, time));
        let silent = match contract::short(
            machine.pointer("/status/liveliness").and_then(Value::as_str).unwrap_or_default(),
        ) {
            "dead" | "unknown" => ", silent: is it powered on?",
            _ => "",
        };
        // The server knows best, unless it told about an earlier event.
        let of_event = contract::short(progress["event"].as_str().unwrap_or_default()) == state;
        let told = progress["waitingFor"].as_str().filter(|text| of_event && !text.is_empty());
        let why = match told.unwrap_or_else(|| why(&state, machine.get("allocation").is_some())) {
            "" => String::new(),
            why => format!(": {why}"),
        };
        format!(
            "{}  {state} for {}{silent}{why}; until {goal}",
            elapsed(self.begun, now),
            column::span(now.as_second() - since.as_second()),
        )
    }
}

/// What a machine does, or waits for, after its last event.
fn why(event: &str, allocated: bool) -> &'static str {
    match (event, allocated) {
        ("nothing heard yet", _) => "it must be powered on and boot from the network",
        ("PXE Booting", _) => "it loads the installer",
        ("Preparing", _) => "the installer starts and looks at the hardware",
        ("Registering", _) => "the installer tells what the machine is made of",
        ("Waiting", true) => "the installer is told about the allocation",
        ("Waiting", false) => "it is free",
        ("Installing", _) => "disks are divided, the image is written",
        ("Booting New Kernel", _) => "the installed system starts; its switch hears it then",
        ("Machine Reclaim", _) => "its BMC boots it again, its disks are wiped",
        ("Planned Reboot", _) => "it starts again, as it was told",
        ("Crashed", _) => "it tries again",
        _ => "",
    }
}

/// Minutes and seconds since the beginning, `-` for what was before.
fn elapsed(begun: Timestamp, time: Timestamp) -> String {
    let seconds = time.as_second() - begun.as_second();
    if seconds < 0 {
        "  -  ".to_owned()
    } else {
        format!("{:02}:{:02}", seconds / 60, seconds % 60)
    }
}

/// Lines that stay, and one that is overwritten where a human looks on.
struct Screen {
    live: bool,
    shown: bool,
    columns: usize,
}

impl Screen {
    fn new() -> Self {
        let live = std::io::stderr().is_terminal();
        let columns = if live { usize::from(super::top::size().0) } else { 0 };
        Self { live, shown: false, columns }
    }

    fn line(&mut self, text: &str) {
        self.end();
        drop(writeln!(std::io::stderr(), "{text}"));
    }

    fn status(&mut self, text: &str) {
        if self.live {
            // One line, or it could not be overwritten.
            let text: String = text.chars().take(self.columns.saturating_sub(1)).collect();
            drop(write!(std::io::stderr(), "\r\x1b[K{text}"));
            drop(std::io::stderr().flush());
            self.shown = true;
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn machine(events: &[(&str, &str)], allocated: Option<&str>) -> Value {
        let events: Vec<_> = events
            .iter()
            .map(|(time, event)| json!({"time": format!("2026-01-01T{time}Z"), "event": format!("MACHINE_PROVISIONING_EVENT_TYPE_{event}")}))
            .collect();
        let mut machine = json!({"recentProvisioningEvents": {"events": events}});
        if let Some(time) = allocated {
            machine["allocation"] = json!({"meta": {"createdAt": format!("2026-01-01T{time}Z")}});
        }
        machine
    }

    #[test]
    fn goals() {
        let begun: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let old = machine(&[("09:00:00", "PHONED_HOME")], Some("08:00:00"));
        assert!(reached(&old, "Phoned Home", begun));
        let before = machine(&[("07:00:00", "PHONED_HOME")], Some("08:00:00"));
        assert!(!reached(&before, "Phoned Home", begun));
        let waiting = [("09:00:00", "WAITING")];
        assert!(reached(&machine(&waiting, None), "Waiting", begun));
        assert!(!reached(&machine(&waiting, Some("09:30:00")), "Waiting", begun));
        assert!(!reached(&machine(&[], None), "Waiting", begun));
        assert_eq!(goal("phoned-home").unwrap(), "Phoned Home");
        assert!(goal("phone").is_err());
    }

    #[test]
    fn progress_tells_each_thing_once() {
        let begun: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let mut progress = Progress::new(begun);
        let mut told = progress.news(
            &machine(&[("09:00:00", "PXE_BOOTING"), ("09:01:00", "WAITING")], None),
            &[],
            &Value::Null,
        );
        let now = machine(&[("09:01:00", "WAITING"), ("10:00:03", "INSTALLING")], Some("10:00:01"));
        let phases = [
            json!({"name": "wipe", "startedAt": "2026-01-01T10:00:04Z", "duration": "1.5s", "message": "1 disk"}),
        ];
        told.extend(progress.news(&now, &phases, &Value::Null));
        told.extend(progress.news(&now, &phases, &Value::Null));
        let later = "2026-01-01T10:01:03Z".parse().unwrap();
        told.push(progress.status(&now, &Value::Null, "Phoned Home", later));
        let known = json!({"event": "MACHINE_PROVISIONING_EVENT_TYPE_INSTALLING", "waitingFor": "the installer writes the image"});
        told.push(progress.status(&now, &known, "Phoned Home", later));
        expect![[r#"
              -    Waiting
            00:03  Installing
            00:04    wipe 1.5s 1 disk
            01:03  Installing for 1m: disks are divided, the image is written; until Phoned Home
            01:03  Installing for 1m: the installer writes the image; until Phoned Home"#]]
        .assert_eq(&told.join("\n"));
    }
}
