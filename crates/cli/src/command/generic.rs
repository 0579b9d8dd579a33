//! The commands that are one call: `list`, `describe`, `create`, `update`, `delete` and the rest of the contract.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use crate::app::{flag, flag_without_value};
use crate::contract::Method;
use crate::error::{Error, Kind, Result};
use crate::flag as flags;
use crate::manifest;
use crate::output::{Content, Format, Shape};
use crate::request;
use crate::session::{Session, confirm, note, out};
use crate::verb::{self, Group, Verb};

/// The command of a verb.
pub(crate) fn command(verb: &Verb) -> Command {
    let name = verb.name();
    let doc = verb.method.doc;
    let mut command = Command::new(name)
        .about(flags::sentence(doc))
        .long_about(format!("{doc}\n\nCalls {}.", verb.method.path.trim_start_matches('/')))
        .visible_aliases(
            match name {
                "list" => &["ls"][..],
                "describe" => &["get"],
                "delete" if verb.noun.name == "token" => &["revoke", "rm"],
                "delete" => &["rm", "destroy"],
                "create" if verb.noun.name == "machine" => &["allocate"],
                _ => &[],
            }
            .iter()
            .copied(),
        )
        .after_help(examples(verb));
    if let Some(field) = verb.argument {
        let several = name == "delete" && verb.words.len() == 1 || name == "describe";
        let mut argument = Arg::new("ID")
            .value_name(flags::leaked(field.name.to_uppercase()))
            .help(if field.doc.is_empty() {
                "Which one".to_owned()
            } else {
                flags::sentence(field.doc)
            });
        if several {
            argument = argument.num_args(1..);
        }
        command = command.arg(argument);
    }
    for flag in flags::of_verb(verb) {
        if flag.is_project() {
            command = command.arg(
                flag.arg(verb)
                    .short('p')
                    .value_name("PROJECT")
                    .help("Project, by id or name")
                    .long_help(
                        "Project, by id or name. Absent: METAL_PROJECT, else that of the context.",
                    ),
            );
        } else if flag.name == "ssh-public-keys" {
            command = command.arg(flag.arg(verb).short('i').value_name("KEY|@FILE"));
        } else {
            command = command.arg(flag.arg(verb));
        }
    }
    if !verb.only_reads() {
        command = command.arg(
            flag(
                "file",
                "FILE",
                "Read the content from YAML or JSON, - is standard input; flags win over it",
            )
            .short('f'),
        );
    }
    if name == "delete" {
        command = command.arg(flag_without_value("yes", "Do not ask").short('y'));
    }
    if verb.lists() {
        command = command.args(shape_args());
    }
    if verb.only_reads() {
        command = command.arg(
            flag("watch", "SECONDS", "Show it again whenever it changes")
                .short('w')
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("2")
                .value_parser(clap::value_parser!(u64).range(1..=3600))
                .help_heading("Output"),
        );
    }
    if verb.noun.name == "machine" && name == "create" {
        command = command.arg(flag(
            "firewall-rules-file",
            "FILE",
            "Rules of a firewall: YAML with `egress` and `ingress`",
        ));
    }
    if verb.group == Group::User && verb.only_reads() && everything(verb).is_some() {
        command =
            command.arg(flag_without_value("all", "Of all projects, as an operator").short('A'));
    }
    if waits(verb) {
        command = command
            .arg(flag_without_value(
                "wait",
                "Follow it until it is done; Ctrl-C leaves the work running",
            ))
            .arg(flag("wait-timeout", "DURATION", "How long to follow it").default_value("30m"));
    }
    command
}

/// Flags of everything that shows a list.
pub(crate) fn shape_args() -> [Arg; 5] {
    let list = |name: &'static str, value: &'static str, help: &'static str| {
        flag(name, value, help)
            .action(ArgAction::Append)
            .value_delimiter(',')
            .help_heading("Output")
    };
    [
        list("columns", "NAME|PATH", "Columns to show, by heading or path"),
        list("sort-by", "NAME|PATH[:desc]", "Sort by columns"),
        list(
            "filter",
            "NAME|PATH=VALUE",
            "Only where a column is (=), is not (!=) or contains (~) a value",
        ),
        list("selector", "KEY=VALUE", "Only with these labels: KEY=VALUE, KEY!=VALUE, KEY or !KEY")
            .short('l'),
        flag_without_value("no-headers", "Leave out the headings").help_heading("Output"),
    ]
}

/// What these flags say.
pub(crate) fn shape(matches: &ArgMatches) -> Shape {
    let list = |name: &str| {
        let typed = matches.try_get_many::<String>(name).ok().flatten();
        typed.into_iter().flatten().cloned().collect::<Vec<_>>()
    };
    Shape {
        no_headers: matches.try_get_one::<bool>("no-headers").ok().flatten() == Some(&true),
        columns: list("columns"),
        sort_by: list("sort-by"),
        filters: list("filter"),
        selectors: list("selector"),
    }
}

fn waits(verb: &Verb) -> bool {
    verb.noun.name == "machine" && matches!(verb.method.name, "Create" | "Delete")
}

/// The operators' verb of the same name that needs no project.
fn everything(verb: &Verb) -> Option<Verb> {
    verb.method.request().field("project").filter(|field| !field.optional)?;
    let other = verb::find(verb.noun, verb.method.name, Group::Admin)?;
    (other.group == Group::Admin && other.method.request().field("project").is_none())
        .then_some(other)
}

/// Calls the method once for each thing that is named.
pub(crate) async fn run(session: &Session, verb: &Verb, matches: &ArgMatches) -> Result<()> {
    let all = matches.try_get_one::<bool>("all").ok().flatten() == Some(&true);
    let project_given = matches.try_contains_id("project").ok() == Some(true);
    let homeless = !project_given && session.default_project().is_none();
    // Operators without a project mean all of them.
    let instead = (all || homeless).then(|| everything(verb)).flatten();
    let verb = instead.as_ref().unwrap_or(verb);
    let ids: Vec<String> = matches
        .try_get_many::<String>("ID")
        .ok()
        .flatten()
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let file = matches.try_get_one::<String>("file").ok().flatten();
    let starts = match file {
        Some(file) if verb.noun.name == "firewall" => vec![json!({ "rules": rules(file)? })],
        Some(file) => manifest::requests(verb, file)?,
        None => vec![json!({})],
    };
    if ids.is_empty()
        && file.is_none()
        && let Some(field) = verb.argument
        && !(field.name == "project" && session.default_project().is_some())
        && field.name != "login"
    {
        return Err(Error::usage(format!("`{}` needs to know which one", verb.words.join(" ")))
            .hint(format!("metalctl {} {}", verb.spelled(), field.name.to_uppercase())));
    }
    if verb.name() == "delete" && verb.noun.name != "token" {
        let yes = matches.get_flag("yes");
        confirm(&format!("delete {} {}?", verb.noun.name, ids.join(", ")), yes)?;
    }
    if let Some(seconds) = matches.try_get_one::<u64>("watch").ok().flatten() {
        return watch(session, verb, matches, &ids, *seconds).await;
    }
    let mut answers = Vec::new();
    let named: Vec<Option<&str>> =
        if ids.is_empty() { vec![None] } else { ids.iter().map(|id| Some(id.as_str())).collect() };
    for start in starts {
        for id in &named {
            let mut request = request::build(session, verb, matches, *id, start.clone()).await?;
            if let Some(file) = matches.try_get_one::<String>("firewall-rules-file").ok().flatten()
            {
                request["firewallSpec"] = json!({ "firewallRules": manifest::part(file, "metalstack.api.v2.FirewallRules")? });
            }
            let answer = match (call(session, verb, request, matches).await, everything(verb)) {
                // An operator who has a default project still means any machine by its id.
                (Err(error), Some(operators))
                    if error.kind == Kind::NotFound
                        && verb.method.name == "Get"
                        && !project_given =>
                {
                    let request =
                        request::build(session, &operators, matches, *id, start.clone()).await?;
                    let answer = session.call(operators.method, &request).await;
                    answer.map_err(
                        |second| if second.kind == Kind::Denied { error } else { second },
                    )?
                }
                (answer, _) => answer?,
            };
            answers.push(answer);
        }
    }
    if verb.noun.name == "machine" && verb.method.name == "Get" {
        for machine in answers.iter().filter_map(|answer| answer.get("machine")) {
            super::wait::outlook(session, machine).await;
        }
    }
    match text(session, verb, answers, matches)? {
        Some(text) => out(&text),
        None => {
            note("done");
            Ok(())
        }
    }
}

/// Rules from a file that holds nothing else, or a firewall as `rules describe -o yaml` shows it.
fn rules(file: &str) -> Result<Value> {
    manifest::part(file, "metalstack.api.v2.FirewallRules").or_else(|error| {
        let firewall = manifest::part(file, "metal.v1.Firewall");
        firewall.ok().and_then(|firewall| firewall.get("rules").cloned()).ok_or(error)
    })
}

/// Shows an answer whenever it differs from the one before: on a terminal in its place, else below it.
async fn watch(
    session: &Session,
    verb: &Verb,
    matches: &ArgMatches,
    ids: &[String],
    seconds: u64,
) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let mut before = None;
    loop {
        let request =
            request::build(session, verb, matches, ids.first().map(String::as_str), json!({}))
                .await?;
        let light = is_light(session, verb, matches);
        let answered = pages(session, verb.method, request, light).await;
        let text = match answered {
            Ok(answer) => text(session, verb, vec![answer], matches)?.unwrap_or_default(),
            // The next look may find the server again.
            Err(error) if error.kind == Kind::Away => format!("{error}\n"),
            Err(error) => return Err(error),
        };
        if before.as_ref() != Some(&text) {
            out(&if terminal { format!("\x1b[H\x1b[2J{text}") } else { text.clone() })?;
            before = Some(text);
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

async fn call(
    session: &Session,
    verb: &Verb,
    request: Value,
    matches: &ArgMatches,
) -> Result<Value> {
    let answer = pages(session, verb.method, request, is_light(session, verb, matches)).await?;
    let wait = matches.try_get_one::<bool>("wait").ok().flatten() == Some(&true);
    if !(wait && waits(verb)) {
        return Ok(answer);
    }
    let machine = answer.get("machine").cloned().unwrap_or_default();
    let uuid = machine.get("uuid").and_then(Value::as_str).unwrap_or_default().to_owned();
    note(&format!("machine {uuid}"));
    let goal = if verb.method.name == "Create" { "Phoned Home" } else { "Waiting" };
    let timeout = matches.get_one::<String>("wait-timeout").map_or("30m", String::as_str);
    let machine = super::wait::follow(session, &uuid, goal, timeout, verb.group).await?;
    Ok(json!({ "machine": machine }))
}

/// Whether a table of machines is wanted that shows nothing but the usual columns.
fn is_light(session: &Session, verb: &Verb, matches: &ArgMatches) -> bool {
    let table = matches!(
        session.format("table"),
        Ok(Format::Table | Format::Wide | Format::Markdown | Format::Name)
    );
    table
        && verb.noun.name == "machine"
        && verb.method.name == "List"
        && shape(matches).is_known(verb.noun.columns)
}

/// Calls a method and fetches the further pages of its answer, unless a page was asked for.
async fn pages(
    session: &Session,
    method: &Method,
    mut request: Value,
    light: bool,
) -> Result<Value> {
    if light {
        return session.call_light(method, &request).await;
    }
    let mut answer = session.call(method, &request).await?;
    let list = method.response().fields.first().map_or("", |field| field.json);
    let asked = request.pointer("/query/paging/page").is_some();
    while let Some(next) = answer.get("nextPage").cloned().filter(|_| !asked) {
        request["query"]["paging"]["page"] = next.clone();
        let mut more = session.call(method, &request).await?;
        if let (Some(all), Some(Value::Array(items))) =
            (answer[list].as_array_mut(), more.get_mut(list).map(Value::take))
        {
            all.extend(items);
        }
        match more.get("nextPage") {
            Some(after) if *after != next => answer["nextPage"] = after.clone(),
            _ => drop(answer.as_object_mut().map(|answer| answer.remove("nextPage"))),
        }
    }
    Ok(answer)
}

/// The answers as text; nothing when there is nothing to show of a change.
fn text(
    session: &Session,
    verb: &Verb,
    answers: Vec<Value>,
    matches: &ArgMatches,
) -> Result<Option<String>> {
    let empty =
        answers.iter().all(|answer| answer.as_object().is_none_or(|fields| fields.is_empty()));
    if empty && (!verb.only_reads() || verb.method.response().fields.is_empty()) {
        return Ok(None);
    }
    let usual = if verb.lists() { "table" } else { "yaml" };
    // The table has the phases; what comes next is for whoever looks on.
    for waiting in answers.iter().filter_map(|a| a.pointer("/progress/waitingFor")?.as_str()) {
        note(&format!("now: {waiting}"));
    }
    let mut answers: Vec<_> =
        answers.into_iter().map(|value| request::answer(verb, value)).collect();
    if answers.len() > 1 {
        let items = answers
            .iter()
            .filter_map(|answer| match &answer.content {
                Content::One(item) => Some(item.clone()),
                Content::Many(_) => None,
            })
            .collect();
        answers.truncate(1);
        answers[0].content = Content::Many(items);
    }
    let format = session.format(usual)?;
    let shape = shape(matches);
    let mut text = String::new();
    for answer in answers {
        text.push_str(&answer.write(&format, &shape, session.now())?);
    }
    if text.is_empty() && verb.lists() && matches!(format, Format::Table | Format::Wide) {
        note("there is nothing to show");
    }
    Ok(Some(text))
}

/// How the command is typed, for its help.
fn examples(verb: &Verb) -> String {
    let words = verb.spelled();
    let mut lines = Vec::new();
    match (verb.noun.name, verb.method.name) {
        ("machine", "Create") => {
            lines.push(format!(
                "metalctl {words} --hostname web01 --partition lab --size n1-medium --image debian-12 --networks my-net --networks internet -i @~/.ssh/id_ed25519.pub --wait"
            ));
            lines.push(format!(
                "metalctl {words} --allocation-type firewall --hostname fw --image firewall-ubuntu-3.0 --networks my-net,internet …"
            ));
        }
        ("image", "Create") => lines.push(format!(
            "metalctl {words} --id debian-12.0.20261121 --url https://images.example/debian-12.tar.zst --features machine --classification supported"
        )),
        ("size", "Create") => lines.push(format!(
            "metalctl {words} --id n1-medium --constraints type=cores,min=4,max=8 --constraints type=memory,min=8GiB,max=64GiB"
        )),
        ("token", "Create") => lines.push(format!(
            "metalctl {words} --description ci --expires 8h --project-roles PROJECT=editor -o jsonpath={{.secret}}"
        )),
        ("firewall", "Update") => {
            lines.push(format!("metalctl {words} UUID -f rules.yaml"));
            lines.push(format!("metalctl {words} UUID --rules-egress protocol=tcp,ports=443,to=0.0.0.0/0"));
        }
        ("firewall", "Status") => lines.push(format!("metalctl {words} UUID --watch")),
        (_, "List") => {
            lines.push(format!("metalctl {words} -o wide --sort-by id"));
            lines.push(format!("metalctl {words} -o jsonpath='{{.items[*].{}}}'", verb.noun.id));
        }
        (_, "Get") if verb.argument.is_some() => {
            lines.push(format!("metalctl {words} {}", verb.noun.id.to_uppercase()));
        }
        (_, "Create") => lines.push(format!("metalctl {words} -f {}.yaml", verb.noun.name)),
        (_, "Update") => lines.push(format!(
            "metalctl {words} {} --description \"new text\"",
            verb.noun.id.to_uppercase()
        )),
        _ => {
            let argument = verb.argument.map_or(String::new(), |field| format!(" {}", field.name.to_uppercase()));
            lines.push(format!("metalctl {words}{argument}"));
        }
    }
    format!("Examples:\n  {}", lines.join("\n  "))
}
