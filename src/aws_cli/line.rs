//! Words → which operation they ask for, and the global options, which may stand anywhere
//! (AWS CLI User Guide, "Command line options"). The AWS CLI takes these out first: a prefix such as
//! `--reg` means a global option if it can.

use super::options::{Reading, arity, read};
use super::shapes::{OPERATIONS, Operation};

/// A command line that names an operation of ours.
pub struct Line {
    pub operation: &'static Operation,
    /// The variables that a shell would set for it.
    pub variables: Vec<(String, String)>,
    pub globals: Globals,
    /// All but the global options and the names of service and operation.
    pub words: Vec<String>,
}

/// The global options that matter to a request.
#[derive(Default)]
pub struct Globals {
    pub region: Option<String>,
    pub profile: Option<String>,
    pub endpoint_url: Option<String>,
    pub ca_bundle: Option<String>,
    /// The first global option that is refused, and why.
    pub problem: Option<String>,
}

#[derive(Clone, Copy)]
enum Global {
    /// Where its value is kept.
    Kept(fn(&mut Globals) -> &mut Option<String>),
    /// About what the AWS CLI prints or how long it waits; with a value.
    Ignored,
    IgnoredFlag,
    /// Why it is refused.
    Refused(&'static str),
}

const GLOBALS: [(&str, Global); 20] = [
    ("--region", Global::Kept(|globals| &mut globals.region)),
    ("--profile", Global::Kept(|globals| &mut globals.profile)),
    (
        "--endpoint-url",
        Global::Kept(|globals| &mut globals.endpoint_url),
    ),
    ("--ca-bundle", Global::Kept(|globals| &mut globals.ca_bundle)),
    ("--output", Global::Ignored),
    ("--query", Global::Ignored),
    ("--color", Global::Ignored),
    ("--cli-connect-timeout", Global::Ignored),
    ("--cli-read-timeout", Global::Ignored),
    // Of version 2. None of our parameters is of the type that it is about.
    ("--cli-binary-format", Global::Ignored),
    ("--cli-error-format", Global::Ignored),
    ("--cli-auto-prompt", Global::IgnoredFlag),
    ("--debug", Global::IgnoredFlag),
    ("--v2-debug", Global::IgnoredFlag),
    ("--no-paginate", Global::IgnoredFlag),
    ("--no-cli-pager", Global::IgnoredFlag),
    ("--no-cli-auto-prompt", Global::IgnoredFlag),
    (
        "--no-verify-ssl",
        Global::Refused("autoscaler always verifies; name the CA with --ca-bundle"),
    ),
    (
        "--no-sign-request",
        Global::Refused("EC2 takes signed requests only"),
    ),
    ("--version", Global::Refused("is not a request")),
];

/// Finds the operation in a split command. None: it isn't `aws` with an operation of ours.
pub fn recognise(words: &[String]) -> Option<Line> {
    let (variables, words) = variables(words);
    let (program, words) = words.split_first()?;
    if !is_aws(program) {
        return None;
    }
    let (globals, mut words) = take_globals(words);
    let service = take_operand(&mut words)?;
    let command = take_operand(&mut words)?;
    let operation = OPERATIONS
        .iter()
        .find(|known| known.service_word == service && known.command_word == command)?;
    Some(Line {
        operation,
        variables,
        globals,
        words,
    })
}

/// Is it the AWS CLI's name, with or without a path?
pub fn is_aws(program: &str) -> bool {
    program == "aws" || program.ends_with("/aws")
}

/// Splits off the assignments in front (POSIX Shell Command Language, 2.9.1).
pub fn variables(words: &[String]) -> (Vec<(String, String)>, &[String]) {
    let assignment = |word: &String| {
        let (name, value) = word.split_once('=')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = name.starts_with(|c: char| !c.is_ascii_digit()) && name.chars().all(plain);
        named.then(|| (name.to_string(), value.to_string()))
    };
    let found: Vec<_> = words.iter().map_while(assignment).collect();
    let count = found.len();
    (found, &words[count..])
}

/// Splits off the global options. A problem is only noted, for it is one only if the command is ours.
fn take_globals(words: &[String]) -> (Globals, Vec<String>) {
    let names = GLOBALS.map(|(name, _)| name);
    let mut globals = Globals::default();
    let mut rest = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let (index, inline) = match read(word, &names) {
            Ok(Reading::Known(index, inline)) => (index, inline),
            Ok(Reading::Operand | Reading::Unknown) => {
                rest.push(word.clone());
                continue;
            }
            Err(problem) => {
                globals.problem.get_or_insert(problem);
                rest.push(word.clone());
                continue;
            }
        };
        let (name, global) = GLOBALS[index];
        let flag = matches!(global, Global::IgnoredFlag | Global::Refused(_));
        let value = match inline {
            Some(value) => Some(value.to_string()),
            None if flag => None,
            None => words
                .next_if(|word| matches!(read(word, &names), Ok(Reading::Operand)))
                .cloned(),
        };
        match (global, value) {
            (Global::Refused(reason), _) => {
                globals.problem.get_or_insert(format!("{name}: {reason}"));
            }
            (Global::IgnoredFlag, None) | (Global::Ignored, Some(_)) => {}
            (Global::Kept(of), Some(value)) => *of(&mut globals) = Some(value),
            (_, value) => {
                globals.problem.get_or_insert(arity(name, value.is_some()));
            }
        }
    }
    (globals, rest)
}

/// Takes out the first word that is not an option: the service, then the operation.
fn take_operand(words: &mut Vec<String>) -> Option<String> {
    let is_operand = |word: &String| matches!(read(word, &[]), Ok(Reading::Operand));
    let at = words.iter().position(is_operand)?;
    Some(words.remove(at))
}
