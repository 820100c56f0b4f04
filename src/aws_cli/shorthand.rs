//! The AWS CLI's shorthand syntax → `Value` (AWS CLI User Guide, "Using shorthand syntax").
//!
//! `Key=value,Key=a,b,Key=[a,b],Key={Key=value}`; a value in quotes may hold any of `, = ] }`;
//! `Key@=file://PATH` reads the value from a file. Which list or scalar a value is, its text alone
//! decides: `Key=a,b` is a list. Types come later, from the shape.

use crate::core::text::value::{MAX_DEPTH, MAX_KEYS, Map, Value};

/// Reads one `Key@=file://…` value.
pub type Load<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Parses one shorthand word, always into a `Value::Map`. Err says what was expected where.
pub fn parse(text: &str, load: Load) -> Result<Value, String> {
    let mut reader = Reader {
        text,
        at: 0,
        from_file: false,
        load,
    };
    let mut map = Map::default();
    loop {
        let key = reader.key()?;
        let value = reader.values()?;
        add(&mut map, key, value)?;
        if reader.at == text.len() {
            return Ok(Value::Map(map));
        }
        reader.expect(',')?;
    }
}

/// Refuses a repeated key, as the AWS CLI does outside of `{}`. Inside of them it keeps the last one;
/// nobody can have meant that.
fn add(map: &mut Map, key: String, value: Value) -> Result<(), String> {
    if map.get(&key).is_some() {
        return Err(format!(
            "second {key}= in one word; a new list element is a new word, after a blank"
        ));
    }
    if map.0.len() == MAX_KEYS {
        return Err(format!("more than {MAX_KEYS} keys"));
    }
    map.0.push((key, value));
    Ok(())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether the current key was written `Key@=`.
    from_file: bool,
    load: Load<'a>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches(is_blank).len();
    }

    fn error(&self, expected: &str) -> String {
        let rest: String = self.rest().chars().take(20).collect();
        match rest.is_empty() {
            true => format!("expected {expected} at the end of {:?}", self.text),
            false => format!("expected {expected} before {rest:?}"),
        }
    }

    /// Skips `c` and the blanks around it, if it comes next.
    fn skip(&mut self, c: char) -> bool {
        self.skip_blanks();
        let found = self.next() == Some(c);
        if found {
            self.at += c.len_utf8();
            self.skip_blanks();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        match self.skip(c) {
            true => Ok(()),
            false => Err(self.error(&format!("`{c}`"))),
        }
    }

    /// `Key=` or `Key@=`.
    fn key(&mut self) -> Result<String, String> {
        let in_key = |c: char| c.is_ascii_alphanumeric() || "-_.#/:".contains(c);
        let rest = self.rest();
        let key = &rest[..rest.len() - rest.trim_start_matches(in_key).len()];
        self.at += key.len();
        self.from_file = self.skip('@');
        self.expect('=')?;
        Ok(key.to_string())
    }

    /// A value outside of brackets: `a`, `a,b`, `[…]`, `{…}`.
    fn values(&mut self) -> Result<Value, String> {
        if let Some('[' | '{') = self.next() {
            return self.element(0);
        }
        let first = Value::Word(self.scalar()?);
        let mut list = vec![first.clone()];
        // `a,b,Key=c`: a word after a comma is one more value, unless a `=` makes it the next key.
        loop {
            self.skip_blanks();
            let mut comma = self.at;
            if self.next() != Some(',') {
                break;
            }
            self.skip(',');
            let word = match self.next() {
                None => return Err(self.error("a value")),
                Some('\'' | '"') => Some(self.quoted()?),
                Some(c) if starts_value(c) => Some(self.plain(|c| !matches!(c, '"' | '\'' | ',' | '='))),
                Some(c) => {
                    // The AWS CLI overlooks one doubled comma.
                    if c == ',' {
                        comma = self.at;
                    }
                    None
                }
            };
            self.skip_blanks();
            match word {
                Some(word) if matches!(self.next(), None | Some(',')) => {
                    list.push(Value::Word(self.loaded(word)?));
                }
                _ => {
                    self.at = comma;
                    break;
                }
            }
        }
        match list.len() {
            1 => Ok(first),
            _ => Ok(Value::List(list)),
        }
    }

    /// A value inside of brackets, where a comma ends it.
    fn element(&mut self, depth: u32) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(self.error("less nesting"));
        }
        match self.next() {
            Some('[') => {
                self.expect('[')?;
                let mut list = Vec::new();
                while self.next() != Some(']') {
                    list.push(self.element(depth + 1)?);
                    self.separator(']')?;
                }
                self.at += 1;
                Ok(Value::List(list))
            }
            Some('{') => {
                self.expect('{')?;
                let mut map = Map::default();
                while self.next() != Some('}') {
                    let key = self.key()?;
                    let value = self.element(depth + 1)?;
                    add(&mut map, key, value)?;
                    self.separator('}')?;
                }
                self.at += 1;
                Ok(Value::Map(map))
            }
            _ => Ok(Value::Word(self.scalar()?)),
        }
    }

    fn separator(&mut self, close: char) -> Result<(), String> {
        self.skip_blanks();
        match self.next() {
            Some(c) if c == close => Ok(()),
            _ => self.expect(','),
        }
    }

    /// A quoted value, or one that ends at the first of `, ] }` and quotes. It may be empty.
    fn scalar(&mut self) -> Result<String, String> {
        let word = match self.next() {
            Some('\'' | '"') => self.quoted()?,
            Some(c) if starts_value(c) => self.plain(|c| !matches!(c, '"' | '\'' | ',' | ']' | '}')),
            _ => String::new(),
        };
        self.loaded(word)
    }

    fn loaded(&self, word: String) -> Result<String, String> {
        match self.from_file {
            true => (self.load)(&word),
            false => Ok(word),
        }
    }

    /// The first character and those after it that `continues` accepts; `\,` stands for a comma.
    fn plain(&mut self, continues: fn(char) -> bool) -> String {
        let start = self.at;
        while let Some(c) = self.next() {
            if self.rest().starts_with("\\,") {
                self.at += 2;
            } else if self.at == start || continues(c) {
                self.at += c.len_utf8();
            } else {
                break;
            }
        }
        let word = self.text[start..self.at].replace("\\,", ",");
        word.trim_end_matches(is_blank).to_string()
    }

    /// A backslash escapes the quote and itself; if only an escaped quote could close, it does.
    fn quoted(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let quote = &rest[..1];
        let mut close = None;
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            if rest[at..].starts_with(quote) {
                close = Some(at);
                if !escaped {
                    break;
                }
            }
            escaped = c == '\\';
        }
        let Some(close) = close else {
            return Err(self.error(&format!("a closing {quote}")));
        };
        self.at += close + 1;
        let inner = &rest[1..close];
        Ok(inner.replace(&format!("\\{quote}"), quote).replace("\\\\", "\\"))
    }
}

/// What an unquoted value can begin with. `]` and `}` can, but as later characters they end it.
fn starts_value(c: char) -> bool {
    c > ' ' && !matches!(c, '"' | '\'' | ',' | '=' | '[' | '{')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value as one line: `a`, `[a|b]`, `{k:v}`.
    fn show(value: &Value) -> String {
        match value {
            Value::Word(word) => word.clone(),
            Value::List(list) => {
                let parts: Vec<_> = list.iter().map(show).collect();
                format!("[{}]", parts.join("|"))
            }
            Value::Map(map) => {
                let parts: Vec<_> = map.0.iter().map(|(k, v)| format!("{k}:{}", show(v))).collect();
                format!("{{{}}}", parts.join("|"))
            }
            other => format!("{other:?}"),
        }
    }

    fn read(text: &str) -> Result<String, String> {
        parse(text, &|word| Ok(format!("<{word}>"))).map(|value| show(&value))
    }

    #[test]
    fn reads_values_lists_and_maps() {
        for (text, value) in [
            ("K=v", "{K:v}"),
            ("K=", "{K:}"),
            ("K=,L=", "{K:|L:}"),
            ("K=v,L=w", "{K:v|L:w}"),
            ("K=a,b,L=c,d", "{K:[a|b]|L:[c|d]}"),
            ("K=a,,L=b", "{K:a|L:b}"),
            ("K=a=b", "{K:a=b}"),
            ("K=[a,b],L={M=[x,{N=y}],O=}", ""),
            ("K=[a, b , c]", "{K:[a|b|c]}"),
            ("K=[a,,b,]", "{K:[a||b]}"),
            ("K=[]", "{K:[]}"),
            ("K=[[a,b],[c]]", "{K:[[a|b]|[c]]}"),
            ("K={L=v,M={N=w}},O=x", "{K:{L:v|M:{N:w}}|O:x}"),
            ("K=[{L=v,M=w},{L=x}]", "{K:[{L:v|M:w}|{L:x}]}"),
            ("K = v w , L = x ", "{K:v w|L:x}"),
            ("K=\"a,b\",L='c=d]'", "{K:a,b|L:c=d]}"),
            ("K='a','b,c'", "{K:[a|b,c]}"),
            (r"K='it\'s',L='\\n'", r"{K:it's|L:\n}"),
            (r"K='C:\'", r"{K:C:\}"),
            (r"K=a\,b,L=c", "{K:a,b|L:c}"),
            (r"K=x,a\,b", "{K:[x|a,b]}"),
            ("K=x,y[z],w}v", "{K:[x|y[z]|w}v]}"),
            ("K@=file://x,L=file://y", "{K:<file://x>|L:file://y}"),
            ("K={L@=a,M=b}", "{K:{L:<a>|M:b}}"),
            ("a:b/c=d#e;f", "{a:b/c:d#e;f}"),
        ] {
            match value {
                "" => assert!(read(text).is_err(), "{text}"),
                _ => assert_eq!(read(text).unwrap(), value, "{text}"),
            }
        }
    }

    #[test]
    fn refuses_what_the_aws_cli_refuses() {
        for text in [
            "",
            "K",
            "v,K=v",
            "K=a,",
            "K=v,,,L=w",
            "K=[a",
            "K={L=v",
            "K=[a]x",
            "K='a",
            "K=a]",
            "K=a\"",
            "K={L=}",
            "K=x,y[z=1]",
            "K=v,K=w",
            "K={L=v,L=w}",
            "K=v,[a]",
            " K=v",
        ] {
            assert!(read(text).is_err(), "{text} {:?}", read(text));
        }
    }
}
