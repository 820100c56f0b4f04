//! ~/.aws/credentials and ~/.aws/config, or the files that variables name: sections of `key = value`, where
//! an indented line under a key is a setting of its own (`services` sections). As in the AWS CLI, `#` and `;`
//! start a comment only at the start of a line. Where `HOME` is unset, `system/machine.rs` knows it.

use super::{Env, Failure, first_set, var};

/// One of the two. It may hold secrets: no `Debug`.
pub struct File {
    pub path: String,
    pub content: SharedFile,
    /// Why it could not be read; empty if it was.
    pub note: String,
}

/// A parsed file.
#[derive(Default)]
pub struct SharedFile(Vec<Section>);

/// One section; it may hold secrets and therefore has no `Debug`.
#[derive(Default, Clone)]
pub struct Section {
    name: String,
    /// Section-wide settings have an empty first part, nested ones their parent's name.
    settings: Vec<(String, String, String)>,
}

impl SharedFile {
    /// Parses a file. The error is the line's number, from 1, and what is wrong.
    pub fn parse(text: &str) -> Result<SharedFile, (usize, &'static str)> {
        let mut sections: Vec<Section> = Vec::new();
        let mut parent = String::new();
        for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = raw.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(header) = raw.strip_prefix('[') {
                let (name, _) = header.split_once(']').ok_or((index + 1, "[ without ]"))?;
                parent.clear();
                sections.push(Section {
                    name: header_name(name),
                    settings: Vec::new(),
                });
                continue;
            }
            let section = sections
                .last_mut()
                .ok_or((index + 1, "a setting before any section"))?;
            let nested = raw.starts_with([' ', '\t']) && !parent.is_empty();
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key.trim().to_ascii_lowercase(), value.trim().to_string()),
                None if nested => continue, // the rest of a folded value, of no use here
                None => return Err((index + 1, "neither a section nor key = value")),
            };
            if nested {
                section.settings.push((parent.clone(), key, value));
            } else {
                // Only an empty value can have settings of its own.
                parent = if value.is_empty() {
                    key.clone()
                } else {
                    String::new()
                };
                section.settings.push((String::new(), key, value));
            }
        }
        Ok(SharedFile(sections))
    }

    /// The section of a profile; ~/.aws/config writes `profile NAME`,
    /// ~/.aws/credentials and `default` the bare name.
    pub fn profile(&self, name: &str) -> Option<&Section> {
        self.section(&format!("profile {name}"))
            .or_else(|| self.section(name))
    }

    /// The section `services NAME` of ~/.aws/config.
    pub fn services(&self, name: &str) -> Option<&Section> {
        self.section(&format!("services {name}"))
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.0.iter().rev().find(|section| section.name == name)
    }
}

impl Section {
    /// With the settings of `other`, which go before its own.
    pub fn under(mut self, other: Option<&Section>) -> Section {
        self.settings.extend(
            other
                .into_iter()
                .flat_map(|section| section.settings.iter().cloned()),
        );
        self
    }

    /// The value of `key` (lower case); empty when there is none.
    pub fn get(&self, key: &str) -> &str {
        self.nested("", key)
    }

    /// The value of `key` under `parent`, both in lower case; empty when there is none.
    pub fn nested(&self, parent: &str, key: &str) -> &str {
        let mut newest_first = self.settings.iter().rev();
        newest_first
            .find(|setting| setting.0 == parent && setting.1 == key)
            .map_or("", |setting| &setting.2)
    }
}

/// `profile "a b"` and `profile  a` as `profile a b` and `profile a`.
fn header_name(text: &str) -> String {
    match text.trim().split_once(char::is_whitespace) {
        Some((kind, name)) => format!("{kind} {}", name.trim().trim_matches(['"', '\''])),
        None => text.trim().to_string(),
    }
}

/// Where the file of `variable` is, for messages and for opening.
fn path(env: &Env, variable: &str, default: &str) -> String {
    let named = var(env, variable);
    let path = first_set([&named, default]);
    match path.strip_prefix("~/") {
        Some(rest) if !var(env, "HOME").is_empty() => format!("{}/{rest}", var(env, "HOME")),
        _ => path.to_string(),
    }
}

/// Reads the file of `variable`, else the `default` one. One that is absent or unreadable counts as empty.
///
/// # Errors
/// Config: it is broken, with the line.
pub fn read(env: &Env, variable: &str, default: &str) -> Result<File, Failure> {
    let path = path(env, variable, default);
    let (content, note) = match path.starts_with("~/") {
        true => (SharedFile::default(), "HOME is unset".to_string()),
        false => match std::fs::read(&path) {
            Ok(bytes) => {
                let parsed = SharedFile::parse(&String::from_utf8_lossy(&bytes));
                let parsed =
                    parsed.map_err(|(line, what)| Failure::Config(format!("{path}:{line}: {what}")))?;
                (parsed, String::new())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                (SharedFile::default(), "absent".to_string())
            }
            Err(e) => (SharedFile::default(), e.to_string()),
        },
    };
    Ok(File { path, content, note })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\u{feff}# comment\r\n[default]\r\nregion = eu-west-1\r\n\n\
        [profile dev]\nREGION=us-west-2\nendpoint_url = http://x/?a=b\nservices = mine\n\
        s3 =\n  region = nowhere\nca_bundle = /ca#1.pem\n; c\n[profile \"a b\"]\nregion = r\n\
        [services mine]\nec2 =\n  endpoint_url = http://localhost:1\nauto_scaling =\n\tendpoint_url=http://localhost:2\n";

    #[test]
    fn config_file() {
        let file = SharedFile::parse(CONFIG).ok().unwrap();
        assert_eq!(file.profile("default").unwrap().get("region"), "eu-west-1");
        let dev = file.profile("dev").unwrap();
        assert_eq!(dev.get("region"), "us-west-2");
        assert_eq!(dev.get("endpoint_url"), "http://x/?a=b");
        assert_eq!(dev.get("ca_bundle"), "/ca#1.pem");
        assert_eq!(dev.nested("s3", "region"), "nowhere");
        assert_eq!(dev.get("absent"), "");
        assert_eq!(file.profile("a b").unwrap().get("region"), "r");
        assert!(file.profile("none").is_none());
        let services = file.services(dev.get("services")).unwrap();
        assert_eq!(services.nested("ec2", "endpoint_url"), "http://localhost:1");
        assert_eq!(
            services.nested("auto_scaling", "endpoint_url"),
            "http://localhost:2"
        );
    }

    #[test]
    fn credentials_file() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key = s+/=#x\n[two]\n  aws_access_key_id=B\n";
        let file = SharedFile::parse(text).ok().unwrap();
        assert_eq!(
            file.profile("default").unwrap().get("aws_secret_access_key"),
            "s+/=#x"
        );
        assert_eq!(file.profile("two").unwrap().get("aws_access_key_id"), "B");
    }

    #[test]
    fn errors_name_their_line() {
        let line = |text| SharedFile::parse(text).err().map(|e| e.0);
        assert_eq!(line("region = x"), Some(1));
        assert_eq!(line("[default\n"), Some(1));
        assert_eq!(line("[default]\n\nnonsense\n"), Some(3));
        assert_eq!(line(""), None);
    }
}
