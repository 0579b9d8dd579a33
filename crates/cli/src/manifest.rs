//! Files that describe things: read, checked against the contract with line numbers, turned into requests.

use serde_json::{Value, json};

use crate::contract::{Field, Kind, Message};
use crate::document::{self, Content, Node};
use crate::error::{Error, Result, nearest};
use crate::verb::Verb;

/// A thing from a file.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// From its `kind`.
    pub(crate) kind: Option<String>,
    pub(crate) node: Node,
}

/// Reads the documents of a file; `-` is standard input.
pub(crate) fn read(file: &str) -> Result<Vec<Document>> {
    let text = match file {
        "-" => std::io::read_to_string(std::io::stdin())?,
        file => std::fs::read_to_string(file).map_err(|e| {
            Error::usage(format!("{file} cannot be read: {e}")).hint("-f - reads standard input")
        })?,
    };
    let nodes = document::parse(&text).map_err(|e| Error::usage(format!("{file}: {e}")))?;
    // A list is a file of several documents.
    let nodes: Vec<Node> = nodes
        .into_iter()
        .flat_map(|node| match node.content {
            Content::List(items) => items,
            _ => vec![node],
        })
        .collect();
    if nodes.is_empty() {
        return Err(Error::usage(format!("{file} is empty")));
    }
    Ok(nodes.into_iter().map(Document::new).collect())
}

/// The requests of a verb from a file.
pub(crate) fn requests(verb: &Verb, file: &str) -> Result<Vec<Value>> {
    let documents = read(file)?;
    let mut problems = Vec::new();
    let mut requests = Vec::new();
    for document in &documents {
        check_for(verb, &document.node, &mut problems);
        requests.push(request_from(verb, &document.node.value()));
    }
    match problems.is_empty() {
        true => Ok(requests),
        false => Err(wrong(file, &problems)),
    }
}

/// A part of a request from a file, checked like the whole.
pub(crate) fn part(file: &str, message: &str) -> Result<Value> {
    let message =
        Message::find(message).ok_or_else(|| Error::failed(format!("{message} is unknown")))?;
    let documents = read(file)?;
    let mut problems = Vec::new();
    check(&documents[0].node, message, &mut problems);
    match problems.is_empty() {
        true => Ok(short_enums(&documents[0].node.value(), Some(message))),
        false => Err(wrong(file, &problems)),
    }
}

/// The error that shows all problems of a file.
pub(crate) fn wrong(file: &str, problems: &[Problem]) -> Error {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("\n  {file}:{}: {}", problem.line, problem.text))
        .collect();
    let count = match problems.len() {
        1 => "an error".to_owned(),
        several => format!("{several} errors"),
    };
    Error::usage(format!("{file} has {count}:{}", lines.concat()))
        .hint("`metalctl explain NOUN` shows which fields there are")
}

/// Whether fields of the request are meant, rather than those of a thing as `describe -o yaml` shows it.
fn is_request<'a>(verb: &Verb, mut keys: impl Iterator<Item = &'a str> + Clone) -> bool {
    let Some(thing) = Message::find(verb.noun.message) else { return true };
    let request = verb.method.request();
    let misfits =
        |message: &Message| keys.clone().filter(|key| message.field(key).is_none()).count();
    let (of_request, of_thing) = (misfits(request), misfits(thing));
    // What fits both is taken for a thing, unless a thing is made from quite other fields.
    of_request < of_thing
        || of_request == of_thing
            && verb.noun.name == "machine"
            && keys.all(|key| key != "allocation")
}

/// Finds what does not fit what a verb takes from a file.
pub(crate) fn check_for(verb: &Verb, node: &Node, problems: &mut Vec<Problem>) {
    let is_request = match &node.content {
        Content::Map(entries) => is_request(verb, entries.iter().map(|(key, ..)| key.as_str())),
        _ => true,
    };
    let message = if is_request { None } else { Message::find(verb.noun.message) };
    check(node, message.unwrap_or(verb.method.request()), problems);
}

/// The request that a file's content means.
pub(crate) fn request_from(verb: &Verb, value: &Value) -> Value {
    let keys = value.as_object().into_iter().flat_map(|fields| fields.keys());
    if is_request(verb, keys.map(String::as_str).collect::<Vec<_>>().into_iter()) {
        short_enums(value, Some(verb.method.request()))
    } else {
        request(verb, value)
    }
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Document {
    fn new(mut node: Node) -> Self {
        let mut kind = None;
        if let Content::Map(entries) = &mut node.content
            && let Some(at) = entries.iter().position(|(key, ..)| key == "kind")
        {
            kind = entries.remove(at).2.value().as_str().map(str::to_owned);
        }
        Self { kind, node }
    }
}

/// Finds what does not fit a message.
pub(crate) fn check(node: &Node, message: &'static Message, problems: &mut Vec<Problem>) {
    let Content::Map(entries) = &node.content else {
        return problems.push(Problem {
            line: node.line,
            text: format!("here fields of {} are expected", message.short()),
        });
    };
    for (key, line, node) in entries {
        match message.field(key) {
            Some(field) => check_field(node, key, field, problems),
            None => {
                let names = message.fields.iter().map(|field| field.json);
                let near = nearest(key, names.clone())
                    .map(|near| format!("did you mean {near}?"))
                    .unwrap_or_else(|| {
                        format!("there are {}", names.collect::<Vec<_>>().join(", "))
                    });
                problems.push(Problem {
                    line: *line,
                    text: format!("{} has no field {key}; {near}", message.short()),
                });
            }
        }
    }
}

fn check_field(node: &Node, key: &str, field: &'static Field, problems: &mut Vec<Problem>) {
    let mut problem = |line: usize, text: String| problems.push(Problem { line, text });
    match &node.content {
        Content::Scalar(Value::Null) => {}
        Content::List(items) if field.repeated => {
            for item in items {
                check_value(item, key, field, problems);
            }
        }
        _ if field.repeated => problem(node.line, format!("{key} must be a list")),
        Content::Map(entries) if field.map => {
            for (.., value) in entries {
                check_value(value, key, field, problems);
            }
        }
        _ if field.map => problem(node.line, format!("{key} must be a map")),
        Content::List(_) => problem(node.line, format!("{key} must not be a list")),
        _ => check_value(node, key, field, problems),
    }
}

fn check_value(node: &Node, key: &str, field: &'static Field, problems: &mut Vec<Problem>) {
    let mut problem = |text: String| problems.push(Problem { line: node.line, text });
    if let Some(message) = field.message() {
        return check(node, message, problems);
    }
    let Content::Scalar(value) = &node.content else {
        return problem(format!("{key} must be a single value"));
    };
    let fits = match field.kind {
        Kind::Text | Kind::Bytes => value.is_string(),
        Kind::Bool => value.is_boolean(),
        Kind::Int => value.is_i64() || value.is_u64(),
        Kind::Long => {
            value.is_i64()
                || value.is_u64()
                || value.as_str().is_some_and(|t| t.parse::<i128>().is_ok())
        }
        Kind::Float => value.is_number(),
        Kind::Timestamp => {
            value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok())
        }
        Kind::Duration => value.as_str().is_some_and(|text| crate::duration::parse(text).is_some()),
        Kind::Enum(_) => {
            let choice = field.choice().expect("an enum");
            if value.as_str().is_some_and(|text| choice.value(text).is_some()) || value.is_i64() {
                return;
            }
            let known: Vec<_> =
                choice.values.iter().filter(|v| v.number != 0).map(|v| v.short).collect();
            return problem(format!("{key}: {value} is none of {}", known.join(", ")));
        }
        Kind::Message(_) => true,
    };
    if !fits {
        let wanted = match field.kind {
            Kind::Bool => "true or false",
            Kind::Int | Kind::Long => "a whole number",
            Kind::Float => "a number",
            Kind::Timestamp => "a time like 2026-01-31T12:00:00Z",
            Kind::Duration => "a duration like 90s",
            _ => "text, in quotes if it looks like a number",
        };
        problem(format!("{key}: {value} is not {wanted}"));
    }
}

/// The request of a verb that makes or changes a thing, from the thing as answers show it.
pub(crate) fn request(verb: &Verb, thing: &Value) -> Value {
    let message = verb.method.request();
    let mut request = json!({});
    for field in message.fields {
        let wrapped = field.message().is_some_and(|inner| inner.name == verb.noun.message);
        let labels =
            || ["/labels", "/meta/labels"].iter().find_map(|at| thing.pointer(at)).cloned();
        let value = match field.name {
            _ if wrapped => Some(short_enums(thing, field.message())),
            "update_meta" => Some(locking(thing)),
            "labels" if field.message().is_some_and(|m| m.short() == "UpdateLabels") => {
                labels().map(|labels| json!({ "replace": labels }))
            }
            "labels" => labels(),
            // What is called otherwise where a thing stands alone.
            "login" => get(thing, &["login", "tenant"]),
            "project" if verb.noun.name == "project" => get(thing, &["uuid", "project"]),
            _ => get(thing, &[field.json, field.name]),
        };
        let value = value.map(|value| match (&value, field.kind) {
            // A thing shows what it refers to, a request only names it.
            (Value::Object(inner), Kind::Text) => inner.get("id").cloned().unwrap_or(value),
            _ => value,
        });
        if let Some(value) = value.filter(|value| !value.is_null()) {
            request[field.json] = enums(value, field);
        }
    }
    if verb.noun.name == "machine" {
        of_machine(thing, message, &mut request);
    }
    request
}

fn get(thing: &Value, names: &[&str]) -> Option<Value> {
    names.iter().find_map(|name| thing.get(*name)).cloned()
}

/// Changes only the version that the file shows, or whatever there is.
fn locking(thing: &Value) -> Value {
    match thing.pointer("/meta/updatedAt") {
        Some(seen) => {
            json!({ "updatedAt": seen, "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_CLIENT" })
        }
        None => json!({ "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER" }),
    }
}

/// An allocated machine shows under `allocation` what was asked for.
fn of_machine(machine: &Value, message: &'static Message, request: &mut Value) {
    let Some(allocation) = machine.get("allocation") else { return };
    for field in message.fields.iter().filter(|field| field.name != "uuid") {
        let Some(value) = allocation.get(field.json) else { continue };
        let value = match (field.name, value) {
            ("networks", Value::Array(networks)) => networks
                .iter()
                .map(|n| json!({ "network": n["network"], "ips": n.get("ips").cloned().unwrap_or(json!([])) }))
                .collect(),
            (_, Value::Object(inner)) if field.kind == Kind::Text => inner.get("id").cloned().unwrap_or_default(),
            (_, value) => value.clone(),
        };
        request[field.json] = value;
    }
    let labels = allocation.pointer("/meta/labels").cloned();
    match (message.field("labels").and_then(Field::message).map(Message::short), labels) {
        (Some("UpdateLabels"), Some(labels)) => request["labels"] = json!({ "replace": labels }),
        (Some(_), Some(labels)) => request["labels"] = labels,
        _ => {}
    }
    if let (Some(rules), Some(_)) =
        (allocation.get("firewallRules"), message.field("firewall_spec"))
    {
        request["firewallSpec"] = json!({ "firewallRules": rules });
    }
    if message.field("allocation_type").is_some() {
        // A file that was written from one machine makes another one.
        drop(request.as_object_mut().map(|request| request.remove("uuid")));
    }
}

/// Short names of enum values become those of the wire.
fn enums(value: Value, field: &'static Field) -> Value {
    match (value, field.message(), field.choice()) {
        (Value::Array(items), ..) => {
            Value::Array(items.into_iter().map(|item| enums(item, field)).collect())
        }
        (Value::Object(entries), _, _) if field.map => Value::Object(
            entries.into_iter().map(|(key, value)| (key, one_enum(value, field))).collect(),
        ),
        (value @ Value::Object(_), Some(message), _) => short_enums(&value, Some(message)),
        (value, ..) => one_enum(value, field),
    }
}

fn one_enum(value: Value, field: &'static Field) -> Value {
    match (field.choice(), value.as_str()) {
        (Some(choice), Some(text)) => {
            choice.value(text).map_or(value.clone(), |known| json!(known.name))
        }
        // As answers write it.
        _ if field.kind == Kind::Long && value.is_number() => json!(value.to_string()),
        _ if field.kind == Kind::Duration => value
            .as_str()
            .and_then(crate::duration::parse)
            .map_or(value.clone(), |length| json!(format!("{}s", length.as_secs_f64()))),
        _ => value,
    }
}

/// The same for a whole message, with the names of JSON.
pub(crate) fn short_enums(value: &Value, message: Option<&'static Message>) -> Value {
    let (Value::Object(entries), Some(message)) = (value, message) else { return value.clone() };
    Value::Object(
        entries
            .iter()
            .map(|(key, value)| match message.field(key) {
                Some(field) => (field.json.to_owned(), enums(value.clone(), field)),
                None => (key.clone(), value.clone()),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::verb::VERBS;

    fn verb(words: &str) -> &'static Verb {
        VERBS.iter().find(|verb| verb.spelled() == words).expect(words)
    }

    #[test]
    fn all_errors_with_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.yaml");
        std::fs::write(
            &path,
            "id: debian-12\nurll: https://x\nfeatures:\n- machine\n- router\nclassification: suported\nname: 12\n",
        )
        .unwrap();
        let error = requests(verb("admin image create"), path.to_str().unwrap()).unwrap_err();
        let text = error.sentence.replace(path.to_str().unwrap(), "image.yaml");
        expect![[r#"
            image.yaml has 4 errors:
              image.yaml:2: Image has no field urll; did you mean url?
              image.yaml:5: features: "router" is none of machine, firewall
              image.yaml:6: classification: "suported" is none of preview, supported, deprecated
              image.yaml:7: name: 12 is not text, in quotes if it looks like a number"#]]
        .assert_eq(&text);
    }

    #[test]
    fn things_become_requests() {
        let image = json!({"id": "a", "classification": "preview", "meta": {"updatedAt": "t", "labels": {"labels": {"x": "y"}}}});
        assert_eq!(
            request(verb("admin image create"), &image),
            json!({"image": {"id": "a", "classification": "IMAGE_CLASSIFICATION_PREVIEW", "meta": {"updatedAt": "t", "labels": {"labels": {"x": "y"}}}}})
        );
        assert_eq!(
            request(verb("admin image update"), &image),
            json!({
                "id": "a",
                "updateMeta": {"updatedAt": "t", "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_CLIENT"},
                "classification": "IMAGE_CLASSIFICATION_PREVIEW",
                "labels": {"replace": {"labels": {"x": "y"}}},
            })
        );
        let project = json!({"uuid": "u", "tenant": "t", "name": "n"});
        assert_eq!(request(verb("project create"), &project), json!({"login": "t", "name": "n"}));
        assert_eq!(request(verb("project update"), &project)["project"], json!("u"));
    }

    #[test]
    fn long_numbers_are_written_as_answers_write_them() {
        let size = json!({"id": "a", "constraints": [{"type": "cores", "min": 1, "max": "4"}]});
        assert_eq!(
            request(verb("admin size create"), &size)["size"]["constraints"][0],
            json!({"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "1", "max": "4"})
        );
    }

    #[test]
    fn a_machine_becomes_an_allocation_like_it() {
        let machine = json!({
            "uuid": "u",
            "partition": {"id": "p"},
            "size": {"id": "s"},
            "allocation": {
                "uuid": "other", "name": "n", "hostname": "h", "project": "pr",
                "image": {"id": "i"},
                "networks": [{"network": "net", "ips": ["1.1.1.1"], "vrf": "7"}],
                "allocationType": "MACHINE_ALLOCATION_TYPE_FIREWALL",
                "firewallRules": {"egress": []},
                "meta": {"labels": {"labels": {"a": "b"}}},
            },
        });
        assert_eq!(
            request(verb("machine create"), &machine),
            json!({
                "project": "pr", "name": "n", "hostname": "h", "partition": "p", "size": "s", "image": "i",
                "networks": [{"network": "net", "ips": ["1.1.1.1"]}],
                "allocationType": "MACHINE_ALLOCATION_TYPE_FIREWALL",
                "labels": {"labels": {"a": "b"}},
                "firewallSpec": {"firewallRules": {"egress": []}},
            })
        );
    }
}
