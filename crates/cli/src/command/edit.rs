//! `NOUN edit ID`: change a thing in an editor.

use std::process::Command as Process;

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use crate::app::{flag, position, verb};
use crate::contract::Message;
use crate::document;
use crate::error::{Error, Kind, Result};
use crate::manifest;
use crate::noun::Noun;
use crate::output;
use crate::plan::{self, Action};
use crate::session::{Session, note};
use crate::yaml;

pub(crate) fn command(_: &str) -> Command {
    verb("edit", "Change one thing in your editor")
        .long_about("Change one thing in your editor ($VISUAL, $EDITOR or vi). Nothing is sent when nothing changed; when somebody else changed it meanwhile the change is refused and your text is kept.")
        .arg(position("NOUN", "Kind of thing").required(true))
        .arg(position("ID", "Which one").required(true))
        .arg(flag("project", "PROJECT", "Project, by id or name").short('p'))
        .after_help("Examples:\n  metalctl edit image debian-12\n  EDITOR=nano metalctl edit network my-net -p my-project")
}

pub(crate) async fn run(session: &Session, matches: &ArgMatches) -> Result<()> {
    let word = matches.get_one::<String>("NOUN").cloned().unwrap_or_default();
    let noun =
        Noun::find(&word).ok_or_else(|| Error::usage(format!("there is no kind '{word}'")))?;
    let id = matches.get_one::<String>("ID").cloned().unwrap_or_default();
    let mut about = json!({});
    if let Some(project) = matches.get_one::<String>("project") {
        about["project"] = json!(session.project_id(project).await?);
    }
    let thing = plan::get(session, noun, &id, &about).await?.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no {} '{id}'", noun.name))
            .hint(format!("`metalctl {} list` shows what there is", noun.name))
    })?;
    let message = Message::find(noun.message);
    let before = yaml::write(&output::manifest(&thing), message);
    let after = edited(noun, &id, &before)?;
    let Some((path, after)) = after else {
        note("nothing changed");
        return Ok(());
    };
    let kept = |error: Error| error.hint(format!("your text is kept in {}", path.display()));
    let nodes = document::parse(&after).map_err(|e| kept(Error::usage(e)))?;
    let node = nodes.first().ok_or_else(|| kept(Error::usage("nothing is left in the file")))?;
    let mut problems = Vec::new();
    if let Some(message) = message {
        manifest::check(node, message, &mut problems);
    }
    if !problems.is_empty() {
        return Err(kept(manifest::wrong(&path.display().to_string(), &problems)));
    }
    // The version that was shown is the one that may be changed.
    let mut wanted = node.value();
    let seen = thing.pointer("/meta/updatedAt").cloned().unwrap_or(Value::Null);
    wanted["meta"]["updatedAt"] = seen;
    let step = plan::step(session, noun, &wanted).await.map_err(kept)?;
    if step.action == Action::Keep {
        note("nothing changed");
    } else {
        plan::execute(session, &step).await.map_err(kept)?;
        note(&format!("{} {} {}", noun.name, step.name, step.action.past()));
    }
    drop(std::fs::remove_file(&path));
    Ok(())
}

/// The changed text and where it is kept; nothing when it was not changed.
fn edited(noun: &Noun, id: &str, before: &str) -> Result<Option<(std::path::PathBuf, String)>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or("vi".into());
    let safe: String =
        id.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let name = format!("metalctl-{}-{safe}-{}.yaml", noun.name, std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    std::io::Write::write_all(&mut file, before.as_bytes())?;
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Process::new(program).args(words).arg(&path).status().map_err(|e| {
        Error::failed(format!("the editor {program} cannot be started: {e}")).hint("set EDITOR")
    })?;
    let after = std::fs::read_to_string(&path)?;
    if !status.success() || after == before {
        drop(std::fs::remove_file(&path));
        return match status.success() {
            true => Ok(None),
            false => Err(Error::failed(format!("{program} failed, nothing was changed"))),
        };
    }
    Ok(Some((path, after)))
}
