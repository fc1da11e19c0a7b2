//! The top level of a JSON object as spans of its text, and changes to it by splicing.
//!
//! A request may hold megabytes of prompt and images. It is checked once for being JSON and never turned into
//! a tree; what is not changed keeps its bytes.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use self::scan::{DEPTH_MAX, Problem, Scanner};
use crate::{ApiError, ErrorKind};

mod scan;

/// Most accepted members of the top level.
const MEMBERS_MAX: usize = 256;

/// One member of an object, as places in its text.
#[derive(Clone, Debug)]
pub(crate) struct Member<K> {
    /// The key, decoded, or what the caller made of it.
    pub(crate) key: K,
    /// Where the key's opening quote stands.
    start: usize,
    /// Where the value stands.
    pub(crate) value: Range<usize>,
}

impl<K> Member<K> {
    /// The same place under another key.
    pub(crate) fn with_key<L>(self, key: impl FnOnce(K) -> L) -> Member<L> {
        Member { key: key(self.key), start: self.start, value: self.value }
    }
}

/// What happens to a member.
pub(crate) enum Edit {
    /// It stays byte for byte.
    Keep,
    /// It goes, with one comma.
    Remove,
    /// Its value becomes this JSON text.
    Replace(String),
}

/// Checks that `text` is one JSON object and finds its members.
///
/// # Errors
/// [`ErrorKind::InvalidJson`] if it is not, or nests too deep or has too many members;
/// [`ErrorKind::InvalidParameter`] with its name if a member occurs twice.
pub(crate) fn members(text: &[u8]) -> Result<Vec<Member<Cow<'_, str>>>, ApiError> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(not_json(text, error.valid_up_to(), Problem::Malformed));
    }
    let mut scanner = Scanner::new(text);
    top_level(text, &mut scanner).map_err(|refusal| match refusal {
        Refusal::Text(problem) => not_json(text, scanner.at(), problem),
        Refusal::Member(error) => error,
    })
}

/// Why a text has no members for us.
enum Refusal {
    /// What is wrong where the scanner stands.
    Text(Problem),
    Member(ApiError),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Text(problem)
    }
}

fn top_level<'a>(text: &'a [u8], scanner: &mut Scanner<'a>) -> Result<Vec<Member<Cow<'a, str>>>, Refusal> {
    scanner.space();
    if scanner.peek() != Some(b'{') {
        // Another value, if it is one.
        scanner.value()?;
        scanner.end()?;
        let message = "the body must be a JSON object";
        return Err(Refusal::Member(ApiError::new(ErrorKind::InvalidJson, message)));
    }
    scanner.expect(b'{')?;
    scanner.space();
    let mut found: Vec<Member<Cow<'_, str>>> = Vec::new();
    let mut is_more = !scanner.take(b'}');
    while is_more {
        let start = scanner.at();
        scanner.string()?;
        let key = key_text(&text[start..scanner.at()]);
        scanner.colon()?;
        let value_start = scanner.at();
        scanner.value()?;
        let value = value_start..scanner.at();
        admit(&found, &key).map_err(Refusal::Member)?;
        found.push(Member { key, start, value });
        scanner.space();
        is_more = scanner.take(b',');
        if is_more {
            scanner.space();
        } else {
            scanner.expect(b'}')?;
        }
    }
    scanner.end()?;
    Ok(found)
}

/// Whether one more member may have this key.
fn admit(found: &[Member<Cow<'_, str>>], key: &str) -> Result<(), ApiError> {
    if found.len() == MEMBERS_MAX {
        let message = format!("the body has more than {MEMBERS_MAX} members");
        return Err(ApiError::new(ErrorKind::InvalidJson, message));
    }
    if found.iter().any(|other| other.key == key) {
        let message = format!("the member \"{}\" occurs twice", printable(key));
        return Err(ApiError::new(ErrorKind::InvalidParameter, message).with_param(printable(key)));
    }
    Ok(())
}

/// Says where the text stops being what it should be, and nothing of it.
fn not_json(text: &[u8], at: usize, problem: Problem) -> ApiError {
    let before = &text[..at];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = 1 + before.len() - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let message = match problem {
        Problem::Malformed => format!("the body is not valid JSON (line {line}, column {column})"),
        Problem::TooDeep => {
            format!("the body nests deeper than {DEPTH_MAX} levels (line {line}, column {column})")
        }
    };
    ApiError::new(ErrorKind::InvalidJson, message)
}

/// Applies `edit` to each of `members` of `text` and appends `added` members at the end. Copies only where a member is
/// not kept, or where somebody else holds the text too.
pub(crate) fn splice<K>(
    text: Bytes,
    members: &[Member<K>],
    edit: impl Fn(&Member<K>) -> Edit,
    added: &[(&str, String)],
) -> Bytes {
    let edits: Vec<Edit> = members.iter().map(edit).collect();
    // Everything up to the first member, and everything after the last, with the braces.
    let open = members.first().map_or_else(|| skip_space(&text, 0) + 1, |first| first.start);
    let close = members.last().map_or(open, |last| last.value.end);
    if edits.iter().all(|edit| matches!(edit, Edit::Keep)) {
        return if added.is_empty() { text } else { append(text, close, members.is_empty(), added) };
    }
    let mut out = BytesMut::with_capacity(text.len() + 64);
    out.extend_from_slice(&text[..open]);
    let mut is_first = true;
    for (index, (member, edit)) in members.iter().zip(&edits).enumerate() {
        if matches!(edit, Edit::Remove) {
            continue;
        }
        if !is_first {
            // The comma and white space in front of this member, as they were written.
            let before = members[index - 1].value.end;
            out.extend_from_slice(&text[before..member.start]);
        }
        is_first = false;
        match edit {
            Edit::Replace(value) => {
                out.extend_from_slice(&text[member.start..member.value.start]);
                out.extend_from_slice(value.as_bytes());
            }
            Edit::Keep | Edit::Remove => out.extend_from_slice(&text[member.start..member.value.end]),
        }
    }
    put(&mut out, is_first, added);
    out.extend_from_slice(&text[close..]);
    out.freeze()
}

/// Adds members behind the last one, which ends at `close`. A text that nobody else holds is not copied for that.
fn append(text: Bytes, close: usize, is_empty: bool, added: &[(&str, String)]) -> Bytes {
    let mut out = text.try_into_mut().unwrap_or_else(|shared| {
        let mut copy = BytesMut::with_capacity(shared.len() + 64);
        copy.extend_from_slice(&shared);
        copy
    });
    let end = out[close..].to_vec();
    out.truncate(close);
    put(&mut out, is_empty, added);
    out.extend_from_slice(&end);
    out.freeze()
}

fn put(out: &mut BytesMut, mut is_first: bool, added: &[(&str, String)]) {
    for (key, value) in added {
        let comma = if is_first { "" } else { "," };
        is_first = false;
        out.extend_from_slice(format!("{comma}\"{key}\":{value}").as_bytes());
    }
}

/// How many elements `array` has, which is the JSON text of an array within a text that [`members`] accepted.
///
/// # Errors
/// [`ErrorKind::InvalidJson`] if it is no such text.
pub(crate) fn count_elements(array: &[u8]) -> Result<usize, ApiError> {
    let mut scanner = Scanner::new(array);
    elements(&mut scanner).map_err(|problem| not_json(array, scanner.at(), problem))
}

fn elements(scanner: &mut Scanner<'_>) -> Result<usize, Problem> {
    scanner.expect(b'[')?;
    scanner.space();
    if scanner.take(b']') {
        return Ok(0);
    }
    let mut count = 1;
    loop {
        scanner.value()?;
        scanner.space();
        if !scanner.take(b',') {
            scanner.expect(b']')?;
            return Ok(count);
        }
        scanner.space();
        count += 1;
    }
}

/// The first byte of the first element of an array, or its closing bracket.
pub(crate) fn first_of_array(array: &[u8]) -> u8 {
    array[skip_space(array, 1)]
}

/// A key in an error message: bounded, so that an answer does not grow with the request.
pub(crate) fn printable(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn key_text(quoted: &[u8]) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    match std::str::from_utf8(inner) {
        Ok(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        // A lone surrogate is a legal escape and no text: such a key is unknown to us whatever it becomes.
        _ => Cow::Owned(serde_json::from_slice(quoted).unwrap_or_else(|_| String::from("\u{fffd}"))),
    }
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn kind(text: &str) -> ErrorKind {
        members(text.as_bytes()).unwrap_err().kind()
    }

    fn spliced(text: &str, edit: impl Fn(&str) -> Edit, added: &[(&str, String)]) -> String {
        let text = Bytes::copy_from_slice(text.as_bytes());
        let found = members(&text).unwrap();
        let out = splice(text.clone(), &found, |member| edit(&member.key), added);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn members_are_found_with_their_values() {
        let text = br#" { "a" : [1, {"x": "]\"}"}] ,"b":-1.50e3, "\u0063\"":null } "#;
        let found = members(text).unwrap();
        let seen: Vec<(&str, &[u8])> = found.iter().map(|m| (&*m.key, &text[m.value.clone()])).collect();
        let expected: [(&str, &[u8]); 3] =
            [("a", br#"[1, {"x": "]\"}"}]"#), ("b", b"-1.50e3"), ("c\"", b"null")];
        assert_eq!(seen, expected);
        assert!(members(b"{}").unwrap().is_empty());
    }

    #[test]
    fn elements_are_counted_without_a_tree() {
        for (text, count) in [
            ("[]", 0),
            ("[ \n]", 0),
            ("[1]", 1),
            ("[\"a,]\", [1,2,[3]] ,{\"x\":[1,2]}, null ]", 4),
            ("[[1],[2,3]]", 2),
        ] {
            assert_eq!(count_elements(text.as_bytes()).unwrap(), count, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for refused in
            ["", "[]", "7", "null", "{", "{\"a\":}", "{\"a\":1}x", "{\"a\":01}", "{'a':1}", "{\"a\":\u{1}}"]
        {
            assert_eq!(kind(refused), ErrorKind::InvalidJson, "{refused:?}");
        }
        assert!(members(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
    }

    #[test]
    fn members_given_twice_are_refused_by_name() {
        let error = members(br#"{"model":"a","mod\u0065l":"b"}"#).unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidParameter, Some("model")));
    }

    #[test]
    fn depth_and_number_of_members_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(members(nested(DEPTH_MAX as usize - 1).as_bytes()).is_ok());
        assert_eq!(kind(&nested(DEPTH_MAX as usize)), ErrorKind::InvalidJson);
        let wide = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(members(wide(MEMBERS_MAX).as_bytes()).is_ok());
        assert_eq!(kind(&wide(MEMBERS_MAX + 1)), ErrorKind::InvalidJson);
    }

    #[test]
    fn kept_bytes_stay_as_they_were() {
        let remove_x = |key: &str| if key.starts_with('x') { Edit::Remove } else { Edit::Keep };
        assert_eq!(spliced("{ \"a\" : 1.0 ,\n \"b\":2}", |_| Edit::Keep, &[]), "{ \"a\" : 1.0 ,\n \"b\":2}");
        assert_eq!(spliced("{\"x\":1, \"a\":2 }", remove_x, &[]), "{\"a\":2 }");
        assert_eq!(spliced("{\"a\":2 ,\"x1\":1, \"x2\":1 }", remove_x, &[]), "{\"a\":2 }");
        assert_eq!(spliced("{\"a\":2 ,\"x1\":1, \"b\":1e0 }", remove_x, &[]), "{\"a\":2, \"b\":1e0 }");
        assert_eq!(spliced("{ \"x\":1 }", remove_x, &[]), "{  }");
        let added = [("m", "7".to_owned())];
        assert_eq!(spliced("{}", remove_x, &added), "{\"m\":7}");
        assert_eq!(spliced(" { } ", remove_x, &added), " {\"m\":7 } ");
        assert_eq!(spliced("{\"x\":0}", remove_x, &added), "{\"m\":7}");
        assert_eq!(spliced("{\"a\":[] }", remove_x, &added), "{\"a\":[],\"m\":7 }");
        let replace = |_: &str| Edit::Replace("{}".to_owned());
        assert_eq!(spliced("{\"a\" :[1] , \"b\":2}", replace, &[]), "{\"a\" :{} , \"b\":{}}");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn splicing_agrees_with_editing_a_tree(
            object in prop::collection::btree_map("[a-f\"\\\\é]{0,3}", json(), 0..6),
            removed in "[a-f]",
            pretty: bool,
        ) {
            let object: Map<String, Value> = object.into_iter().collect();
            let text = match pretty {
                true => serde_json::to_string_pretty(&object).unwrap(),
                false => serde_json::to_string(&object).unwrap(),
            };
            // Read back, because a parsed float may differ from the printed one in its last place.
            let mut tree: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let edit = |key: &str| if key.starts_with(&removed) { Edit::Remove } else { Edit::Keep };
            let out = spliced(&text, edit, &[("added", "[1]".to_owned())]);
            tree.retain(|key, _| !key.starts_with(&removed));
            tree.insert("added".to_owned(), serde_json::json!([1]));
            prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(&out).unwrap(), tree);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[{}\\[\\]\",:a0\\\\ ]{0,24}") {
            let _ = members(&bytes);
            let _ = members(text.as_bytes());
        }
    }
}
