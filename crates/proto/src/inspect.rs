//! Looking into a call without knowing its type at compile time: what the gate of the server needs.

use buffa::Message;
use connectrpc::{ConnectError, JsonDeserialize, JsonSerialize, Payload};
use protovalidate_buffa::Validate;
use serde::Serialize;

/// How many violations the sentence of an error names; the details hold all of them.
const NAMED: usize = 5;

/// Checks a message; the error names the fields and carries `buf.validate.Violations` as detail.
pub(crate) fn validate(message: &impl Validate) -> Result<(), ConnectError> {
    let Err(error) = message.validate() else { return Ok(()) };
    let mut sentence: Vec<_> = error
        .violations
        .iter()
        .take(NAMED)
        .map(|violation| {
            let text =
                if violation.message.is_empty() { &violation.rule_id } else { &violation.message };
            format!("{}: {text}", path(&violation.field))
        })
        .collect();
    if error.violations.len() > NAMED {
        sentence.push(format!("and {} more", error.violations.len() - NAMED));
    }
    let broken = error.violations.is_empty();
    let mut answer = error.into_connect_error();
    if !broken {
        answer.message = Some(sentence.join("; "));
    }
    Err(answer)
}

fn path(path: &protovalidate_buffa::FieldPath) -> String {
    let names: Vec<_> = path.elements.iter().filter_map(|e| e.field_name.as_deref()).collect();
    if names.is_empty() { "request".to_owned() } else { names.join(".") }
}

/// A message as JSON; nothing when it is unreadable.
pub(crate) fn json<M>(payload: &Payload) -> Option<serde_json::Value>
where
    M: Message + JsonSerialize + JsonDeserialize + Serialize + 'static,
{
    serde_json::to_value(payload.message::<M>().ok()?).ok()
}
