//! How a value reads in a cell of a table; [`tables`] has what tables show of each thing.

mod cells;
mod tables;

use jiff::Timestamp;
use serde_json::Value;

use crate::contract;
use crate::path;

pub(crate) use cells::last_event;
pub(crate) use tables::*;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// Only shown by `-o wide`.
    pub(crate) wide: bool,
    /// Where the value stands, by the names of the JSON.
    pub(crate) path: &'static str,
    /// How it reads.
    pub(crate) form: Form,
}

/// How a value reads in a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As it is; enum values by their short name, lists with commas.
    Plain,
    /// Time since, `3d 4h`.
    Age,
    /// Time until, `3d 4h`; `expired` when it is over.
    Until,
    /// Number of entries.
    Count,
    /// A number, 0 where there is none; the last line of a table has the sum.
    Sum,
    /// The beginning, where a cell may be as long as a page.
    Short,
    /// Made of the whole object.
    Whole(fn(&Value) -> String),
}

/// Letters of a shortened cell.
const SHORT: usize = 100;

/// The columns for things of this message.
pub(crate) fn of_message(message: &str) -> &'static [Column] {
    match message.rsplit('.').next().unwrap_or_default() {
        "ProjectMember" | "TenantMember" => MEMBER,
        "ProjectInvite" | "TenantInvite" => INVITE,
        "MachineBMCDetails" => BMC,
        "ImageUsage" => IMAGE_USAGE,
        "HealthStatus" => HEALTH,
        "Phase" => PHASE,
        _ => crate::noun::NOUNS
            .iter()
            .find(|noun| noun.message == message)
            .map_or(NONE, |noun| noun.columns),
    }
}

impl Column {
    /// The text of the cell; pure, so `now` is given.
    pub(crate) fn cell(&self, item: &Value, now: Timestamp) -> String {
        if let Form::Whole(made) = self.form {
            return made(item);
        }
        let values = path::get(item, self.path);
        match self.form {
            Form::Count => {
                values.first().map_or(0, |value| value.as_array().map_or(0, Vec::len)).to_string()
            }
            Form::Sum => values.first().map_or("0".to_owned(), |value| plain(value)),
            Form::Short => {
                let text = values.first().map_or(String::new(), |value| plain(value));
                match text.char_indices().nth(SHORT) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text,
                }
            }
            Form::Age => time(&values).map_or(String::new(), |then| span(seconds(then, now))),
            Form::Until => time(&values).map_or(String::new(), |then| match seconds(now, then) {
                left if left <= 0 => "expired".to_owned(),
                left => span(left),
            }),
            Form::Plain | Form::Whole(_) => match values.as_slice() {
                [value] => plain(value),
                values => values.iter().map(|value| plain(value)).collect::<Vec<_>>().join(","),
            },
        }
    }
}

/// A value in one line for people.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match contract::short(text) {
            text if text.contains(['\n', '\r']) => text.replace(['\n', '\r'], " "),
            text => text.to_owned(),
        },
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match plain(value) {
                value if value.is_empty() => key.clone(),
                value => format!("{key}={value}"),
            })
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    }
}

/// A number, also one that JSON writes as text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn time(values: &[&Value]) -> Option<Timestamp> {
    values.first()?.as_str()?.parse().ok()
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

/// The two largest units of a time, `3d 4h`.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(31_536_000, "y"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let Some(first) = units.iter().position(|(length, _)| seconds >= *length) else {
        return "0s".to_owned();
    };
    let (length, unit) = units[first];
    let mut text = format!("{}{unit}", seconds / length);
    if let Some((next, unit)) = units.get(first + 1)
        && seconds % length / next > 0
    {
        text.push_str(&format!(" {}{unit}", seconds % length / next));
    }
    text
}

/// Bytes with the largest unit that leaves a short number.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, bits) in units {
        let whole = bytes >> bits;
        if whole >= 1 {
            let tenths = (bytes >> (bits - 10)) % 1024 * 10 / 1024;
            return if tenths == 0 || whole >= 100 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenths} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_and_sizes() {
        let spans = [0, 59, 60, 3_661, 93_600, 40_000_000].map(span);
        assert_eq!(spans, ["0s", "59s", "1m", "1h 1m", "1d 2h", "1y 97d"]);
        let sizes = [0, 1_023, 1 << 30, 3 << 29, 5 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1 GiB", "1.5 GiB", "5 TiB"]);
    }

    #[test]
    fn cells() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let machine = json!({
            "status": {"liveliness": "MACHINE_LIVELINESS_DEAD", "condition": {"state": "MACHINE_STATE_LOCKED"}},
            "recentProvisioningEvents": {
                "lastEventTime": "2026-01-01T22:00:00Z",
                "events": [
                    {"time": "2026-01-01T22:00:00Z", "event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME"},
                    {"time": "2026-01-01T21:00:00Z", "event": "MACHINE_PROVISIONING_EVENT_TYPE_WAITING"},
                ],
            },
            "allocation": {"networks": [{"ips": ["10.0.0.1"]}, {"ips": ["1.2.3.4", "::1"]}]},
        });
        let cells: Vec<String> = MACHINE.iter().map(|column| column.cell(&machine, now)).collect();
        assert_eq!(cells[1..4], ["🔒💀", "Phoned Home", "2h"]);
        assert_eq!(cells[9], "10.0.0.1,1.2.3.4,::1");
    }

    #[test]
    fn every_path_leads_somewhere() {
        for noun in crate::noun::NOUNS {
            let Some(message) = contract::Message::find(noun.message) else { continue };
            for column in noun.columns.iter().filter(|column| !column.path.is_empty()) {
                let mut at = Some(message);
                for step in column.path.split('.') {
                    let name = step.trim_end_matches("[*]");
                    let field = at.and_then(|message| message.field(name));
                    let field = field.unwrap_or_else(|| panic!("{}: {}", noun.name, column.path));
                    at = field.message();
                }
            }
        }
    }
}
