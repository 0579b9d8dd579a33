//! Turns the `.proto` files into Rust: messages, service traits and clients, validators, and the table of rights.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};
use protoc_gen_protovalidate_buffa::{emit, scan};

const INCLUDES: [&str; 2] = ["../../proto", "../../third_party"];

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    collect(Path::new(INCLUDES[0]), Path::new(INCLUDES[0]), &mut files)?;
    files.sort();
    for include in INCLUDES {
        println!("cargo::rerun-if-changed={include}");
    }

    let mut compiler = protox::Compiler::new(INCLUDES)?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let set = compiler.encode_file_descriptor_set();
    let source = out.join("contract.source.binpb");
    fs::write(&source, &set)?;

    connectrpc_build::Config::new()
        .descriptor_set(&source)
        .files(&files)
        .out_dir(&out)
        .include_file("_connectrpc.rs")
        // it would name the set that was written just now: everything would be built anew each time
        .emit_rerun_directives(false)
        .compile()?;
    disambiguate_register(&out)?;
    let (validators, validated) = validators(&set, &files, &out)?;
    fs::write(out.join("validate.rs"), validators)?;
    fs::write(out.join("methods.rs"), methods(&compiler, &validated)?)?;

    // The published set carries no comments: reflection does not need them.
    let mut compiler = protox::Compiler::new(INCLUDES)?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(&files)?;
    fs::write(out.join("contract.binpb"), compiler.encode_file_descriptor_set())?;
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

/// An rpc named `Register` collides with the generated `register(Router)` extension method
/// (connect-rust issue 309), so the generated code must say which of the two it means.
fn disambiguate_register(out: &Path) -> Result<()> {
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with("__connect.rs") {
            let text = fs::read_to_string(&path)?;
            if text.contains("svc.register(ctx") {
                fs::write(&path, text.replace("svc.register(ctx", "(&*svc).register(ctx"))?;
            }
        }
    }
    Ok(())
}

/// The modules of validators, and the full names of the messages that have one.
fn validators(set: &[u8], files: &[String], out: &Path) -> Result<(String, BTreeSet<String>)> {
    use buffa_codegen::generated::compiler::CodeGeneratorRequest;
    use buffa_codegen::generated::descriptor::FileDescriptorSet;
    let set = buffa_codegen::tooling_decode_options()
        .map_err(|e| anyhow::anyhow!("{e}"))?
        .decode_from_slice::<FileDescriptorSet>(set)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let request = CodeGeneratorRequest {
        file_to_generate: files.to_vec(),
        proto_file: set.file,
        ..Default::default()
    };
    let rules = scan::gather(&request)?;
    let mut text = String::new();
    let mut validated = BTreeSet::new();
    for file in emit::render_with_options(&rules, &emit::Options::default())? {
        let (Some(name), Some(content)) = (file.name, file.content) else { continue };
        if name.ends_with("mod.rs") {
            continue;
        }
        let name = format!("validate.{name}");
        fs::write(out.join(&name), &content)?;
        let module = name.trim_end_matches(".rs").replace('.', "_");
        let package = name.trim_start_matches("validate.").trim_end_matches(".rs");
        let package = package.rsplit_once('.').map_or(package, |(package, _)| package).to_owned();
        validated.extend(content.lines().filter_map(|line| {
            let message = line
                .strip_prefix("impl ::protovalidate_buffa::Validate for ")?
                .strip_suffix(" {")?;
            (!message.contains(':')).then(|| format!("{package}.{message}"))
        }));
        let package = package.replace('.', "::");
        writeln!(
            text,
            "mod {module} {{ use crate::metalstack; use crate::{package}::*; use crate::{package}::__buffa; \
             include!(concat!(env!(\"OUT_DIR\"), \"/{name}\")); }}"
        )?;
    }
    Ok((text, validated))
}

/// One row per method: path, kind of call, who may call it, whether it is audited, how to look into its messages.
fn methods(compiler: &protox::Compiler, validated: &BTreeSet<String>) -> Result<String> {
    let pool = compiler.descriptor_pool();
    let mut rows = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            let options = method.options();
            let mut row = format!(
                "Method {{ path: \"/{}/{}\", streaming: {}",
                service.full_name(),
                method.name(),
                method.is_server_streaming() || method.is_client_streaming()
            );
            for (field, single, prefix) in [
                ("tenant_roles", false, "TENANT_ROLE_"),
                ("project_roles", false, "PROJECT_ROLE_"),
                ("admin_roles", false, "ADMIN_ROLE_"),
                ("infra_roles", false, "INFRA_ROLE_"),
                ("machine_roles", false, "MACHINE_ROLE_"),
                ("visibility", true, "VISIBILITY_"),
                ("auditing", true, "AUDITING_"),
            ] {
                let extension = pool
                    .get_extension_by_name(&format!("metalstack.api.v2.{field}"))
                    .with_context(|| format!("extension {field}"))?;
                let kind = extension.kind();
                let kind = kind.as_enum().context("option is not an enum")?.clone();
                let name = |number: i32| -> Result<String> {
                    let value = kind.get_value(number).context("unknown enum value")?;
                    let name = pascal(value.name().trim_start_matches(prefix));
                    Ok(if name == "Self" { "Self_".to_owned() } else { name })
                };
                let value = options.get_extension(&extension);
                let type_name = kind.name();
                if single {
                    write!(
                        row,
                        ", {field}: {type_name}::{}",
                        name(value.as_enum_number().unwrap_or(0))?
                    )?;
                } else {
                    let names = value
                        .as_list()
                        .unwrap_or_default()
                        .iter()
                        .map(|v| {
                            Ok(format!("{type_name}::{}", name(v.as_enum_number().unwrap_or(0))?))
                        })
                        .collect::<Result<Vec<_>>>()?;
                    write!(row, ", {field}: &[{}]", names.join(", "))?;
                }
            }
            let input = method.input();
            let request = rust_path(input.full_name());
            // The subject of a role is a field of the request; every scoped request has it.
            let role = |field: &str| row.contains(&format!("{field}_roles: &[{}", capital(field)));
            let subject = [("project", "project"), ("tenant", "login"), ("machine", "uuid")]
                .into_iter()
                .find(|(scope, field)| role(scope) && input.get_field_by_name(field).is_some())
                .map_or("|_| Ok(String::new())".to_owned(), |(_, field)| {
                    format!("|payload| Ok(payload.message::<{request}>()?.{field}.clone())")
                });
            let validate = if validated.contains(input.full_name()) {
                format!("|payload| inspect::validate(payload.message::<{request}>()?)")
            } else {
                format!("|payload| payload.message::<{request}>().map(drop)")
            };
            write!(
                row,
                ", subject: {subject}, validate: {validate}, request_json: inspect::json::<{request}>, \
                 response_json: inspect::json::<{}>",
                rust_path(method.output().full_name())
            )?;
            rows.push(row + " },\n");
        }
    }
    rows.sort();
    Ok(format!("&[\n{}]", rows.concat()))
}

fn rust_path(full_name: &str) -> String {
    format!("crate::{}", full_name.replace('.', "::"))
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

fn pascal(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_uppercase().collect::<String>() + &letters.as_str().to_lowercase()
            })
        })
        .collect::<String>()
}
