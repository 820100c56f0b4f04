//! The words of one option → `Value` (AWS CLI User Guide, "Specify parameter values").

use super::shapes::Shape;
use super::shorthand;
use crate::core::text::json;
use crate::core::text::value::{Value, integer};

/// Reads the file of a `file://` or `fileb://` value. The path is as written; `~/` is still in front.
pub type Read<'a> = &'a dyn Fn(&str) -> std::io::Result<Vec<u8>>;

/// The value of an option whose parameter has this shape.
pub fn value(shape: &Shape, words: &[String], file: Read) -> Result<Value, String> {
    let from_file = match words {
        [word] => load(word, file)?.map(utf8).transpose()?,
        _ => None,
    };
    let only = from_file
        .as_deref()
        .or(words.first().map(String::as_str))
        .unwrap_or("");
    let is_json_list = words.len() == 1 && only.trim_start().starts_with('[');
    match shape.item() {
        Some(_) if is_json_list => json::parse(only),
        Some(_) if from_file.is_some() => Err("a file for a list holds JSON: […]".into()),
        // One form for all the words: JSON if the first is.
        Some(item) => {
            let json = is_json(only);
            words
                .iter()
                .map(|word| single(&item, word, json, file))
                .collect::<Result<_, _>>()
                .map(Value::List)
        }
        None => single(shape, only, is_json(only), file),
    }
}

fn single(shape: &Shape, said: &str, json: bool, file: Read) -> Result<Value, String> {
    match shape {
        Shape::Structure(_) if json => json::parse(said),
        Shape::Structure(_) => shorthand::parse(said, &|word| text(word, file)),
        Shape::Integer => integer(said).map(Value::Number),
        _ => Ok(Value::Text(said.to_string())),
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// What a word like `file://PATH` stands for. None: it stands for itself.
/// As the AWS CLI does, text (`file://`, not `fileb://`) is read with every line end as LF.
pub fn load(word: &str, file: Read) -> Result<Option<Vec<u8>>, String> {
    if word.starts_with("http://") || word.starts_with("https://") {
        return Err(format!(
            "{word}: autoscaler fetches no values; put it into a file"
        ));
    }
    let (path, is_text) = match (word.strip_prefix("file://"), word.strip_prefix("fileb://")) {
        (Some(path), _) => (path, true),
        (_, Some(path)) => (path, false),
        _ => return Ok(None),
    };
    if path.contains('$') {
        return Err(format!("{word}: autoscaler expands no $ in a path; write it out"));
    }
    if path.starts_with('~') && !path.starts_with("~/") {
        return Err(format!(
            "{word}: autoscaler expands no ~ but its own user's; write it out"
        ));
    }
    let bytes = file(path).map_err(|cause| format!("{word}: {cause}"))?;
    match is_text {
        true => utf8(bytes)
            .map(|text| Some(text.replace("\r\n", "\n").replace('\r', "\n").into_bytes()))
            .map_err(|cause| format!("{word}: {cause}; bytes are for fileb://")),
        false => Ok(Some(bytes)),
    }
}

/// What a word says, by itself or by the file that it names.
pub fn text(word: &str, file: Read) -> Result<String, String> {
    load(word, file)?.map_or(Ok(word.to_string()), utf8)
}

/// Bytes as text.
fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_string())
}
