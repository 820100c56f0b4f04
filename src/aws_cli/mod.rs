//! Reads an `aws ec2 run-instances …` command line as the AWS CLI (version 1) reads it, and says which
//! EC2 Query request the AWS CLI would send, so that autoscaler can send it itself.
//!
//! A command goes through these files in turn:
//! `words` (shell words) → `line` (operation, global options) → `options` (names of options, their words) →
//! `input` (words → `Value`, by way of `shorthand` and `json`) → `parameters` and `interface` (what the AWS CLI
//! rearranges) → `wire` (their names) → `request`. `shapes` is the table that all of them read.
//! What is not supported is refused by name; nothing is dropped.
//!
//! Nothing in here opens a file: `parse` is given a reader.

mod input;
mod interface;
mod kind;
mod line;
mod options;
mod parameters;
mod request;
mod shapes;
mod shorthand;
mod wire;
mod words;

pub use kind::{Kind, kind};
pub use request::Request;
pub use words::split;

/// Reads a command whose [`Kind`] is `Native`, into the request that the AWS CLI would send.
/// `read` reads the file of a `file://PATH` or `fileb://PATH` value; a path in the home directory comes to
/// it with its `~/`.
/// Err is one line that names the option.
pub fn parse(command: &str, read: &dyn Fn(&str) -> std::io::Result<Vec<u8>>) -> Result<Request, String> {
    let words = split(command)?;
    let Some(line) = line::recognise(&words) else {
        return Err("not an `aws` command that autoscaler carries out itself".to_string());
    };
    let (globals, variables) = (line.globals, line.variables);
    if let Some(problem) = globals.problem {
        return Err(problem);
    }
    let options = options::options(line.operation);
    let given = options::collect(&line.words, &options)?;
    let bounded = given.iter().any(|given| {
        matches!(options[given.option].meaning, options::Meaning::Count) && given.values[0].contains(':')
    });
    let mut request = Request {
        service: line.operation.service,
        action: line.operation.action,
        params: parameters::params(line.operation, given, &options, read)?,
        region: globals.region,
        profile: globals.profile,
        endpoint_url: globals.endpoint_url,
        ca_bundle: globals.ca_bundle,
        variables,
        most: None,
    };
    if request.action == "RunInstances" {
        request.most = request::most(request.count(), bounded)?;
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
