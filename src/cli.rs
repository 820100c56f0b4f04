//! The command line: arguments in, [`Command`] out.

mod simulate;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::core::haproxy::entry;
use crate::core::plan::Whom;
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
    AddHost {
        host: String,
        port: u16,
        name: Option<String>,
        instance: Option<String>,
        unless_removed: bool,
        apply: bool,
    },
    ListHosts {
        state: bool,
    },
    RemoveHost {
        host: String,
        apply: bool,
        force: bool,
    },
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
        help: false,
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
    help: bool,
}

impl Reader {
    fn command(&mut self) -> Result<Command, Error> {
        let Some(name) = self.argument(&mut [])? else {
            return match self.help {
                true => Ok(Command::Print(help::overview())),
                false => Err(Error::usage("command line", "no command; see autoscaler --help")),
            };
        };
        if name == "\0version" {
            return Ok(Command::Print(format!(
                "autoscaler {}\n",
                env!("CARGO_PKG_VERSION")
            )));
        }
        let Some(topic) = help::topic(&name) else {
            let hint = did_you_mean(&name, help::TOPICS.iter().map(|t| t.name));
            return Err(Error::usage(
                name,
                format!("unknown command{hint} (see autoscaler --help)"),
            ));
        };
        self.command = format!("autoscaler {name}");
        let command = self.arguments_of(topic.name)?;
        Ok(if self.help {
            Command::Print(topic.text())
        } else {
            command
        })
    }

    fn arguments_of(&mut self, name: &str) -> Result<Command, Error> {
        Ok(match name {
            "add-host" => {
                let mut options = [
                    Opt::value("name"),
                    Opt::value("id"),
                    Opt::flag("unless-removed"),
                    Opt::flag("apply"),
                ];
                let words = self.words(&["host", "port"], &mut options)?;
                let [name, id, unless_removed, apply] = options;
                if self.help {
                    return Ok(Command::Init);
                }
                if let Some(name) = &name.value {
                    entry::check_name(name).map_err(|e| Error::usage(format!("--name {name:?}"), e))?;
                }
                if let Some(id) = &id.value {
                    entry::check_instance(id).map_err(|e| Error::usage("--id", e))?;
                }
                Command::AddHost {
                    host: words[0].clone(),
                    port: entry::parse_port(&words[1]).map_err(|e| Error::usage("port", e))?,
                    name: name.value,
                    instance: id.value,
                    unless_removed: unless_removed.given,
                    apply: apply.given,
                }
            }
            "remove-host" => {
                let mut options = [Opt::flag("apply"), Opt::flag("force")];
                let words = self.words(&["name|host[:port]"], &mut options)?;
                let host = words.first().cloned().unwrap_or_default();
                let [apply, force] = options.map(|o| o.given);
                Command::RemoveHost { host, apply, force }
            }
            "list-hosts" => {
                let mut options = [Opt::flag("state")];
                self.words(&[], &mut options)?;
                Command::ListHosts {
                    state: options[0].given,
                }
            }
            "generate" => {
                let mut options = [Opt::flag("stdout"), Opt::flag("diff"), Opt::flag("check")];
                self.words(&[], &mut options)?;
                Command::Generate(match options.map(|o| o.given) {
                    [false, false, false] => Generate::Install,
                    [true, false, false] => Generate::Stdout,
                    [false, true, false] => Generate::Diff,
                    [false, false, true] => Generate::Check,
                    _ => return Err(self.usage("--stdout, --diff and --check exclude each other")),
                })
            }
            "status" => {
                let mut options = [Opt::flag("json"), Opt::flag("prometheus"), Opt::flag("watch")];
                self.words(&[], &mut options)?;
                Command::Status(match options.map(|o| o.given) {
                    [false, false, false] => Status::Text,
                    [true, false, false] => Status::Json,
                    [false, true, false] => Status::Prometheus,
                    [false, false, true] => Status::Watch,
                    _ => return Err(self.usage("--json, --prometheus and --watch exclude each other")),
                })
            }
            "check" => {
                let mut options = [Opt::value("host")];
                self.words(&[], &mut options)?;
                let [host] = options;
                if let Some(host) = &host.value {
                    entry::check_host(host).map_err(|e| Error::usage("--host", e))?;
                }
                Command::Check { host: host.value }
            }
            "prune" => {
                let mut options = [Opt::flag("apply"), Opt::flag("dry-run"), Opt::flag("force")];
                self.words(&[], &mut options)?;
                let [apply, dry_run, force] = options.map(|o| o.given);
                Command::Prune(Prune {
                    apply,
                    dry_run,
                    force,
                })
            }
            "scale-up" | "scale-down" => {
                let up = name == "scale-up";
                let mut options = vec![Opt::flag("dry-run"), Opt::flag("wait"), Opt::flag("force")];
                if up {
                    options.push(Opt::value("count"));
                }
                self.words(&[], &mut options)?;
                let count = match options.get(3).and_then(|count| count.value.as_deref()) {
                    None => 1,
                    Some(text) => match text.parse() {
                        Ok(count @ 1..) => count,
                        _ => {
                            return Err(Error::usage(
                                "--count",
                                format!("`{text}` is no number from 1 on"),
                            ));
                        }
                    },
                };
                Command::Scale(Scale {
                    up,
                    dry_run: options[0].given,
                    wait: options[1].given,
                    force: options[2].given,
                    count,
                })
            }
            "replace" => {
                let mut options = [Opt::flag("all"), Opt::value("not-image")];
                let mut names = Vec::new();
                while let Some(word) = self.argument(&mut options)? {
                    names.push(word);
                }
                let [all, not_image] = options;
                Command::Replace(match (names.is_empty(), all.given, not_image.value) {
                    (false, false, None) => Whom::These(names),
                    (true, true, None) => Whom::All,
                    (true, false, Some(image)) => Whom::NotImage(image),
                    _ if self.help => Whom::All,
                    _ => {
                        return Err(Error::usage(
                            "replace",
                            "takes names, or --all, or --not-image AMI; see autoscaler replace --help",
                        ));
                    }
                })
            }
            "set" => {
                let mut words = self.words(&["KEY", "VALUE"], &mut [])?.into_iter();
                Command::Set {
                    key: words.next().unwrap_or_default(),
                    value: words.next().unwrap_or_default(),
                }
            }
            "simulate" => self.simulate()?,
            other => {
                self.words(&[], &mut [])?;
                match other {
                    "init" => Command::Init,
                    "master" => Command::Master,
                    "daemon" => Command::Daemon,
                    "ssh-gate" => Command::SshGate,
                    _ => unreachable!("every topic of help is a command"),
                }
            }
        })
    }

    /// Exactly the words that a command takes, and its options.
    fn words(&mut self, names: &[&str], options: &mut [Opt]) -> Result<Vec<String>, Error> {
        let mut words = Vec::new();
        while let Some(word) = self.argument(options)? {
            words.push(word);
        }
        if self.help || words.len() == names.len() {
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
    fn argument(&mut self, options: &mut [Opt]) -> Result<Option<String>, Error> {
        loop {
            let argument = match self.parser.next() {
                Ok(Some(argument)) => argument,
                Ok(None) => return Ok(None),
                Err(e) => return Err(self.usage(e)),
            };
            match argument {
                Value(word) => {
                    let word = word
                        .into_string()
                        .map_err(|_| self.usage("an argument is not UTF-8"))?;
                    return Ok(Some(word));
                }
                Short('h') | Long("help") => self.help = true,
                Short('V') | Long("version") => return Ok(Some("\0version".into())),
                Short('v') | Long("verbose") => self.level = Level::Verbose,
                Short('q') | Long("quiet") => self.level = Level::Quiet,
                Short('c') | Long("config") => match self.parser.value() {
                    Ok(file) => self.config = file.into(),
                    Err(e) => return Err(self.usage(e)),
                },
                Long(name) if options.iter().any(|o| o.name == name) => {
                    let option = options.iter_mut().find(|o| o.name == name).expect("just found");
                    option.given = true;
                    if option.takes_value {
                        match self.parser.value().and_then(|v| v.string()) {
                            Ok(value) => option.value = Some(value),
                            Err(e) => return Err(Error::usage(&self.command, e)),
                        }
                    }
                }
                other => {
                    let error = other.unexpected();
                    return Err(self.usage(error));
                }
            }
        }
    }

    fn usage(&self, cause: impl std::fmt::Display) -> Error {
        Error::usage(&self.command, format!("{cause}; see {} --help", self.command))
    }
}

/// One long option of a command.
#[derive(Clone)]
struct Opt {
    name: &'static str,
    takes_value: bool,
    given: bool,
    value: Option<String>,
}

impl Opt {
    fn flag(name: &'static str) -> Opt {
        Opt {
            name,
            takes_value: false,
            given: false,
            value: None,
        }
    }

    fn value(name: &'static str) -> Opt {
        Opt {
            takes_value: true,
            ..Opt::flag(name)
        }
    }
}
