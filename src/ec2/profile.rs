//! The profiles that the shared AWS files hold for us, and those that are refused.

use super::shared_files::{File, Section, read};
use super::{Env, Failure, Settings, first_set, var};
use std::fmt::Display;

/// Both files. They hold secrets: no `Debug`.
pub struct Files {
    /// ~/.aws/credentials and ~/.aws/config.
    files: [File; 2],
}

/// The profile that counts. It may hold secrets: no `Debug`.
pub struct Profile {
    pub name: String,
    /// What both files say about it; where they differ, ~/.aws/credentials counts.
    own: Section,
    /// The services section that it refers to.
    pub services: Section,
    /// Was it asked for by name?
    pub named: bool,
    pub files: Files,
}

impl Files {
    /// Reads the files. One that is absent or unreadable counts as empty; one
    /// that is broken is an error with its line.
    fn load(env: &Env) -> Result<Files, Failure> {
        Ok(Files {
            files: [
                read(env, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")?,
                read(env, "AWS_CONFIG_FILE", "~/.aws/config")?,
            ],
        })
    }

    /// What both files say about the profile; None if neither has it.
    pub fn profile(&self, name: &str) -> Option<Section> {
        let [credentials, config] = self.files.each_ref().map(|file| file.content.profile(name));
        let known = credentials.or(config).is_some();
        known.then(|| config.cloned().unwrap_or_default().under(credentials))
    }

    /// What each file says, with its place: first ~/.aws/credentials.
    pub fn sections(&self, name: &str) -> [(String, Option<&Section>); 2] {
        self.files
            .each_ref()
            .map(|file| (format!("{} [{name}]", file.path), file.content.profile(name)))
    }

    /// Where a profile was looked for, and why no keys came of it; for people.
    pub fn passed_over(&self, name: &str) -> impl Iterator<Item = String> {
        self.files
            .iter()
            .map(move |file| format!("{} [{name}]: {}", file.path, first_set([&file.note, "not in it"])))
    }

    /// The error of a profile that has to be there.
    pub fn missing(&self, name: &str) -> Failure {
        let [credentials, config] = self.files.each_ref().map(|file| &file.path);
        Failure::Config(format!("profile {name} is in neither {credentials} nor {config}"))
    }
}

impl Profile {
    /// Reads the files, and picks the profile that settings or environment name.
    pub fn load(settings: &Settings, env: &Env) -> Result<Profile, Failure> {
        // In the order of the AWS CLI.
        let variables = ["AWS_DEFAULT_PROFILE", "AWS_PROFILE"].map(|name| var(env, name));
        let asked = settings.profile.iter().chain(&variables);
        let asked = asked.into_iter().find(|name| !name.is_empty());
        let name = asked.map_or("default", String::as_str);
        let files = Files::load(env)?;
        let own = files.profile(name).unwrap_or_default();
        let services = files.files[1].content.services(own.get("services"));
        Ok(Profile {
            name: name.to_string(),
            services: services.cloned().unwrap_or_default(),
            own,
            named: asked.is_some(),
            files,
        })
    }

    /// Its setting `key`.
    pub fn get(&self, key: &str) -> &str {
        self.own.get(key)
    }
}

/// What is wrong with the profile `name`.
pub fn wrong(name: &str, what: impl Display) -> Failure {
    Failure::Config(format!("profile {name}: {what}"))
}

/// Refuses a profile that a person would have to log in for: nobody is there to do so.
///
/// # Errors
/// Config, with what to write instead.
pub fn refuse_login(section: &Section, name: &str) -> Result<(), Failure> {
    let by_login = ["sso_session", "sso_start_url", "login_session"];
    match by_login.into_iter().find(|key| !section.get(key).is_empty()) {
        None => Ok(()),
        Some(key) => {
            let step = format!("aws configure export-credentials --profile {name}, or a role");
            let what = format!("{key}: autoscaler logs in nowhere; use credential_process = {step}");
            Err(wrong(name, what))
        }
    }
}

/// The same for a role that wants a code as well.
///
/// # Errors
/// Config.
pub fn refuse_mfa(section: &Section, name: &str) -> Result<(), Failure> {
    match section.get("mfa_serial") {
        "" => Ok(()),
        _ => Err(wrong(
            name,
            "mfa_serial: nobody is there to type its code; use a role without",
        )),
    }
}
