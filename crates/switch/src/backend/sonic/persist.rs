//! `config_db.json`, which SONiC loads when it boots. What this agent wrote into CONFIG_DB is written through to it; what
//! belongs to others stays as it is in the file, whether they saved their changes or not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::json::{Json, Object};
use super::schema::{self, Fields, NOTHING, Rows, table};
use super::steps::Rules;

/// Fields of a port that are this agent's.
const PORT_FIELDS: [&str; 2] = ["admin_status", "mtu"];

/// Makes the rows of this agent in the file those of CONFIG_DB. Tells what was different; nothing is written when
/// nothing was.
///
/// # Errors
/// The file cannot be read or written, or is none of SONiC's.
pub fn save(path: &Path, now: &Rows, own: &Own<'_>) -> Result<Vec<String>> {
    let (mut file, rows) = load(path)?;
    let (before, now) = (own.rows(&rows, now), own.rows(now, &rows));
    let differences = differences(&before, &now);
    if !differences.is_empty() {
        merge(&mut file, &before, &now);
        write(path, &render(&file)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(differences)
}

/// What is different between the file and CONFIG_DB about rows of this agent.
///
/// # Errors
/// The file cannot be read, or is none of SONiC's.
pub fn compare(path: &Path, now: &Rows, own: &Own<'_>) -> Result<Vec<String>> {
    let (_, rows) = load(path)?;
    Ok(differences(&own.rows(&rows, now), &own.rows(now, &rows)))
}

/// Which rows are this agent's.
pub struct Own<'a> {
    /// The VLANs.
    pub rules: &'a Rules,
    /// The machine ports.
    pub is_port: &'a dyn Fn(&str) -> bool,
}

impl Own<'_> {
    /// Its rows among `rows`. `other` is where the rest of a half written tenant may be.
    pub fn rows(&self, rows: &Rows, other: &Rows) -> Rows {
        let vlans: BTreeSet<_> =
            self.vlans(rows).chain(self.vlans(other)).map(str::to_owned).collect();
        let vrfs: BTreeSet<_> = vrfs(rows).chain(vrfs(other)).map(str::to_owned).collect();
        let is_own = |(key, fields): (&String, &Fields)| {
            let (of, name) = key.split_once('|')?;
            let mut parts = name.split('|');
            let (first, last) = (parts.next()?, name.rsplit('|').next()?);
            let mut fields = fields.clone();
            let own = match of {
                "PORT" => {
                    fields.retain(|field, _| PORT_FIELDS.contains(&field.as_str()));
                    (self.is_port)(first)
                }
                "INTERFACE" => (self.is_port)(first),
                "VLAN_MEMBER" => (self.is_port)(last),
                "VRF" => vrfs.contains(first),
                "VLAN" | "VLAN_INTERFACE" | "SUPPRESS_VLAN_NEIGH" => vlans.contains(first),
                "VXLAN_TUNNEL_MAP" => fields.get("vlan").is_some_and(|vlan| vlans.contains(vlan)),
                _ => false,
            };
            own.then(|| (key.clone(), fields))
        };
        rows.iter().filter_map(is_own).collect()
    }

    fn vlans<'r>(&self, rows: &'r Rows) -> impl Iterator<Item = &'r str> {
        let (first, last) = self.rules.vlans;
        let is_own = move |(name, fields): &(&str, &Fields)| {
            let tenant = fields.get("description").and_then(|name| schema::vrf_vni(name));
            schema::vlan_id(name).is_some_and(|id| (first..=last).contains(&id)) && tenant.is_some()
        };
        table(rows, "VLAN").filter(is_own).map(|(name, _)| name)
    }
}

fn vrfs(rows: &Rows) -> impl Iterator<Item = &str> {
    let is_own = |(name, fields): &(&str, &Fields)| {
        let vni = fields.get("vni").and_then(|vni| vni.parse().ok());
        vni.is_some() && schema::vrf_vni(name) == vni
    };
    table(rows, "VRF").filter(is_own).map(|(name, _)| name)
}

fn load(path: &Path) -> Result<(Object, Rows)> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let file = parse(&text).with_context(|| format!("{} cannot be used", path.display()))?;
    let rows = rows(&file);
    Ok((file, rows))
}

/// # Errors
/// It is no JSON object.
pub fn parse(text: &str) -> Result<Object> {
    match serde_json::from_str(text)? {
        Json::Object(file) => Ok(file),
        _ => bail!("it is no object with tables"),
    }
}

/// As SONiC writes it: four spaces, a line for each field.
///
/// # Errors
/// None that a value can cause.
pub fn render(file: &Object) -> Result<String> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    file.serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

/// The rows that Redis would have after SONiC has loaded the file.
pub fn rows(file: &Object) -> Rows {
    let mut rows = Rows::new();
    for (of, names) in file.iter() {
        let Json::Object(names) = names else { continue };
        for (name, fields) in names.iter() {
            if let Json::Object(fields) = fields {
                rows.insert(schema::key(of, name), to_fields(fields));
            }
        }
    }
    rows
}

fn to_fields(object: &Object) -> Fields {
    let mut fields: Fields = object
        .iter()
        .map(|(name, value)| match value {
            Json::List(values) => {
                let values: Vec<_> = values.iter().map(to_text).collect();
                (format!("{name}@"), values.join(","))
            }
            value => (name.to_owned(), to_text(value)),
        })
        .collect();
    if fields.is_empty() {
        fields.insert(NOTHING.into(), NOTHING.into());
    }
    fields
}

fn to_text(value: &Json) -> String {
    match value {
        Json::Text(text) => text.clone(),
        Json::Null => "None".into(),
        Json::Bool(true) => "True".into(),
        Json::Bool(false) => "False".into(),
        Json::Number(number) => number.to_string(),
        Json::List(_) | Json::Object(_) => serde_json::to_string(value).unwrap_or_default(),
    }
}

/// The value of a field in the file, by its name there.
fn to_json(name: &str, value: &str) -> (String, Json) {
    match name.strip_suffix('@') {
        Some(name) => {
            let values = value.split(',').filter(|value| !value.is_empty());
            let values = values.map(|value| Json::Text(value.to_owned())).collect();
            (name.to_owned(), Json::List(values))
        }
        None => (name.to_owned(), Json::Text(value.to_owned())),
    }
}

/// For people, one line per row.
pub fn differences(file: &Rows, now: &Rows) -> Vec<String> {
    let gone = file.keys().filter(|key| !now.contains_key(*key));
    let gone = gone.map(|key| format!("{key} is in the file only"));
    let other = now.iter().filter_map(|(key, fields)| match file.get(key) {
        None => Some(format!("{key} is not in the file")),
        Some(saved) if saved != fields => Some(format!("{key} is different in the file")),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

/// Makes the rows that were `before` in the file those of `now`.
pub fn merge(file: &mut Object, before: &Rows, now: &Rows) {
    let split = |key: &str| key.split_once('|').map(|(of, name)| (of.to_owned(), name.to_owned()));
    for key in before.keys().filter(|key| !now.contains_key(*key)) {
        let Some((of, name)) = split(key) else { continue };
        // What a port is made of is not this agent's.
        if of == "PORT" {
            continue;
        }
        let rows = file.object(&of);
        rows.remove(&name);
        if rows.is_empty() {
            file.remove(&of);
        }
    }
    for (key, fields) in now.iter().filter(|(key, fields)| before.get(*key) != Some(fields)) {
        let Some((of, name)) = split(key) else { continue };
        let is_part = of == "PORT";
        if is_part && !before.contains_key(key) {
            continue;
        }
        let row = file.object(&of).object(&name);
        let said: Vec<_> = fields
            .iter()
            .filter(|(name, _)| *name != NOTHING)
            .map(|(name, value)| to_json(name, value))
            .collect();
        if !is_part {
            row.retain(|name, _| said.iter().any(|(other, _)| other == name));
        }
        for (name, value) in said {
            row.set(&name, value);
        }
    }
}

/// Beside it and renamed: a power cut leaves either this or what was there.
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("it has no folder")?;
    let name = path.file_name().context("it has no name")?.to_string_lossy();
    let next = folder.join(format!(".{name}.metal-switch"));
    let mut file = File::create(&next)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    Ok(File::open(folder)?.sync_all()?)
}

#[cfg(test)]
mod tests;
