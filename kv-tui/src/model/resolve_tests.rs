//! Each rule on siblings that it can decide, and on those that it must refuse.

use super::*;
use kv_client::NodeId;

/// Siblings as a read shows them, the newest first; the given order is the order of writing.
fn siblings(values: &[Option<&str>]) -> Vec<Sibling> {
    let sibling = |(time, value): (u64, Option<&str>)| Sibling {
        dot: DotName { time, node: NodeId(1), tenure: 1 },
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        expires_at_ms: None,
    };
    let mut siblings: Vec<Sibling> = (1..).zip(values.iter().copied()).map(sibling).collect();
    siblings.reverse();
    siblings
}

fn decided(rule: &Rule, values: &[&str]) -> String {
    let values: Vec<Option<&str>> = values.iter().copied().map(Some).collect();
    let mut read = siblings(&values);
    let verdict = resolve(rule, &read).expect("it decides");
    read.reverse();
    assert_eq!(resolve(rule, &read).as_ref(), Ok(&verdict), "the order shown does not matter");
    String::from_utf8(verdict.value.expect("a value").to_vec()).expect("text")
}

fn refused(rule: &Rule, values: &[&str]) -> String {
    let values: Vec<Option<&str>> = values.iter().copied().map(Some).collect();
    resolve(rule, &siblings(&values)).expect_err("it refuses")
}

#[test]
fn pick_takes_the_sibling_as_shown() {
    let read = siblings(&[Some("old"), Some("new"), None]);
    let value = |at| resolve(&Rule::Pick(at), &read).map(|verdict| verdict.value);
    assert_eq!(value(0), Ok(None), "a delete can be picked");
    assert_eq!(value(1), Ok(Some(Bytes::from_static(b"new"))));
    assert_eq!(value(2), Ok(Some(Bytes::from_static(b"old"))));
    assert!(value(3).is_err());
}

#[test]
fn latest_takes_the_highest_dot_a_delete_included() {
    assert_eq!(decided(&Rule::Latest, &["a", "b", "c"]), "c");
    let read = siblings(&[Some("a"), None]);
    assert_eq!(resolve(&Rule::Latest, &read).map(|verdict| verdict.value), Ok(None));
    assert!(resolve(&Rule::Latest, &[]).is_err());
}

#[test]
fn union_is_of_elements_or_of_lines() {
    let arrays = [r#"["tea","cup"]"#, r#"["tea","spoon"]"#];
    assert_eq!(decided(&Rule::Union, &arrays), r#"["tea","cup","spoon"]"#);
    assert_eq!(decided(&Rule::Union, &["a\nb\n", "b\nc\n"]), "a\nb\nc\n");
    assert_eq!(decided(&Rule::Union, &["a\nb", "c"]), "a\nb\nc");
    assert!(refused(&Rule::Union, &["a", "b"]).contains("needs JSON arrays or lines"));
    assert!(refused(&Rule::Union, &["{}", "a\nb"]).contains("objects"));
    let binary = Bytes::from_static(b"\xff\n");
    let mut read = siblings(&[Some("a\n"), None]);
    read[0].value = Some(binary);
    assert!(resolve(&Rule::Union, &read).expect_err("binary").contains("binary"));
}

#[test]
fn max_is_of_numbers_and_rounds_none() {
    assert_eq!(decided(&Rule::Max, &["9", "10", "-3"]), "10");
    assert_eq!(decided(&Rule::Max, &["9007199254740993", "9007199254740992"]), "9007199254740993");
    assert_eq!(decided(&Rule::Max, &["1.50", "1.4"]), "1.50");
    assert!(refused(&Rule::Max, &["1", "one"]).contains("needs numbers"));
    assert!(refused(&Rule::Max, &["inf", "1"]).contains("needs numbers"));
}

#[test]
fn merge_joins_objects_field_by_field() {
    let carts = [
        r#"{"items":["tea","cup"],"n":2,"by":"ann"}"#,
        r#"{"items":["tea","spoon"],"n":3,"by":"bob","gift":true}"#,
    ];
    let expected = r#"{"by":"bob","gift":true,"items":["tea","cup","spoon"],"n":3}"#;
    assert_eq!(decided(&Rule::Merge, &carts), expected);
    let read = siblings(&carts.map(Some));
    let verdict = resolve(&Rule::Merge, &read).expect("it decides");
    assert_eq!(verdict.notes, ["/by differs: the latest is taken"]);
    let deep = [r#"{"a":{"x":1}}"#, r#"{"a":{"y":2}}"#];
    assert_eq!(decided(&Rule::Merge, &deep), r#"{"a":{"x":1,"y":2}}"#);
    assert!(refused(&Rule::Merge, &["{}", "[]"]).contains("needs objects"));
    assert!(refused(&Rule::Merge, &["{}", "milk"]).contains("no JSON"));
    let huge = r#"{"n":123456789012345678901234567890}"#;
    assert!(refused(&Rule::Merge, &[huge, "{}"]).contains("too large"));
}

#[test]
fn a_delete_beside_values_is_said_by_the_rules_that_keep_the_values() {
    let read = siblings(&[Some("1"), None, Some("2")]);
    let verdict = resolve(&Rule::Max, &read).expect("it decides");
    assert_eq!(verdict.value, Some(Bytes::from_static(b"2")));
    assert_eq!(verdict.notes, ["a delete stands beside: the values are kept"]);
    let deletes = siblings(&[None, None]);
    assert!(resolve(&Rule::Max, &deletes).is_err());
    assert_eq!(suggested(&deletes), Rule::Latest);
}

#[test]
fn an_edit_is_taken_as_it_is_and_a_delete_has_no_value() {
    let read = siblings(&[Some("1"), Some("2")]);
    let edit = Rule::Edit(Bytes::from_static(b"three"));
    let value = resolve(&edit, &read).map(|verdict| verdict.value);
    assert_eq!(value, Ok(Some(Bytes::from_static(b"three"))));
    assert_eq!(resolve(&Rule::Delete, &read).map(|verdict| verdict.value), Ok(None));
}

#[test]
fn a_merged_value_lives_as_long_as_the_longest_of_its_parts() {
    let mut read = siblings(&[Some("1"), Some("2")]);
    let at = |read: &[Sibling]| resolve(&Rule::Max, read).map(|verdict| verdict.expires_at_ms);
    read[0].expires_at_ms = Some(70);
    assert_eq!(at(&read), Ok(None), "one part never expires");
    read[1].expires_at_ms = Some(90);
    assert_eq!(at(&read), Ok(Some(90)));
    assert_eq!(resolve(&Rule::Pick(0), &read).map(|verdict| verdict.expires_at_ms), Ok(Some(70)));
}

#[test]
fn the_suggestion_is_the_first_rule_that_decides() {
    let table = [
        (["{}", r#"{"a":1}"#], Rule::Merge),
        (["[1]", "[2]"], Rule::Union),
        (["1", "2"], Rule::Max),
        (["milk", "eggs"], Rule::Latest),
    ];
    for (values, rule) in table {
        assert_eq!(suggested(&siblings(&values.map(Some))), rule, "{values:?}");
    }
    for rule in Rule::MERGING {
        let word = match rule {
            Rule::Merge => "merge".to_owned(),
            ref other => other.to_string(),
        };
        assert_eq!(Rule::named(&word), Some(rule));
    }
    assert_eq!(Rule::named("sometimes"), None);
}
