//! The command line: arguments in, [`Command`] out.

mod simulate;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::core::haproxy::entry;
use crate::core::plan::replace::Whom;
use crate::core::text::words::did_you_mean;
use crate::error::Error;
use crate::help;
use crate::system::log::Level;
pub use simulate::Simulate;

/// Where the INI is when nobody says otherwise.
pub const DEFAULT_INI: &str = "/etc/autoscaler/autoscaler.ini";

/// What is asked for.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Text for stdout: help or the version.
    Print(String),
    Init,
    Master,
    Daemon,
    AddHost(AddHost),
    ListHosts {
        state: bool,
    },
    RemoveHost(RemoveHost),
    Generate(Generate),
    Status(Status),
    /// Here, or on another host.
    Check {
        host: Option<String>,
    },
    Prune(Prune),
    Scale(Scale),
    Replace(Whom),
    /// What the command in `SSH_ORIGINAL_COMMAND` asks for.
    SshGate,
    Simulate(Simulate),
    Set {
        key: String,
        value: String,
    },
}

/// What `add-host` enters.
#[derive(Debug, PartialEq)]
pub struct AddHost {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    pub name: Option<String>,
    pub instance: Option<String>,
    /// Not if it was removed within `boot_timeout`.
    pub unless_removed: bool,
    /// HAProxy gets it too.
    pub apply: bool,
}

/// What `remove-host` removes.
#[derive(Debug, PartialEq)]
pub struct RemoveHost {
    /// A server's name, an address, or an address with a port.
    pub wanted: String,
    /// HAProxy loses it too.
    pub apply: bool,
    /// Even the last one that is up.
    pub force: bool,
}

/// What `generate` does with what it rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generate {
    Install,
    Stdout,
    Diff,
    /// Only look whether it would pass.
    Check,
}

/// How `status` shows what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Text,
    Json,
    Prometheus,
    Watch,
}

/// `scale-up` or `scale-down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub up: bool,
    pub dry_run: bool,
    /// For cooldown and lease.
    pub wait: bool,
    /// Pass over cooldowns.
    pub force: bool,
    pub count: u32,
}

/// What `prune` may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prune {
    pub apply: bool,
    /// Only print.
    pub dry_run: bool,
    /// More than half of the entries, if need be.
    pub force: bool,
}

/// A parsed command line.
#[derive(Debug, PartialEq)]
pub struct Invocation {
    pub config: PathBuf,
    pub level: Level,
    pub command: Command,
}

/// Reads the arguments, the program's name left out. `config` is `$AUTOSCALER_CONFIG`.
///
/// # Errors
/// Usage, with the next step.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    config: Option<OsString>,
) -> Result<Invocation, Error> {
    let mut reader = Reader {
        parser: lexopt::Parser::from_args(arguments),
        config: config
            .filter(|c| !c.is_empty())
            .unwrap_or_else(|| DEFAULT_INI.into())
            .into(),
        level: Level::Normal,
        command: "autoscaler".into(),
        options: Vec::new(),
        given: Vec::new(),
        words: Vec::new(),
        print: None,
    };
    let command = reader.command()?;
    let Reader { config, level, .. } = reader;
    Ok(Invocation {
        config,
        level,
        command,
    })
}

struct Reader {
    parser: lexopt::Parser,
    config: PathBuf,
    level: Level,
    /// For errors: what the next step's `--help` belongs to.
    command: String,
    /// The long options that may come, and whether each takes a value.
    options: Vec<(&'static str, bool)>,
    /// Those that came, with their values.
    given: Vec<(&'static str, Option<String>)>,
    /// The words that came after the command's name.
    words: Vec<String>,
    print: Option<Print>,
}

/// What is printed whatever else is asked for.
enum Print {
    Help,
    Version,
}

impl Reader {
    fn command(&mut self) -> Result<Command, Error> {
        let name = self.argument()?;
        let topic = name.map(|name| self.topic(name)).transpose()?;
        while let Some(word) = self.argument()? {
            self.words.push(word);
        }
        match (&self.print, topic) {
            (Some(Print::Version), _) => Ok(Command::Print(format!(
                "autoscaler {}\n",
                env!("CARGO_PKG_VERSION")
            ))),
            (Some(Print::Help), Some(topic)) => Ok(Command::Print(topic.text())),
            (Some(Print::Help), None) => Ok(Command::Print(help::overview())),
            (None, Some(topic)) => self.arguments_of(topic.name),
            (None, None) => Err(Error::usage("command line", "no command; see autoscaler --help")),
        }
    }

    /// The command called `name`, whose options may follow.
    fn topic(&mut self, name: String) -> Result<&'static help::Topic, Error> {
        let Some(topic) = help::topic(&name) else {
            let hint = did_you_mean(&name, help::TOPICS.iter().map(|t| t.name));
            return Err(Error::usage(
                name,
                format!("unknown command{hint} (see autoscaler --help)"),
            ));
        };
        self.command = format!("autoscaler {name}");
        self.options = topic.options().collect();
        Ok(topic)
    }

    fn arguments_of(&self, name: &str) -> Result<Command, Error> {
        Ok(match name {
            "add-host" => {
                let words = self.words(&["host", "port"])?;
                let (name, instance) = (self.value("name"), self.value("id"));
                if let Some(name) = &name {
                    entry::check_name(name).map_err(|e| Error::usage(format!("--name {name:?}"), e))?;
                }
                if let Some(id) = &instance {
                    entry::check_instance(id).map_err(|e| Error::usage("--id", e))?;
                }
                Command::AddHost(AddHost {
                    host: words[0].clone(),
                    port: entry::parse_port(&words[1]).map_err(|e| Error::usage("port", e))?,
                    name,
                    instance,
                    unless_removed: self.has("unless-removed"),
                    apply: self.has("apply"),
                })
            }
            "remove-host" => Command::RemoveHost(RemoveHost {
                wanted: self.words(&["name|host[:port]"])?[0].clone(),
                apply: self.has("apply"),
                force: self.has("force"),
            }),
            "generate" => {
                self.words(&[])?;
                Command::Generate(match ["stdout", "diff", "check"].map(|name| self.has(name)) {
                    [false, false, false] => Generate::Install,
                    [true, false, false] => Generate::Stdout,
                    [false, true, false] => Generate::Diff,
                    [false, false, true] => Generate::Check,
                    _ => return Err(self.usage("--stdout, --diff and --check exclude each other")),
                })
            }
            "status" => {
                self.words(&[])?;
                Command::Status(match ["json", "prometheus", "watch"].map(|name| self.has(name)) {
                    [false, false, false] => Status::Text,
                    [true, false, false] => Status::Json,
                    [false, true, false] => Status::Prometheus,
                    [false, false, true] => Status::Watch,
                    _ => return Err(self.usage("--json, --prometheus and --watch exclude each other")),
                })
            }
            "scale-up" | "scale-down" => {
                self.words(&[])?;
                let count = self.value("count").unwrap_or_else(|| "1".into());
                let wrong = || Error::usage("--count", format!("`{count}` is no number from 1 on"));
                Command::Scale(Scale {
                    up: name == "scale-up",
                    dry_run: self.has("dry-run"),
                    wait: self.has("wait"),
                    force: self.has("force"),
                    count: count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?,
                })
            }
            "replace" => {
                let names = self.words.clone();
                let (all, not_image) = (self.has("all"), self.value("not-image"));
                Command::Replace(match (names.is_empty(), all, not_image) {
                    (false, false, None) => Whom::These(names),
                    (true, true, None) => Whom::All,
                    (true, false, Some(image)) => Whom::NotImage(image),
                    _ => {
                        return Err(Error::usage(
                            "replace",
                            "takes names, or --all, or --not-image AMI; see autoscaler replace --help",
                        ));
                    }
                })
            }
            "set" => {
                let words = self.words(&["KEY", "VALUE"])?;
                Command::Set {
                    key: words[0].clone(),
                    value: words[1].clone(),
                }
            }
            "simulate" => self.simulate()?,
            other => {
                self.words(&[])?;
                match other {
                    "init" => Command::Init,
                    "list-hosts" => Command::ListHosts {
                        state: self.has("state"),
                    },
                    "check" => {
                        let host = self.value("host");
                        if let Some(host) = &host {
                            entry::check_host(host).map_err(|e| Error::usage("--host", e))?;
                        }
                        Command::Check { host }
                    }
                    "prune" => Command::Prune(Prune {
                        apply: self.has("apply"),
                        dry_run: self.has("dry-run"),
                        force: self.has("force"),
                    }),
                    "master" => Command::Master,
                    "daemon" => Command::Daemon,
                    "ssh-gate" => Command::SshGate,
                    _ => unreachable!("every topic of help is a command"),
                }
            }
        })
    }

    /// Was this option given?
    fn has(&self, option: &str) -> bool {
        debug_assert!(self.options.contains(&(option, false)));
        self.given.iter().any(|(name, _)| *name == option)
    }

    /// The value of this option, the last one where there are several.
    fn value(&self, option: &str) -> Option<String> {
        let given = self.given.iter().rfind(|(name, _)| *name == option)?;
        given.1.clone()
    }

    /// Exactly the words that a command takes.
    fn words(&self, names: &[&str]) -> Result<&[String], Error> {
        let words = &self.words;
        if words.len() == names.len() {
            return Ok(words);
        }
        Err(self.usage(match names.get(words.len()) {
            Some(missing) => format!("<{missing}> is missing"),
            None => format!(
                "`{}` is one argument too many",
                words[names.len()].escape_default()
            ),
        }))
    }

    /// The next word; options before it are taken on the way.
    fn argument(&mut self) -> Result<Option<String>, Error> {
        loop {
            let argument = match self.parser.next() {
                Ok(Some(argument)) => argument,
                Ok(None) => return Ok(None),
                Err(e) => return Err(self.usage(e)),
            };
            match argument {
                Value(word) => {
                    let word = word.into_string();
                    return word.map(Some).map_err(|_| self.usage("an argument is not UTF-8"));
                }
                Short('h') | Long("help") => self.print = Some(Print::Help),
                Short('V') | Long("version") => self.print = Some(Print::Version),
                Short('v') | Long("verbose") => self.level = Level::Verbose,
                Short('q') | Long("quiet") => self.level = Level::Quiet,
                Short('c') | Long("config") => match self.parser.value() {
                    Ok(file) => self.config = file.into(),
                    Err(e) => return Err(self.usage(e)),
                },
                other => {
                    let known = self.options.iter().find(|(name, _)| other == Long(name));
                    let Some(&(name, takes_value)) = known else {
                        let error = other.unexpected();
                        return Err(self.usage(error));
                    };
                    let value = takes_value.then(|| self.parser.value().and_then(|v| v.string()));
                    let value = value.transpose().map_err(|e| self.usage(e))?;
                    self.given.push((name, value));
                }
            }
        }
    }

    fn usage(&self, cause: impl std::fmt::Display) -> Error {
        Error::usage(&self.command, format!("{cause}; see {} --help", self.command))
    }
}
