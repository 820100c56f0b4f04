//! Lays the release out: without unwind tables, a tenth of its size, for there a panic aborts; and
//! with the functions side by side that a daemon has run when it comes to rest (`resident.order`). The
//! kernel maps 16 pages of a program around each one that is touched, so functions that lie here and
//! there would make nearly all of it resident. Test builds stay as they are, as the test harness
//! catches panics.

use std::env::var;
use std::fs;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=resident.order");
    if var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let order = fs::read_to_string("resident.order").expect("it lies beside build.rs");
    let functions = order.lines().filter(|line| !line.starts_with('#'));
    let resident: String = functions
        .map(|name| format!("*(.text.{name} .text.{name}.*)\n"))
        .collect();
    // The C start files refer to their own unwind tables, so those stay.
    let text = format!(
        "SECTIONS {{
            /DISCARD/ : {{
                *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
                *(.gcc_except_table .gcc_except_table.*)
            }}
        }}
        INSERT AFTER .rodata;
        SECTIONS {{ .text.resident : {{ {resident} }} }}
        INSERT AFTER .text;"
    );
    let script = var("OUT_DIR").expect("cargo sets it") + "/layout.ld";
    fs::write(&script, text).expect("cargo made the directory");
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
}
