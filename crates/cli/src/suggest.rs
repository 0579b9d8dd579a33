//! What the server has: for completion, for names instead of ids, for the nearest of an id that does not exist.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Kind, nearest};
use crate::noun::Noun;
use crate::session::{Session, is_uuid};
use crate::verb::{self, Group};

/// How long a human waits for a better word.
const PATIENCE: Duration = Duration::from_millis(1500);

/// All things of a kind that the caller may see; nothing when the server cannot be asked.
pub(crate) async fn known(
    session: &Session,
    noun: &Noun,
    project: Option<&str>,
    admin: bool,
) -> Vec<Value> {
    let project = project.or(session.default_project());
    let first = if admin || project.is_none() { Group::Admin } else { Group::User };
    for group in [first, Group::User, Group::Admin] {
        let Some(list) = verb::find(noun, "List", group) else { continue };
        let mut request = json!({});
        if let (Some(project), Some(_)) = (project, list.method.request().field("project")) {
            let Ok(project) = session.project_id(project).await else { continue };
            request["project"] = json!(project);
        }
        let answer = match noun.name {
            "machine" => session.call_light(list.method, &request).await,
            _ => session.call(list.method, &request).await,
        };
        let Ok(mut answer) = answer else { continue };
        let field = list.method.response().fields[0].json;
        if let Some(Value::Array(items)) = answer.get_mut(field).map(Value::take)
            && !items.is_empty()
        {
            return items;
        }
    }
    Vec::new()
}

/// Names of networks become ids: people call their networks, the server numbers them.
pub(crate) async fn networks(session: &Session, places: Vec<&mut Value>) -> Result<(), Error> {
    let (mut projects, mut named) = (None, Vec::new());
    for place in places {
        if place.as_str().is_some_and(|text| !text.is_empty() && !is_uuid(text)) {
            named.push(place);
        }
    }
    for place in named {
        let Some(noun) = Noun::find("network") else { return Ok(()) };
        if projects.is_none() {
            projects = Some(known(session, noun, None, false).await);
        }
        let all = projects.as_deref().unwrap_or_default();
        let name = place.as_str().unwrap_or_default().to_owned();
        let of = |field: &str| all.iter().filter(|n| n[field] == json!(name)).collect::<Vec<_>>();
        // Networks of the provider have ids that people chose.
        if !of("id").is_empty() {
            continue;
        }
        match of("name")[..] {
            [] => {}
            [one] => *place = one["id"].clone(),
            _ => {
                return Err(Error::usage(format!("several networks are called '{name}'"))
                    .hint("give the id, `metalctl network list` shows it"));
            }
        }
    }
    Ok(())
}

/// An error about something that does not exist, with the nearest that does.
pub(crate) async fn improved(session: &Session, error: Error) -> Error {
    if !matches!(error.kind, Kind::NotFound | Kind::Conflict | Kind::Usage) {
        return error;
    }
    let Some((noun, id)) = missing(&error.sentence) else { return error };
    let Some(noun) = Noun::find(&noun.replace(' ', "-")) else { return error };
    let id = id.to_owned();
    let asked = known(session, noun, None, false);
    let things = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for thing in &things {
        let id = thing.get(noun.id).and_then(Value::as_str).unwrap_or_default();
        names.push(id);
        if noun.name == "network" {
            names.extend(thing.get("name").and_then(Value::as_str));
        }
        // `debian-12` means the newest `debian-12.…`.
        if noun.name == "image" {
            names.extend(id.match_indices('.').map(|(at, _)| &id[..at]));
        }
    }
    let hint = match nearest(&id, names.into_iter().filter(|name| !name.is_empty() && *name != id))
    {
        Some(near) => format!("did you mean '{near}'?"),
        // The hint names the list already, perhaps that of operators.
        None if error.hints.iter().any(|hint| hint.contains(&format!("{} list", noun.name))) => {
            return error;
        }
        None if verb::find(noun, "List", Group::User).is_some() => {
            format!("`metalctl {} list` shows what there is", noun.name)
        }
        None => return error,
    };
    Error { hints: vec![hint], ..error }
}

/// The kind and the id in `no image with id "x" found`.
fn missing(sentence: &str) -> Option<(&str, &str)> {
    let (before, rest) = sentence.split_once(" with id \"")?;
    let kind = before.strip_prefix("no ").or_else(|| Some(before.rsplit_once(" no ")?.1))?;
    let (id, rest) = rest.split_once('"')?;
    rest.trim_start().starts_with("found").then_some((kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing() {
        assert_eq!(missing("no image with id \"debain-12\" found"), Some(("image", "debain-12")));
        assert_eq!(
            missing("networks: no size reservation with id \"a b\" found: or so"),
            Some(("size reservation", "a b"))
        );
        assert_eq!(missing("the image is old"), None);
        assert_eq!(missing("no image with id \"x\" may be used"), None);
    }
}
