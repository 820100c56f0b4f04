//! The profile that the shared AWS files hold for us.

use super::shared_files::{Section, SharedFile};
use super::{Env, Failure, Settings, var};

/// What both files say about one profile. It may hold secrets: no `Debug`.
pub struct Profile {
    pub name: String,
    /// Its section in ~/.aws/credentials.
    pub credentials: Section,
    /// Its section in ~/.aws/config.
    pub config: Section,
    /// The services section that it refers to.
    pub services: Section,
    /// Where the files were looked for, and what came of it; for people.
    pub notes: [String; 2],
    /// True if it was asked for by name and is in neither file.
    pub missing: bool,
}

impl Profile {
    /// Reads the files. One that is absent or unreadable counts as empty; one
    /// that is broken is an error with its line.
    pub fn load(settings: &Settings, env: &Env) -> Result<Profile, Failure> {
        let asked = settings
            .profile
            .clone()
            .unwrap_or_else(|| var(env, "AWS_PROFILE"));
        let named = !asked.is_empty();
        let name = if named { asked } else { "default".to_string() };
        let (credentials, credentials_note) = read(env, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")?;
        let (config, config_note) = read(env, "AWS_CONFIG_FILE", "~/.aws/config")?;
        let in_credentials = credentials.profile(&name).cloned();
        let in_config = config.profile(&name).cloned();
        let missing = named && in_credentials.is_none() && in_config.is_none();
        let in_config = in_config.unwrap_or_default();
        let note = |note: String| match note.is_empty() {
            true => "not in it".to_string(),
            false => note,
        };
        Ok(Profile {
            credentials: in_credentials.unwrap_or_default(),
            services: config
                .services(in_config.get("services"))
                .cloned()
                .unwrap_or_default(),
            config: in_config,
            notes: [note(credentials_note), note(config_note)],
            name,
            missing,
        })
    }

    /// The setting `key` of ~/.aws/config, else of ~/.aws/credentials.
    pub fn get(&self, key: &str) -> &str {
        match self.config.get(key) {
            "" => self.credentials.get(key),
            value => value,
        }
    }
}

/// Where the file of `variable` is, for messages and for opening.
pub fn path(env: &Env, variable: &str, default: &str) -> String {
    let named = var(env, variable);
    let path = if named.is_empty() { default } else { &named };
    match path.strip_prefix("~/") {
        Some(rest) if !var(env, "HOME").is_empty() => format!("{}/{rest}", var(env, "HOME")),
        _ => path.to_string(),
    }
}

/// The file and, unless it could be read, why not.
fn read(env: &Env, variable: &str, default: &str) -> Result<(SharedFile, String), Failure> {
    let path = path(env, variable, default);
    if path.starts_with("~/") {
        return Ok((SharedFile::default(), "HOME is unset".to_string()));
    }
    match std::fs::read(&path) {
        Ok(bytes) => SharedFile::parse(&String::from_utf8_lossy(&bytes))
            .map(|file| (file, String::new()))
            .map_err(|(line, what)| Failure::Config(format!("{path}:{line}: {what}"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok((SharedFile::default(), "absent".to_string()))
        }
        Err(e) => Ok((SharedFile::default(), e.to_string())),
    }
}
