//! JSON text (RFC 8259) → `Value`, and what is written as it.

use super::value::{MAX_DEPTH, MAX_KEYS, Map, Value};

/// Reads one JSON document. Err says what is wrong and where. Of a repeated key, the last counts.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.error("nothing more")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, expected: &str) -> String {
        let rest: String = self.text[self.at..].chars().take(20).collect();
        match rest.is_empty() {
            true => format!("invalid JSON: expected {expected} at the end"),
            false => format!("invalid JSON: expected {expected} before {rest:?}"),
        }
    }

    /// The next byte that is not blank.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\n', '\r']);
        self.at = self.text.len() - rest.len();
        rest.bytes().next()
    }

    /// Skips `token` if it comes next.
    fn skip(&mut self, token: &str) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: u32) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(self.error("less nesting"));
        }
        match self.peek() {
            Some(b'{') => self.map(depth).map(Value::Map),
            Some(b'[') => self.list(depth).map(Value::List),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.skip("true") => Ok(Value::Bool(true)),
            _ if self.skip("false") => Ok(Value::Bool(false)),
            _ if self.skip("null") => Ok(Value::Null),
            _ => Err(self.error("a value")),
        }
    }

    fn map(&mut self, depth: u32) -> Result<Map, String> {
        let mut map = Map::default();
        self.at += 1;
        if self.skip("}") {
            return Ok(map);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in double quotes"));
            }
            let key = self.string()?;
            if !self.skip(":") {
                return Err(self.error("`:`"));
            }
            let value = self.value(depth + 1)?;
            map.set(&key, value);
            if map.0.len() > MAX_KEYS {
                return Err(self.error("fewer keys"));
            }
            if self.skip("}") {
                return Ok(map);
            }
            if !self.skip(",") {
                return Err(self.error("`,` or `}`"));
            }
        }
    }

    fn list(&mut self, depth: u32) -> Result<Vec<Value>, String> {
        let mut list = Vec::new();
        self.at += 1;
        if self.skip("]") {
            return Ok(list);
        }
        loop {
            list.push(self.value(depth + 1)?);
            if self.skip("]") {
                return Ok(list);
            }
            if !self.skip(",") {
                return Err(self.error("`,` or `]`"));
            }
        }
    }

    /// Numbers stay text: only whole ones are in use, and `wire` refuses all others.
    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let number = &rest[..end];
        let digits = number.trim_start_matches('-');
        let bytes = digits.as_bytes();
        let leading_zero = bytes.len() > 1 && bytes[0] == b'0' && bytes[1].is_ascii_digit();
        let whole_part = digits.starts_with(|c: char| c.is_ascii_digit());
        if leading_zero || !whole_part {
            return Err(self.error("a number"));
        }
        self.at += end;
        Ok(Value::Number(number.to_string()))
    }

    fn string(&mut self) -> Result<String, String> {
        let mut out = String::new();
        self.at += 1;
        loop {
            let Some(c) = self.text[self.at..].chars().next() else {
                return Err(self.error("the closing `\"`"));
            };
            if c < ' ' {
                return Err(self.error("an escaped control character"));
            }
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(out),
                '\\' => out.push(self.escape()?),
                _ => out.push(c),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, String> {
        let Some(c) = self.text[self.at..].chars().next() else {
            return Err(self.error("an escape"));
        };
        let plain = match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            _ => return Err(self.error("an escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// `uXXXX`, or a surrogate pair `uXXXX\uXXXX`.
    fn unicode(&mut self) -> Result<char, String> {
        let first = self.unit()?;
        let mut units = vec![first];
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with('\\') {
            self.at += 1;
            units.push(self.unit()?);
        }
        let decoded = String::from_utf16(&units).ok();
        decoded
            .and_then(|text| text.chars().next())
            .ok_or_else(|| self.error("the other half of a surrogate pair"))
    }

    fn unit(&mut self) -> Result<u16, String> {
        let digits = self.text.get(self.at + 1..self.at + 5).unwrap_or("");
        let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        match u16::from_str_radix(digits, 16) {
            Ok(unit) if hex && self.text[self.at..].starts_with('u') => {
                self.at += 5;
                Ok(unit)
            }
            _ => Err(self.error("`uXXXX`")),
        }
    }
}

/// A JSON object of `members`.
pub fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

/// A JSON string of any text (section 7).
pub fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{0}'..='\u{1f}' => out += &format!("\\u{:04x}", u32::from(c)),
            _ => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_of_value() {
        let value = parse(r#" {"a":[1,-2.5e3, true,false,null,[],{}],"b":"x","b":"y"} "#).unwrap();
        let Value::Map(map) = value else { panic!() };
        assert_eq!(map.0.len(), 2);
        assert_eq!(map.0[1].1, Value::Text("y".into()));
        let Value::List(list) = &map.0[0].1 else { panic!() };
        assert_eq!(list[0], Value::Number("1".into()));
        assert_eq!(list[1], Value::Number("-2.5e3".into()));
        assert_eq!(list[2..5], [Value::Bool(true), Value::Bool(false), Value::Null]);
    }

    #[test]
    fn reads_escapes() {
        let value = parse(r#""\"\\\/\b\f\n\r\té😀é""#).unwrap();
        let text = "\"\\/\u{8}\u{c}\n\r\té\u{1f600}é";
        assert_eq!(value, Value::Text(text.into()));
        let value = parse(r#""\u00e9\ud83d\ude00""#).unwrap();
        assert_eq!(value, Value::Text("é\u{1f600}".into()));
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in [
            "",
            "{",
            "[",
            "[1",
            "[1,",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{a:1}",
            "{'a':1}",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\n\"",
            "[1,]",
            "01",
            "-.5",
            "1 2",
            "tru",
            "+1",
            "-",
            "-.5",
            "\"\\u+123\"",
            "\"\\",
        ] {
            assert!(parse(text).unwrap_err().starts_with("invalid JSON"), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
