//! `apply` and `diff`: make the cloud as the files say.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use crate::app::{flag, flag_without_value, verb};
use crate::column::{Column, Form};
use crate::difference;
use crate::error::{Error, Kind, Result};
use crate::manifest;
use crate::noun::Noun;
use crate::output::{Answer, Content, Shape};
use crate::plan::{self, Action, Step};
use crate::session::{Session, confirm, note, out};
use crate::verb as verbs;
use crate::yaml;

const COLUMNS: &[Column] = &[
    Column { title: "KIND", wide: false, path: "kind", form: Form::Plain },
    Column { title: "NAME", wide: false, path: "name", form: Form::Plain },
    Column { title: "RESULT", wide: false, path: "result", form: Form::Plain },
    Column { title: "TOOK", wide: true, path: "took", form: Form::Plain },
    Column { title: "ERROR", wide: false, path: "error", form: Form::Plain },
];

fn file() -> Arg {
    flag("file", "FILE", "YAML or JSON, one or many documents; - is standard input")
        .short('f')
        .required(true)
        .action(ArgAction::Append)
}

pub(crate) fn command(_: &str) -> Command {
    verb("apply", "Create or change things as files say")
        .long_about(
            "Create or change things as files say. Each document names its kind (`kind: image`) and holds the fields \
             that `describe -o manifest` shows or that `create` takes; what a document does not mention stays as it is. \
             A thing is found by its id, else by its name. Documents are applied in the order in which they need each \
             other; after an error the others are still tried.",
        )
        .arg(file())
        .arg(flag_without_value("dry-run", "Only say what would be done"))
        .arg(flag_without_value("prune", "Also delete things of these kinds that have the labels of --selector and are in no file"))
        .arg(flag("selector", "KEY=VALUE", "Labels of what belongs to the files").short('l').value_delimiter(',').action(ArgAction::Append))
        .arg(flag_without_value("yes", "Do not ask before deleting").short('y'))
        .after_help("Examples:\n  metalctl apply -f lab.yaml\n  metalctl image describe debian-12 -o manifest | metalctl apply -f -\n  metalctl apply -f all.yaml --prune -l owner=ops --dry-run")
}

pub(crate) fn diff_command(_: &str) -> Command {
    verb("diff", "Show what apply would change")
        .long_about("Show what `apply` would change. Exit code 8 when there are differences, 0 when there are none.")
        .arg(file())
        .after_help("Examples:\n  metalctl diff -f lab.yaml")
}

pub(crate) async fn run(session: &Session, matches: &ArgMatches) -> Result<()> {
    let steps = steps(session, matches, noun_of(matches)).await?;
    let dry = matches.get_flag("dry-run");
    let mut steps: Vec<_> = steps;
    if matches.get_flag("prune") {
        let extra = surplus(session, matches, &steps).await?;
        if !dry && !extra.is_empty() {
            let names: Vec<_> =
                extra.iter().map(|step| format!("{} {}", step.noun.name, step.name)).collect();
            confirm(&format!("delete {}?", names.join(", ")), matches.get_flag("yes"))?;
        }
        steps.extend(extra.into_iter().map(Ok));
    }
    let mut rows = Vec::new();
    let mut failed: Option<Error> = None;
    for step in steps {
        let begun = std::time::Instant::now();
        let (kind, name, done) = match step {
            Ok(step) if dry => (step.noun.name, step.name.clone(), Ok(step.action.future())),
            Ok(step) => {
                let done = plan::execute(session, &step).await.map(|_| step.action.past());
                (step.noun.name, step.name.clone(), done)
            }
            Err((noun, name, error)) => (noun.name, name, Err(error)),
        };
        let took = format!("{} ms", begun.elapsed().as_millis());
        rows.push(match done {
            Ok(result) => json!({ "kind": kind, "name": name, "result": result, "took": took }),
            Err(error) => {
                let row = json!({ "kind": kind, "name": name, "result": "failed", "error": error.sentence, "took": took });
                // Nothing else can succeed either.
                if matches!(error.kind, Kind::Away) {
                    return Err(error);
                }
                failed.get_or_insert(error);
                row
            }
        });
    }
    let answer = Answer {
        content: Content::Many(rows),
        message: None,
        columns: COLUMNS,
        id: "name",
        noun: "",
    };
    session.show(answer, "table", &Shape::default())?;
    failed.map_or(Ok(()), Err)
}

pub(crate) async fn diff(session: &Session, matches: &ArgMatches) -> Result<()> {
    let mut differs = false;
    for step in steps(session, matches, noun_of(matches)).await? {
        let step = step.map_err(|(.., error)| error)?;
        if step.action == Action::Keep {
            continue;
        }
        differs = true;
        let message = crate::contract::Message::find(step.noun.message);
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            value => yaml::write(value, message),
        };
        let text = difference::lines(&text(&step.before), &text(&step.after));
        out(&format!("{} {} ({}):\n{text}", step.noun.name, step.name, step.action.future()))?;
    }
    match differs {
        true => {
            Err(Error::new(Kind::Differs, "there are differences").hint("`apply` makes them true"))
        }
        false => {
            note("no differences");
            Ok(())
        }
    }
}

/// `metalctl image apply` takes documents without a kind.
fn noun_of(matches: &ArgMatches) -> Option<&'static Noun> {
    matches.try_get_one::<String>("noun").ok().flatten().and_then(|noun| Noun::find(noun))
}

type Planned = std::result::Result<Step, (&'static Noun, String, Error)>;

async fn steps(
    session: &Session,
    matches: &ArgMatches,
    noun: Option<&'static Noun>,
) -> Result<Vec<Planned>> {
    let mut steps = Vec::new();
    let mut all = Vec::new();
    for file in matches.get_many::<String>("file").into_iter().flatten() {
        all.extend(plan::sorted(file, manifest::read(file)?, noun)?);
    }
    for (noun, document) in all {
        let thing = document.node.value();
        let name = ["id", "ip", "name", "hostname", "uuid"]
            .iter()
            .find_map(|key| thing.get(*key)?.as_str());
        let name = name.unwrap_or("?").to_owned();
        steps.push(match plan::step(session, noun, &thing).await {
            Err(error) if error.kind == Kind::Away => return Err(error),
            step => step.map_err(|error| (noun, name, error)),
        });
    }
    Ok(steps)
}

/// What has the labels and is in no file.
async fn surplus(session: &Session, matches: &ArgMatches, steps: &[Planned]) -> Result<Vec<Step>> {
    let selectors: Vec<String> =
        matches.get_many::<String>("selector").into_iter().flatten().cloned().collect();
    if selectors.is_empty() {
        return Err(Error::usage(
            "--prune needs --selector, so that it cannot delete what belongs to others",
        )
        .hint("for instance --prune -l owner=ops"));
    }
    let mut nouns: Vec<&'static Noun> = Vec::new();
    let mut known = Vec::new();
    for step in steps {
        let (noun, name) = match step {
            Ok(step) => (step.noun, &step.name),
            Err((noun, name, _)) => (*noun, name),
        };
        known.push((noun.name, name.as_str()));
        if !nouns.iter().any(|known| known.name == noun.name) {
            nouns.push(noun);
        }
    }
    let mut extra = Vec::new();
    for noun in nouns.into_iter().rev() {
        let Some(list) = verbs::find(noun, "List", verbs::Group::User) else { continue };
        let request = crate::request::complete(session, &list, json!({})).await?;
        let answer = session.call(list.method, &request).await?;
        let Content::Many(mut items) = crate::request::answer(&list, answer).content else {
            continue;
        };
        let shape = Shape { selectors: selectors.clone(), ..Shape::default() };
        shape.apply(&mut items, noun.columns, session.now())?;
        for item in items {
            let named = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
            let in_files = known.iter().any(|(kind, name)| {
                *kind == noun.name && (*name == named(noun.id) || *name == named("name"))
            });
            if !in_files {
                extra.push(plan::removal(session, noun, &item).await?);
            }
        }
    }
    Ok(extra)
}
