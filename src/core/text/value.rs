//! A JSON document, or what the text of an AWS CLI option says before its shape gives it a type.

/// Deeper nesting than any EC2 shape has is an error, so that no input can exhaust the stack.
pub const MAX_DEPTH: u32 = 32;
/// More keys in one map than any EC2 shape has are one too: each is looked for among the others.
pub const MAX_KEYS: usize = 1000;

/// A parsed JSON document or shorthand text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// A JSON string.
    Text(String),
    /// A shorthand scalar: what type it has is for its shape to say.
    Word(String),
    List(Vec<Value>),
    Map(Map),
}

impl Value {
    /// The text under `key`; empty when this is no map or holds no such text.
    pub fn text(&self, key: &str) -> &str {
        match self {
            Value::Map(map) => match map.get(key) {
                Some(Value::Text(text)) => text,
                _ => "",
            },
            _ => "",
        }
    }
}

/// Keys and values, in the order written. There are few: a search from the front is fast enough.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map(pub Vec<(String, Value)>);

impl Map {
    pub fn get(&self, key: &str) -> Option<&Value> {
        let entry = self.0.iter().find(|(name, _)| name == key);
        entry.map(|(_, value)| value)
    }

    /// Sets a key, whether it was there or not.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key.to_string(), value)),
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }
}

/// A whole number as the AWS CLI takes it (blanks around it, a sign, leading zeros), in its plain form.
pub fn integer(text: &str) -> Result<String, String> {
    match text.trim().parse::<i64>() {
        Ok(number) => Ok(number.to_string()),
        Err(_) => Err(format!("{text:?} is not a whole number")),
    }
}
