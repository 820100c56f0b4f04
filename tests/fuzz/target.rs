//! One fuzz target, named after the binary. From the repository:
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz protocol -- tests/corpus/protocol`

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/aws_cli/mod.rs"]
mod aws_cli;
#[path = "../../src/config/mod.rs"]
mod config;
#[path = "../../src/core/mod.rs"]
mod core;
#[path = "../../src/ec2/mod.rs"]
mod ec2;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/fuzz.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run(env!("CARGO_BIN_NAME"), data));
