//! What must not be written down: the one list of fields whose content is a secret.

use serde_json::Value;

/// JSON names of fields whose content is left out wherever they occur. A test reads the contract and fails when a field sounds
/// like a secret and is neither here nor in [`HARMLESS`].
pub const SECRETS: &[&str] =
    &["authKey", "consolePassword", "password", "secret", "superUserPassword", "userdata"];

/// Fields that sound like secrets and hold none.
pub const HARMLESS: &[&str] = &["sshPublicKeys"];

/// What stands in the place of a secret.
const INSTEAD: &str = "(redacted)";

/// Takes all secrets out of a message.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, content) in fields.iter_mut() {
                if SECRETS.contains(&name.as_str()) {
                    *content = INSTEAD.into();
                } else {
                    redact(content);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn secrets_are_left_out_at_every_depth() {
        let mut value = serde_json::json!({
            "token": {"uuid": "1", "user": "alice"},
            "secret": "eyJ",
            "machines": [{"bmc": {"user": "admin", "password": "p"}, "allocation": {"userdata": "x"}}],
            "map": {"a": {"consolePassword": ["q"]}},
        });
        redact(&mut value);
        let text = value.to_string();
        for kept in ["alice", "admin", "\"uuid\":\"1\""] {
            assert!(text.contains(kept), "{text}");
        }
        for gone in ["eyJ", "\"p\"", "\"x\"", "\"q\""] {
            assert!(!text.contains(gone), "{text}");
        }
    }

    /// Names of all fields of kind text or bytes in the contract and in our own packages.
    fn fields(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                fields(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("source");
            for line in text.lines() {
                let words: Vec<_> = line
                    .split_whitespace()
                    .skip_while(|word| matches!(*word, "repeated" | "optional"))
                    .collect();
                if let [kind, name, "=", number, ..] = words[..]
                    && (matches!(kind, "string" | "bytes") || name.starts_with("map<"))
                    && number.starts_with(|c: char| c.is_ascii_digit())
                {
                    found.push(name.to_owned());
                }
            }
        }
    }

    fn json_name(field: &str) -> String {
        let mut name = String::new();
        let mut upper = false;
        for c in field.chars() {
            match c {
                '_' => upper = true,
                c if upper => {
                    name.push(c.to_ascii_uppercase());
                    upper = false;
                }
                c => name.push(c),
            }
        }
        name
    }

    #[test]
    fn every_field_that_sounds_like_a_secret_was_thought_about() {
        const SOUNDS: &[&str] = &[
            "secret",
            "token",
            "passw",
            "pwd",
            "key",
            "credential",
            "userdata",
            "user_data",
            "private",
        ];
        let mut names = Vec::new();
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
        fields(&proto.join("metalstack"), &mut names);
        fields(&proto.join("metal"), &mut names);
        assert!(names.len() > 300, "only {} fields found: the reader is broken", names.len());
        let suspicious: Vec<_> = names
            .iter()
            .filter(|name| SOUNDS.iter().any(|sound| name.contains(sound)))
            .map(|name| json_name(name))
            .collect();
        for secret in SECRETS {
            assert!(suspicious.iter().any(|name| name == secret), "{secret} is in no message");
        }
        for name in suspicious {
            assert!(
                SECRETS.contains(&name.as_str()) || HARMLESS.contains(&name.as_str()),
                "{name} sounds like a secret: add it to SECRETS or HARMLESS"
            );
        }
    }
}
