//! A small, strict reader of the XML that the Query APIs answer with.
//!
//! In scope: elements, text, the five entities and character references, CDATA,
//! comments, the declaration; attributes are checked and dropped, prefixes cut.
//! Out of scope, and an error: document types and processing instructions.
//! Size, depth and number of elements are bounded, and a text that ends too
//! early is an error, for a cut answer must never look like a short one.

/// The longest text taken, in bytes.
pub const MAX_SIZE: usize = 8 << 20;
const MAX_DEPTH: usize = 64;
const MAX_ELEMENTS: usize = 200_000;

/// One element: its name without prefix, its text, its children in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// The first element that `path` (names, outermost first) leads to.
    pub fn find(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |at, name| {
            at.children.iter().find(|child| child.name == *name)
        })
    }

    /// The trimmed text at the end of `path`; empty when there is none.
    pub fn text_at(&self, path: &[&str]) -> &str {
        self.find(path).map_or("", |found| found.text.trim())
    }

    /// The text of the child `name` as it stands, blanks and all; empty when there is none.
    pub fn raw(&self, name: &str) -> String {
        self.find(&[name])
            .map_or(String::new(), |found| found.text.clone())
    }

    /// The elements of the list at the end of `path`: `item` as EC2 writes them, `member` as the
    /// other services do.
    pub fn items(&self, path: &[&str]) -> impl Iterator<Item = &Element> {
        let children = self.find(path).map_or(&[][..], |list| &list.children);
        children
            .iter()
            .filter(|child| child.name == "item" || child.name == "member")
    }
}

/// Reads one document. The error says what is wrong and at which byte.
pub fn parse(bytes: &[u8]) -> Result<Element, String> {
    if bytes.len() > MAX_SIZE {
        return Err(format!("XML of more than {MAX_SIZE} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| format!("XML: {e}"))?;
    let mut reader = Reader {
        text: text.strip_prefix('\u{feff}').unwrap_or(text),
        at: 0,
    };
    reader
        .document()
        .map_err(|what| format!("XML: {what} at byte {}", reader.at))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Element, &'static str> {
        if self.eat("<?xml") {
            let declared = self.until("?>")?;
            if !declared.trim_start().starts_with("version") || declared.contains('<') {
                return Err("a broken declaration");
            }
        }
        let mut open: Vec<Element> = Vec::new();
        let mut root = None;
        let mut elements = 0;
        while self.at < self.text.len() {
            if self.eat("<!--") {
                self.until("-->")?;
            } else if self.eat("<![CDATA[") {
                let raw = self.until("]]>")?;
                let element = open.last_mut().ok_or("text outside the root")?;
                element.text.push_str(checked(raw)?);
            } else if self.eat("</") {
                let name = local(self.name()?);
                self.space();
                self.expect(">")?;
                let mut element = open.pop().ok_or("an end tag too many")?;
                if element.name != name {
                    return Err("an end tag that matches no start tag");
                }
                if !element.children.is_empty() && element.text.trim().is_empty() {
                    element.text = String::new(); // only the indentation
                }
                close(element, &mut open, &mut root);
            } else if self.eat("<") {
                if root.is_some() {
                    return Err("a second root");
                }
                elements += 1;
                if open.len() == MAX_DEPTH || elements > MAX_ELEMENTS {
                    return Err("too many elements");
                }
                let element = Element {
                    name: local(self.name()?).to_string(),
                    ..Element::default()
                };
                if self.attributes()? {
                    close(element, &mut open, &mut root);
                } else {
                    open.push(element);
                }
            } else {
                let rest = &self.text[self.at..];
                let raw = &rest[..rest.find('<').unwrap_or(rest.len())];
                match open.last_mut() {
                    Some(element) => unescape(raw, &mut element.text)?,
                    None if raw.trim().is_empty() => {}
                    None => return Err("text outside the root"),
                }
                self.at += raw.len();
            }
        }
        if !open.is_empty() {
            return Err("the text ends inside an element");
        }
        root.ok_or("no element")
    }

    /// Skips attributes and the end of a start tag; true if the element is empty.
    fn attributes(&mut self) -> Result<bool, &'static str> {
        loop {
            let before = self.at;
            self.space();
            if self.eat("/>") {
                return Ok(true);
            }
            if self.eat(">") {
                return Ok(false);
            }
            if self.at == before {
                return Err("a broken tag");
            }
            self.name()?;
            self.space();
            self.expect("=")?;
            self.space();
            let quote = if self.eat("\"") { "\"" } else { "'" };
            if quote == "'" {
                self.expect("'")?;
            }
            let value = self.until(quote)?;
            if value.contains('<') {
                return Err("a broken attribute");
            }
            unescape(value, &mut String::new())?;
        }
    }

    fn name(&mut self) -> Result<&'a str, &'static str> {
        let rest = &self.text[self.at..];
        let ends = |c: char| !(c.is_alphanumeric() || "_-.:".contains(c));
        let name = &rest[..rest.find(ends).unwrap_or(rest.len())];
        let first = name.chars().next().ok_or("a broken name")?;
        if !(first.is_alphabetic() || first == '_') {
            return Err("a broken name");
        }
        self.at += name.len();
        Ok(name)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), &'static str> {
        self.eat(token).then_some(()).ok_or("a broken tag")
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    fn until(&mut self, end: &str) -> Result<&'a str, &'static str> {
        let rest = &self.text[self.at..];
        let found = &rest[..rest.find(end).ok_or("the text ends too early")?];
        self.at += found.len() + end.len();
        Ok(found)
    }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// XML 1.0 allows no control characters but these.
fn checked(text: &str) -> Result<&str, &'static str> {
    let forbidden = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || "\u{fffe}\u{ffff}".contains(c);
    match text.contains(forbidden) {
        true => Err("a forbidden character"),
        false => Ok(text),
    }
}

fn unescape(raw: &str, out: &mut String) -> Result<(), &'static str> {
    let mut rest = checked(raw)?;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, tail) = after.split_once(';').ok_or("a broken entity")?;
        out.push_str(before);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            other => reference(other).ok_or("an unknown entity")?,
        });
        rest = tail;
    }
    out.push_str(rest);
    Ok(())
}

fn reference(name: &str) -> Option<char> {
    let digits = name.strip_prefix('#')?;
    let (digits, radix) = match digits.strip_prefix('x') {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None; // from_str_radix would take a sign
    }
    let c = char::from_u32(u32::from_str_radix(digits, radix).ok()?)?;
    checked(c.encode_utf8(&mut [0; 4])).is_ok().then_some(c)
}

#[cfg(test)]
#[path = "xml_test.rs"]
mod tests;
