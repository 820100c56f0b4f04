//! A small, strict JSON reader (RFC 8259) for the credential and metadata
//! services' documents.

const MAX_DEPTH: usize = 32;

/// A JSON value; numbers are kept as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    /// The text under `name`; empty when this is no object or holds no such text.
    pub fn text(&self, name: &str) -> &str {
        let Json::Map(pairs) = self else { return "" };
        match pairs.iter().find(|pair| pair.0 == name) {
            Some((_, Json::Text(text))) => text,
            _ => "",
        }
    }
}

/// Reads one document. None if it isn't JSON, goes on after its end, or nests
/// deeper than 32.
pub fn parse(text: &str) -> Option<Json> {
    let mut reader = Reader { rest: text };
    let value = reader.value(0)?;
    reader.space();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.space();
        if self.eat("{") {
            let mut pairs = Vec::new();
            self.sequence("}", |reader| {
                reader.space();
                let name = reader.string()?;
                reader.token(":")?;
                pairs.push((name, reader.value(depth + 1)?));
                Some(())
            })?;
            return Some(Json::Map(pairs));
        }
        if self.eat("[") {
            let mut list = Vec::new();
            self.sequence("]", |reader| {
                list.push(reader.value(depth + 1)?);
                Some(())
            })?;
            return Some(Json::List(list));
        }
        if self.rest.starts_with('"') {
            return self.string().map(Json::Text);
        }
        for (word, value) in [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ] {
            if self.eat(word) {
                return Some(value);
            }
        }
        self.number()
    }

    /// The elements of a list or object, separated by commas, up to `end`.
    fn sequence(&mut self, end: &str, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.space();
        if self.eat(end) {
            return Some(());
        }
        loop {
            element(self)?;
            self.space();
            if self.eat(end) {
                return Some(());
            }
            self.token(",")?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let ends = |c: char| !(c.is_ascii_digit() || "+-.eE".contains(c));
        let (number, rest) = self
            .rest
            .split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        // f64 takes what JSON doesn't: 01, 1., +1, .5
        let digits = number.strip_prefix('-').unwrap_or(number);
        let whole = &digits[..digits.find(['.', 'e', 'E']).unwrap_or(digits.len())];
        let fraction = digits[whole.len()..].strip_prefix('.').unwrap_or("0");
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        if !digit(whole) || !digit(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        number.parse::<f64>().ok()?;
        self.rest = rest;
        Some(Json::Number(number.to_string()))
    }

    fn string(&mut self) -> Option<String> {
        self.rest = self.rest.strip_prefix('"')?;
        let mut out = String::new();
        loop {
            let mut chars = self.rest.chars();
            let c = chars.next()?;
            self.rest = chars.as_str();
            match c {
                '"' => return Some(out),
                '\\' => out.push(self.escape()?),
                c if c < ' ' => return None,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = self.hex4()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high);
                }
                self.rest = self.rest.strip_prefix("\\u")?;
                let low = self.hex4()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = &self.rest[4..];
        u32::from_str_radix(digits, 16).ok()
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn token(&mut self, token: &str) -> Option<()> {
        self.space();
        self.eat(token).then_some(())
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_documents() {
        let value = parse(
            r#" {"Code" : "Success", "N": -1.5e3, "L": [1, true, null, [], {}],
                "T": "a\"\\\/\n\u00e9\ud83d\ude00", "M": {"x": "y"}} "#,
        )
        .unwrap();
        assert_eq!(value.text("Code"), "Success");
        assert_eq!(value.text("T"), "a\"\\/\n\u{e9}\u{1f600}");
        assert_eq!(value.text("N"), "");
        assert_eq!(value.text("absent"), "");
        assert_eq!(parse("0"), Some(Json::Number("0".to_string())));
        assert_eq!(parse("[]").map(|v| v.text("x").to_string()), Some(String::new()));
    }

    #[test]
    fn broken_documents_are_none() {
        for text in [
            "",
            "{",
            "}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "nul",
            "01",
            "-",
            "1.",
            "+1",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\n\"",
            "1 2",
            "{a:1}",
            "'a'",
            "NaN",
            "\"\\u00é\"",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
    }
}
