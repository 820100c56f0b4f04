//! The items of one INI file, looked up by section and key, with the defaults under them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::text::duration;
use crate::core::text::ini::{self, Item};
use crate::core::text::words;
use crate::error::Error;

/// In the place of a line of the file.
const NO_LINE: usize = 0;

/// Who sets keys beside the file, and before it.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    CommandLine,
    /// The master of this name.
    Master(&'a str),
}

/// What the file says, over what the table of keys says.
pub struct Values<'a> {
    path: PathBuf,
    source: Source<'a>,
    items: Vec<Item>,
    keys: &'static [(&'static str, &'static str, &'static str)],
}

impl<'a> Values<'a> {
    /// Splits `text` and refuses what is not in `keys`.
    pub fn read(
        path: &Path,
        text: &str,
        keys: &'static [(&'static str, &'static str, &'static str)],
        source: Source<'a>,
    ) -> Result<Values<'a>, Error> {
        let at = |line: usize, cause: String| Error::config(format!("{}:{line}", path.display()), cause);
        let items = ini::parse(text).map_err(|(line, cause)| at(line, cause))?;
        for (line, name) in section_lines(text) {
            if !keys.iter().any(|(section, ..)| *section == name) {
                let hint = words::did_you_mean(&name, keys.iter().map(|k| k.0));
                return Err(at(line, format!("unknown section [{name}]{hint}")));
            }
        }
        for item in &items {
            let mut of_section = keys.iter().filter(|k| k.0 == item.section).map(|k| k.1);
            if !of_section.clone().any(|key| key == item.key) {
                let hint = words::did_you_mean(&item.key, &mut of_section);
                return Err(at(
                    item.line,
                    format!("unknown key `{}` in [{}]{hint}", item.key, item.section),
                ));
            }
        }
        Ok(Values {
            path: path.into(),
            source,
            items,
            keys,
        })
    }

    /// Puts a value of the other source in the place of the file's.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        self.items.retain(|i| i.section != section || i.key != key);
        self.items.push(Item {
            section: section.into(),
            key: key.into(),
            value: value.into(),
            line: NO_LINE,
        });
    }

    fn item(&self, section: &str, key: &str) -> Option<&Item> {
        self.items.iter().find(|i| i.section == section && i.key == key)
    }

    /// Does the file give it a value?
    pub fn is_set(&self, section: &str, key: &str) -> bool {
        self.item(section, key).is_some_and(|item| !item.value.is_empty())
    }

    /// The value as it stands, or the default. A key that is there but empty is unset.
    pub fn text(&self, section: &str, key: &str) -> String {
        let default = self
            .keys
            .iter()
            .find(|k| k.0 == section && k.1 == key)
            .unwrap_or_else(|| panic!("[{section}] {key} is missing in KEYS"))
            .2;
        match self.item(section, key) {
            Some(item) if !item.value.is_empty() => item.value.clone(),
            _ => default.into(),
        }
    }

    /// The value as `parse` reads it.
    pub fn parsed<T>(
        &self,
        section: &str,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        parse(&self.text(section, key)).map_err(|cause| self.error(section, key, &cause))
    }

    pub fn duration(&self, section: &str, key: &str) -> Result<Duration, Error> {
        self.parsed(section, key, duration::parse)
    }

    /// A comma list; blanks around its members don't count, and empty members are left out.
    pub fn list(&self, section: &str, key: &str) -> Vec<String> {
        let text = self.text(section, key);
        text.split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(String::from)
            .collect()
    }

    /// An error about one key, with its line if the file has it.
    pub fn error(&self, section: &str, key: &str, cause: &str) -> Error {
        match self.item(section, key) {
            Some(item) if item.line == NO_LINE => match self.source {
                Source::CommandLine => Error::usage(format!("--{}", key.replace('_', "-")), cause),
                Source::Master(name) => {
                    Error::config(format!("master {name}"), format!("SET {key}: {cause}"))
                }
            },
            _ => self.place(section, key).error(cause),
        }
    }

    /// Where a key stands.
    pub fn place(&self, section: &str, key: &str) -> Place {
        let path = self.path.display();
        Place {
            at: match self.item(section, key) {
                Some(item) => format!("{path}:{}", item.line),
                None => path.to_string(),
            },
            key: key.into(),
        }
    }
}

/// Where a key stands, for what can be said of its value only later.
#[derive(Debug)]
pub struct Place {
    /// `<file>:<line>`, or the file alone where the key is not in it.
    at: String,
    key: String,
}

impl Place {
    /// A config error about the key's value.
    pub fn error(&self, cause: &str) -> Error {
        Error::config(&self.at, format!("{}: {cause}", self.key))
    }
}

/// The `[section]` lines, which the items alone don't show when a section is empty.
fn section_lines(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    text.lines().enumerate().filter_map(|(index, line)| {
        let name = line.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some((index + 1, name.to_string())).filter(|_| line.starts_with('['))
    })
}
