//! A value and its shape → parameters of a Query request (EC2 API Reference, "Query requests":
//! lists are `NAME.1`, `NAME.2`, …, booleans `true` and `false`).

use super::shapes::{Member, Shape};
use crate::core::text::value::{Map, Value, integer};
use crate::core::text::words::did_you_mean;

pub type Params = Vec<(String, String)>;

/// Checks `value` against `shape` and appends it to `out` under `name`.
/// `path` says in errors where the value was written: `--placement: PartitionNumber`.
pub fn write(shape: &Shape, value: &Value, name: &str, path: &str, out: &mut Params) -> Result<(), String> {
    if let Some(item) = shape.item() {
        let values = match value {
            Value::List(values) => values,
            // Shorthand writes a list of one without brackets: `Groups=sg-1`, `Tags={Key=a,Value=b}`.
            Value::Word(_) | Value::Map(_) => std::slice::from_ref(value),
            _ => return Err(format!("{path}: must be {}", kind(shape))),
        };
        for (index, value) in (1..).zip(values) {
            write(&item, value, &format!("{name}.{index}"), path, out)?;
        }
        return Ok(());
    }
    let scalar = match (shape, value) {
        (Shape::Structure(members), Value::Map(map)) => {
            return write_members(members, map, name, path, out);
        }
        (Shape::Text, Value::Text(text) | Value::Word(text)) => Ok(text.clone()),
        (Shape::Integer, Value::Number(text) | Value::Word(text)) => integer(text),
        (Shape::Boolean, Value::Bool(yes)) => Ok(yes.to_string()),
        (Shape::Boolean, Value::Word(text)) => match text.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => Ok(word.to_string()),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        (Shape::Time, Value::Text(text) | Value::Word(text)) => match is_utc_time(text) {
            true => Ok(text.clone()),
            false => Err(format!("write {text:?} as YYYY-MM-DDTHH:MM:SSZ")),
        },
        _ => Err(format!("must be {}", kind(shape))),
    };
    let scalar = scalar.map_err(|cause| format!("{path}: {cause}"))?;
    out.push((name.to_string(), scalar));
    Ok(())
}

fn write_members(
    members: &[Member],
    map: &Map,
    name: &str,
    path: &str,
    out: &mut Params,
) -> Result<(), String> {
    for (key, value) in &map.0 {
        let Some(member) = members.iter().find(|member| member.name == key) else {
            let names = members.iter().map(|member| member.name);
            return Err(format!("{path}: unknown key {key:?}{}", did_you_mean(key, names)));
        };
        let name = format!("{name}.{}", member.wire);
        write(&member.shape, value, &name, &format!("{path}: {key}"), out)?;
    }
    for member in members.iter().filter(|member| member.required) {
        if map.get(member.name).is_none() {
            return Err(format!("{path}: {} is missing", member.name));
        }
    }
    Ok(())
}

fn kind(shape: &Shape) -> &'static str {
    match shape {
        Shape::Text => "one text",
        Shape::Integer => "a whole number",
        Shape::Boolean => "true or false",
        Shape::Time => "a time",
        Shape::Structure(_) => "a structure: Key=value,… or JSON",
        Shape::Texts | Shape::Structures(_) => "a list",
    }
}

/// The one form of time that needs no time zone of this machine to be understood.
fn is_utc_time(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:ddZ";
    text.len() == form.len()
        && text.chars().zip(form.chars()).all(|(c, form)| match form {
            'd' => c.is_ascii_digit(),
            _ => c == form,
        })
}

/// User data as RunInstances takes it: at most 16384 bytes, in base64 (RFC 4648, section 4).
pub fn user_data(data: &[u8]) -> Result<String, String> {
    const LIMIT: usize = 16384;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if data.len() > LIMIT {
        return Err(format!("{} bytes, EC2 takes {LIMIT}", data.len()));
    }
    let mut out = String::new();
    for chunk in data.chunks(3) {
        let bytes = [
            0,
            chunk[0],
            *chunk.get(1).unwrap_or(&0),
            *chunk.get(2).unwrap_or(&0),
        ];
        let bits = u32::from_be_bytes(bytes);
        for place in 0..4 {
            match place <= chunk.len() {
                true => out.push(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize].into()),
                false => out.push('='),
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_user_data() {
        for (data, base64) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(user_data(data.as_bytes()).unwrap(), base64);
        }
        assert_eq!(user_data(&[0xfb, 0xff]).unwrap(), "+/8=");
        assert!(user_data(&[0; 16384]).is_ok());
        assert!(user_data(&[0; 16385]).unwrap_err().contains("16384"));
    }

    #[test]
    fn takes_times_in_utc() {
        assert!(is_utc_time("2026-01-02T03:04:05Z"));
        assert!(!is_utc_time("2026-01-02T03:04:05"));
        assert!(!is_utc_time("tomorrow"));
    }
}
