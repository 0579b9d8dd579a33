//! Turns the contract into static tables: which methods there are, which fields their messages have, what the
//! comments say. The command line is made of these tables; nothing is decoded at run time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};
use protox::prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor,
};

const INCLUDES: [&str; 2] = ["../../proto", "../../third_party"];

fn main() -> Result<()> {
    let mut files = Vec::new();
    collect(Path::new(INCLUDES[0]), Path::new(INCLUDES[0]), &mut files)?;
    files.sort();
    for include in INCLUDES {
        println!("cargo::rerun-if-changed={include}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    let mut compiler = protox::Compiler::new(INCLUDES)?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let text = Tables::new(compiler.descriptor_pool()).write()?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("contract.rs"), text)?;
    Ok(())
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path.strip_prefix(root)?.to_str().context("path is not UTF-8")?.to_owned());
        }
    }
    Ok(())
}

/// What the methods need, numbered as it is met.
struct Tables {
    pool: DescriptorPool,
    messages: Vec<MessageDescriptor>,
    message_numbers: BTreeMap<String, usize>,
    enums: Vec<EnumDescriptor>,
    enum_numbers: BTreeMap<String, usize>,
}

impl Tables {
    fn new(pool: DescriptorPool) -> Self {
        Self {
            pool,
            messages: Vec::new(),
            message_numbers: BTreeMap::new(),
            enums: Vec::new(),
            enum_numbers: BTreeMap::new(),
        }
    }

    fn write(mut self) -> Result<String> {
        let mut methods = String::new();
        let mut rows = Vec::new();
        for service in self.pool.clone().services() {
            for method in service.methods() {
                let row = format!(
                    "Method {{ path: \"/{}/{}\", service: {:?}, name: {:?}, doc: {:?}, request: {}, response: {}, streaming: {} }},",
                    service.full_name(),
                    method.name(),
                    service.full_name(),
                    method.name(),
                    comment(&method.parent_file(), method.path()),
                    self.message(&method.input()),
                    self.message(&method.output()),
                    method.is_server_streaming() || method.is_client_streaming(),
                );
                rows.push((format!("/{}/{}", service.full_name(), method.name()), row));
            }
        }
        rows.sort();
        for (_, row) in rows {
            writeln!(methods, "{row}")?;
        }
        let mut messages = String::new();
        let mut next = 0;
        while let Some(message) = self.messages.get(next).cloned() {
            next += 1;
            let fields: Vec<String> =
                message.fields().map(|field| self.field(&field)).collect::<Result<_>>()?;
            writeln!(
                messages,
                "Message {{ name: {:?}, doc: {:?}, fields: &[{}] }},",
                message.full_name(),
                comment(&message.parent_file(), message.path()),
                fields.join(", ")
            )?;
        }
        let short = self
            .pool
            .get_extension_by_name("metalstack.api.v2.enum_string_value")
            .context("enum_string_value")?;
        let mut enums = String::new();
        for kind in &self.enums {
            let mut values = Vec::new();
            for value in kind.values() {
                let options = value.options();
                let text = options.get_extension(&short);
                let text = text.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
                let text = text.unwrap_or_else(|| stripped(kind.name(), value.name()));
                values.push(format!(
                    "Value {{ name: {:?}, short: {:?}, doc: {:?}, number: {} }}",
                    value.name(),
                    text,
                    comment(&kind.parent_file(), value.path()),
                    value.number()
                ));
            }
            writeln!(enums, "Enum {{ values: &[{}] }},", values.join(", "))?;
        }
        Ok(format!(
            "pub(crate) static METHODS: &[Method] = &[\n{methods}];\n\
             pub(crate) static MESSAGES: &[Message] = &[\n{messages}];\n\
             pub(crate) static ENUMS: &[Enum] = &[\n{enums}];\n"
        ))
    }

    fn field(&mut self, field: &FieldDescriptor) -> Result<String> {
        let (kind, map) = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { unreachable!("a map is a message") };
            (self.kind(&entry.map_entry_value_field().kind()), true)
        } else {
            (self.kind(&field.kind()), false)
        };
        Ok(format!(
            "Field {{ name: {:?}, json: {:?}, doc: {:?}, kind: {kind}, repeated: {}, map: {map}, optional: {}, number: {}, unsigned: {} }}",
            field.name(),
            field.json_name(),
            comment(&field.parent_message().parent_file(), field.path()),
            field.cardinality() == Cardinality::Repeated && !map,
            field.supports_presence(),
            field.number(),
            matches!(field.kind(), Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64),
        ))
    }

    fn kind(&mut self, kind: &Kind) -> String {
        match kind {
            Kind::Bool => "Kind::Bool".to_owned(),
            Kind::String => "Kind::Text".to_owned(),
            Kind::Bytes => "Kind::Bytes".to_owned(),
            Kind::Float | Kind::Double => "Kind::Float".to_owned(),
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => {
                "Kind::Long".to_owned()
            }
            Kind::Enum(kind) => format!("Kind::Enum({})", self.enumeration(kind)),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => "Kind::Timestamp".to_owned(),
                "google.protobuf.Duration" => "Kind::Duration".to_owned(),
                _ => format!("Kind::Message({})", self.message(message)),
            },
            _ => "Kind::Int".to_owned(),
        }
    }

    fn message(&mut self, message: &MessageDescriptor) -> usize {
        *self.message_numbers.entry(message.full_name().to_owned()).or_insert_with(|| {
            self.messages.push(message.clone());
            self.messages.len() - 1
        })
    }

    fn enumeration(&mut self, kind: &EnumDescriptor) -> usize {
        *self.enum_numbers.entry(kind.full_name().to_owned()).or_insert_with(|| {
            self.enums.push(kind.clone());
            self.enums.len() - 1
        })
    }
}

/// `PROJECT_ROLE_OWNER` of `ProjectRole` is `owner`.
fn stripped(kind: &str, value: &str) -> String {
    let letters: Vec<char> = kind.chars().collect();
    let mut prefix = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let word_begins = letter.is_uppercase()
            && i > 0
            && (letters[i - 1].is_lowercase()
                || letters.get(i + 1).is_some_and(|next| next.is_lowercase()));
        if word_begins {
            prefix.push('_');
        }
        prefix.extend(letter.to_uppercase());
    }
    value.trim_start_matches(&format!("{prefix}_")).to_lowercase().replace('_', "-")
}

/// The comment above something, as one line of prose.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let proto = file.file_descriptor_proto();
    let Some(info) = &proto.source_code_info else { return String::new() };
    let Some(location) = info.location.iter().find(|location| location.path == path) else {
        return String::new();
    };
    let text = location.leading_comments.as_deref().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
