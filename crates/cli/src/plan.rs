//! From files to calls: what has to be made, changed or left alone, decided before anything is done.

use serde_json::{Map, Value, json};

use crate::contract::Field;
use crate::error::{Error, Kind, Result, nearest};
use crate::manifest::{self, Document, Problem};
use crate::noun::{NOUNS, Noun};
use crate::request;
use crate::session::Session;
use crate::verb::{self, Group, Verb};

/// What happens to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Keep,
    Delete,
}

/// One thing of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) noun: &'static Noun,
    pub(crate) action: Action,
    /// What names it for people.
    pub(crate) name: String,
    /// What the server has, as far as the file speaks of it.
    pub(crate) before: Value,
    /// What the file says.
    pub(crate) after: Value,
    /// The call, unless it is kept.
    pub(crate) call: Option<(Verb, Value)>,
}

impl Action {
    /// What was done.
    pub(crate) fn past(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
            Self::Keep => "unchanged",
            Self::Delete => "deleted",
        }
    }

    /// What would be done.
    pub(crate) fn future(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Keep => "unchanged",
            Self::Delete => "delete",
        }
    }
}

/// What must exist before what.
const ORDER: [&str; 11] = [
    "tenant",
    "project",
    "partition",
    "size",
    "image",
    "filesystem",
    "size-image-constraint",
    "size-reservation",
    "network",
    "ip",
    "machine",
];

/// The nouns of the documents, in the order in which they have to be made; all errors of the file at once.
pub(crate) fn sorted(
    file: &str,
    documents: Vec<Document>,
    noun: Option<&'static Noun>,
) -> Result<Vec<(&'static Noun, Document)>> {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for document in documents {
        let line = document.node.line;
        let kind = document.kind.clone();
        let noun = match (&kind, noun) {
            (Some(kind), wanted) => {
                let known = Noun::find(&kind.to_lowercase()).or_else(|| {
                    NOUNS.iter().find(|noun| noun.message.rsplit('.').next() == Some(kind))
                });
                match (known, wanted) {
                    (Some(noun), Some(wanted)) if noun.name != wanted.name => {
                        let text = format!("this is a {kind}, not a {}", wanted.name);
                        problems.push(Problem { line, text });
                        continue;
                    }
                    (Some(noun), _) if ORDER.contains(&noun.name) => noun,
                    _ => {
                        let near = nearest(kind, ORDER).unwrap_or("image");
                        let text =
                            format!("the kind {kind} cannot be applied; did you mean {near}?");
                        problems.push(Problem { line, text });
                        continue;
                    }
                }
            }
            (None, Some(noun)) => noun,
            (None, None) => {
                let text = format!(
                    "the kind is missing, for instance `kind: image`; there are {}",
                    ORDER.join(", ")
                );
                problems.push(Problem { line, text });
                continue;
            }
        };
        let create = verb_for(noun, "Create", &document.node.value())?;
        manifest::check_for(&create, &document.node, &mut problems);
        found.push((noun, document));
    }
    if !problems.is_empty() {
        return Err(manifest::wrong(file, &problems));
    }
    found.sort_by_key(|(noun, _)| ORDER.iter().position(|name| *name == noun.name));
    Ok(found)
}

/// What to do for one document.
pub(crate) async fn step(session: &Session, noun: &'static Noun, thing: &Value) -> Result<Step> {
    let create = verb_for(noun, "Create", thing)?;
    let wanted = normal(&create, thing);
    let Some(current) = find(session, noun, thing).await? else {
        let request = manifest::request_from(&create, thing);
        let request = request::complete(session, &create, request).await?;
        let name = name(noun, thing);
        return Ok(Step {
            noun,
            action: Action::Create,
            name,
            before: Value::Null,
            after: wanted,
            call: Some((create, request)),
        });
    };
    let have = normal(&create, &current);
    let changed = changed(&wanted, &have);
    let before = restricted(&have, &wanted);
    let name = name(noun, &current);
    if changed.is_empty() {
        return Ok(Step { noun, action: Action::Keep, name, before, after: wanted, call: None });
    }
    let update = verb_for(noun, "Update", &only(&wanted, &changed))?;
    let fixed: Vec<&str> = changed
        .iter()
        .filter(|key| update.method.request().field(key).is_none())
        .map(String::as_str)
        .collect();
    if !fixed.is_empty() {
        return Err(Error::new(
            Kind::Conflict,
            format!("{} of {} {name} cannot be changed", fixed.join(", "), noun.name),
        )
        .hint("take it out of the file, or delete the thing and make a new one"));
    }
    let request = update_request(&update, &current, thing, &wanted, &changed);
    let request = request::complete(session, &update, request).await?;
    Ok(Step {
        noun,
        action: Action::Update,
        name,
        before,
        after: wanted,
        call: Some((update, request)),
    })
}

fn only(value: &Value, keys: &[String]) -> Value {
    keys.iter().map(|key| (key.clone(), value[key].clone())).collect::<Map<_, _>>().into()
}

/// The request that changes these fields of what was found.
fn update_request(
    update: &Verb,
    current: &Value,
    thing: &Value,
    wanted: &Value,
    changed: &[String],
) -> Value {
    // Everything that names the thing comes from what was found, with the version that was seen.
    let full = manifest::request(update, current);
    let mut request = json!({});
    for field in update.method.request().fields {
        let names_it = !field.optional
            && !field.repeated
            && field.message().is_none()
            && field.choice().is_none();
        let value = if changed.contains(&field.json.to_owned()) {
            let value = wanted[field.json].clone();
            let replaces = field.message().is_some_and(|message| message.short() == "UpdateLabels");
            Some(if replaces { json!({ "replace": value }) } else { value })
        } else if names_it || field.name == "update_meta" {
            full.get(field.json).cloned()
        } else {
            None
        };
        if let Some(value) = value {
            request[field.json] = value;
        }
    }
    // A version in the file is what its writer saw.
    if let Some(seen) = thing.pointer("/meta/updatedAt") {
        request["updateMeta"] =
            json!({ "updatedAt": seen, "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_CLIENT" });
    }
    request
}

/// Makes a step true.
pub(crate) async fn execute(session: &Session, step: &Step) -> Result<Value> {
    match &step.call {
        Some((verb, request)) => session.call(verb.method, request).await,
        None => Ok(Value::Null),
    }
}

/// The step that deletes a thing.
pub(crate) async fn removal(session: &Session, noun: &'static Noun, thing: &Value) -> Result<Step> {
    let delete = verb_for(noun, "Delete", thing)?;
    let request = request::complete(session, &delete, manifest::request(&delete, thing)).await?;
    let before = manifest::request(&delete, thing);
    Ok(Step {
        noun,
        action: Action::Delete,
        name: name(noun, thing),
        before,
        after: Value::Null,
        call: Some((delete, request)),
    })
}

/// The user's verb where it can do what is asked, else the operator's.
pub(crate) fn verb_for(noun: &'static Noun, method: &str, thing: &Value) -> Result<Verb> {
    let user = verb::VERBS
        .iter()
        .find(|v| v.noun.name == noun.name && v.method.name == method && v.group == Group::User);
    let operator = verb::VERBS
        .iter()
        .find(|v| v.noun.name == noun.name && v.method.name == method && v.group == Group::Admin);
    let users = |verb: &Verb| {
        if noun.name == "network" && method == "Create" {
            let kind = thing.get("type").and_then(Value::as_str).unwrap_or_default();
            return kind.is_empty() || crate::contract::short(kind).starts_with("child");
        }
        noun.name != "network"
            || method == "Delete" && thing.get("project").is_some()
            || thing.as_object().is_some_and(|fields| {
                method == "Update"
                    && fields.keys().all(|key| verb.method.request().field(key).is_some())
            })
    };
    let found = match (user, operator) {
        (Some(user), None) => Some(user),
        (Some(user), Some(_)) if users(user) => Some(user),
        (_, operator) => operator,
    };
    found
        .cloned()
        .ok_or_else(|| Error::usage(format!("a {} has no `{}`", noun.name, method.to_lowercase())))
}

/// A thing in the form of what is asked when it is made, so that file and server compare.
fn normal(create: &Verb, thing: &Value) -> Value {
    let request = manifest::request_from(create, thing);
    let wrapper = create.method.request().fields.iter().find(|field| is_wrapper(create, field));
    let mut value = match wrapper {
        Some(field) => request[field.json].clone(),
        None => request,
    };
    if let Some(fields) = value.as_object_mut() {
        if let Some(labels) = fields.remove("meta").and_then(|meta| meta.get("labels").cloned()) {
            fields.insert("labels".to_owned(), labels);
        }
        fields.remove("updateMeta");
        fields.retain(|_, value| !is_empty(value));
    }
    value
}

fn is_wrapper(verb: &Verb, field: &Field) -> bool {
    field.message().is_some_and(|message| message.name == verb.noun.message)
}

/// Fields of `wanted` that `have` does not hold.
fn changed(wanted: &Value, have: &Value) -> Vec<String> {
    let Some(fields) = wanted.as_object() else { return Vec::new() };
    fields
        .iter()
        .filter(|(key, value)| match key.as_str() {
            // Labels are replaced as a whole.
            "labels" => have.get(key.as_str()).unwrap_or(&Value::Null) != *value,
            key => !covers(have.get(key).unwrap_or(&Value::Null), value),
        })
        .map(|(key, _)| key.clone())
        .collect()
}

/// Whether `have` holds everything that `wanted` says; what is absent is empty.
fn covers(have: &Value, wanted: &Value) -> bool {
    match (have, wanted) {
        (_, wanted) if is_empty(wanted) => is_empty(have),
        (Value::Object(have), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| covers(have.get(key).unwrap_or(&Value::Null), value))
        }
        (Value::Array(have), Value::Array(wanted)) => {
            have.len() == wanted.len() && have.iter().zip(wanted).all(|(h, w)| covers(h, w))
        }
        // Long numbers are text in answers and may be numbers in files.
        (have, wanted) => {
            have == wanted || crate::column::plain(have) == crate::column::plain(wanted)
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// The part of `have` that `wanted` speaks of.
fn restricted(have: &Value, wanted: &Value) -> Value {
    match (have, wanted) {
        (Value::Object(have), Value::Object(wanted)) => wanted
            .iter()
            .filter_map(|(key, value)| {
                let inner = have.get(key)?;
                let inner = if key == "labels" { inner.clone() } else { restricted(inner, value) };
                Some((key.clone(), inner))
            })
            .collect::<Map<_, _>>()
            .into(),
        (Value::Array(have), Value::Array(wanted)) if have.len() == wanted.len() => {
            have.iter().zip(wanted).map(|(h, w)| restricted(h, w)).collect()
        }
        (have, _) => have.clone(),
    }
}

fn name(noun: &Noun, thing: &Value) -> String {
    let text = |key: &str| thing.get(key).and_then(Value::as_str);
    // An id that nobody remembers is the last resort.
    text(noun.id)
        .filter(|id| !crate::session::is_uuid(id))
        .or_else(|| ["name", "hostname", "id", noun.id].into_iter().find_map(text))
        .unwrap_or("?")
        .to_owned()
}

/// The thing that a document is about: by its id, else by its name.
pub(crate) async fn find(
    session: &Session,
    noun: &'static Noun,
    thing: &Value,
) -> Result<Option<Value>> {
    if let Some(id) = thing.get(noun.id).and_then(Value::as_str) {
        return get(session, noun, id, thing).await;
    }
    let wanted = |key: &str| thing.get(key).and_then(Value::as_str).map(str::to_owned);
    let Some(name) = wanted("name").or_else(|| wanted("hostname")) else { return Ok(None) };
    let list = verb::find(noun, "List", group_of(noun, thing))
        .ok_or_else(|| Error::usage(format!("a {} needs its {}", noun.name, noun.id)))?;
    let mut request = json!({});
    if let Some(project) = wanted("project") {
        request["project"] = json!(project);
    }
    if list.group == Group::User && list.method.request().field("project").is_none() {
        request = json!({});
    }
    let request = request::complete(session, &list, request).await?;
    let answer = session.call(list.method, &request).await?;
    let field = list.method.response().fields[0].json;
    let items = answer.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found = items.into_iter().filter(|item| {
        let item_name = item.get("name").or_else(|| item.pointer("/allocation/name"));
        let partition = item.get("partition").map(|p| p.get("id").unwrap_or(p).clone());
        item_name.and_then(Value::as_str) == Some(&name)
            && wanted("partition").is_none_or(|wanted| partition == Some(json!(wanted)))
            && wanted("tenant").is_none_or(|wanted| item.get("tenant") == Some(&json!(wanted)))
    });
    let first = found.next();
    if first.is_some() && found.next().is_some() {
        return Err(Error::new(
            Kind::Conflict,
            format!("several of {} are called {name}", noun.name),
        )
        .hint(format!("put the {} of the one you mean into the file", noun.id)));
    }
    Ok(first)
}

fn group_of(noun: &Noun, thing: &Value) -> Group {
    match noun.name {
        "network" if thing.get("project").is_none() => Group::Admin,
        _ => Group::User,
    }
}

/// A thing by its id; nothing when there is none.
pub(crate) async fn get(
    session: &Session,
    noun: &'static Noun,
    id: &str,
    thing: &Value,
) -> Result<Option<Value>> {
    let group = group_of(noun, thing);
    let Some(get) = verb::find(noun, "Get", group) else { return Ok(None) };
    let mut request = json!({});
    if let Some(field) = get.argument {
        request[field.json] = json!(id);
    }
    if let (Some(project), Some(_)) = (thing.get("project"), get.method.request().field("project"))
        && get.noun.name != "project"
    {
        request["project"] = project.clone();
    }
    let request = request::complete(session, &get, request).await?;
    let field = get.method.response().fields[0].json;
    match session.call(get.method, &request).await {
        Ok(answer) => Ok(answer.get(field).cloned()),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs() {
        let have =
            json!({"a": "1", "list": [{"x": 1, "y": 2}], "labels": {"labels": {"k": "v"}}, "z": 0});
        let check = |wanted: Value, expected: &[&str]| {
            assert_eq!(changed(&wanted, &have), expected, "{wanted}");
        };
        check(json!({"a": 1, "list": [{"x": 1}]}), &[]);
        check(json!({"a": "2", "z": false, "missing": ""}), &["a"]);
        check(json!({"list": []}), &["list"]);
        check(json!({"labels": {"labels": {}}}), &["labels"]);
        assert_eq!(restricted(&have, &json!({"list": [{"y": 3}]})), json!({"list": [{"y": 2}]}));
    }

    #[test]
    fn an_image_changes_by_its_seen_version() {
        let noun = Noun::find("image").unwrap();
        let current = json!({"id": "a", "url": "http://x", "classification": "IMAGE_CLASSIFICATION_PREVIEW", "meta": {"updatedAt": "t1"}});
        let thing = json!({"id": "a", "classification": "supported", "meta": {"labels": {"labels": {"k": "v"}}}});
        let create = verb_for(noun, "Create", &thing).unwrap();
        let (wanted, have) = (normal(&create, &thing), normal(&create, &current));
        let changed = changed(&wanted, &have);
        assert_eq!(changed, ["classification", "labels"]);
        let update = verb_for(noun, "Update", &wanted).unwrap();
        assert_eq!(
            update_request(&update, &current, &thing, &wanted, &changed),
            json!({
                "id": "a",
                "classification": "IMAGE_CLASSIFICATION_SUPPORTED",
                "labels": {"replace": {"labels": {"k": "v"}}},
                "updateMeta": {"updatedAt": "t1", "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_CLIENT"},
            })
        );
    }

    #[test]
    fn users_make_child_networks_and_operators_the_others() {
        let noun = Noun::find("network").unwrap();
        let group = |method: &str, thing: Value| verb_for(noun, method, &thing).unwrap().group;
        assert_eq!(group("Create", json!({"name": "a", "project": "p"})), Group::User);
        assert_eq!(group("Create", json!({"id": "internet", "type": "external"})), Group::Admin);
        assert_eq!(group("Update", json!({"description": "d"})), Group::User);
        assert_eq!(group("Update", json!({"prefixes": []})), Group::Admin);
    }
}
