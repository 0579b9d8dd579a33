//! Two fields of layouts that the contract requires and that our generated validators let pass: they ignore `required` on enums of
//! proto3, whose zero cannot be told from absence. What is said here is what validation would say, details included.

use proto::api;
use protovalidate_buffa::{
    FieldPath, FieldPathElement, FieldType, Subscript, ValidationError, Violation,
};

use crate::rpc::Error;

/// Refuses file systems without a format and RAIDs without a level. `layout` is the field of the request that holds both, if one does.
pub(super) fn check(
    layout: Option<&'static str>,
    filesystems: &[api::Filesystem],
    raids: &[api::Raid],
) -> Result<(), Error> {
    let formats = missing(filesystems.iter().map(|f| f.format == api::Format::Unspecified));
    let levels = missing(raids.iter().map(|r| r.level == api::RaidLevel::RAID_LEVEL_UNSPECIFIED));
    let formats = formats.map(|at| violation(layout, (5, "filesystems", at), (2, "format")));
    let levels = levels.map(|at| violation(layout, (7, "raid", at), (3, "level")));
    let violations: Vec<_> = formats.chain(levels).collect();
    if violations.is_empty() {
        return Ok(());
    }
    let sentence: Vec<_> =
        violations.iter().map(|v| format!("{}: {}", v.field, v.message)).collect();
    let mut answer = ValidationError { violations, ..Default::default() }.into_connect_error();
    answer.message = Some(sentence.join("; "));
    Err(answer.into())
}

fn missing(fields: impl Iterator<Item = bool>) -> impl Iterator<Item = u64> {
    (0..).zip(fields).filter_map(|(at, missing)| missing.then_some(at))
}

/// Numbers and names as in the contract.
fn violation(
    layout: Option<&'static str>,
    (list, list_name, at): (i32, &'static str, u64),
    (field, field_name): (i32, &'static str),
) -> Violation {
    let holder = layout.map(|name| element(1, name, FieldType::Message));
    let entry = FieldPathElement {
        subscript: Some(Subscript::Index(at)),
        ..element(list, list_name, FieldType::Message)
    };
    let field = element(field, field_name, FieldType::Enum);
    Violation {
        field: FieldPath { elements: holder.into_iter().chain([entry, field]).collect() },
        rule: FieldPath { elements: vec![element(25, "required", FieldType::Bool)] },
        rule_id: "required".into(),
        message: "value is required".into(),
        for_key: false,
    }
}

fn element(number: i32, name: &'static str, kind: FieldType) -> FieldPathElement {
    FieldPathElement {
        field_number: Some(number),
        field_name: Some(name.into()),
        field_type: Some(kind),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kind_is_told_like_any_broken_rule() {
        let good = api::Filesystem { format: api::Format::Ext4.into(), ..Default::default() };
        check(None, std::slice::from_ref(&good), &[]).expect("complete");
        let refused = check(
            Some("filesystem_layout"),
            &[good, api::Filesystem::default()],
            &[api::Raid::default()],
        );
        let refused = connectrpc::ConnectError::from(refused.expect_err("incomplete"));
        assert_eq!(refused.code, connectrpc::ErrorCode::InvalidArgument);
        assert_eq!(
            refused.message.as_deref(),
            Some(
                "filesystem_layout.filesystems[1].format: value is required; \
                 filesystem_layout.raid[0].level: value is required"
            )
        );
        assert_eq!(refused.details.len(), 1);
    }
}
