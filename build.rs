//! Leaves the unwind tables out of a release, a tenth of its size, for there a panic aborts. Test
//! builds keep them, as the test harness catches panics.

use std::env::var;
use std::fs;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // The C start files refer to their own unwind tables, so those stay.
    let text = "SECTIONS {
        /DISCARD/ : {
            *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
            *(.gcc_except_table .gcc_except_table.*)
        }
    }
    INSERT AFTER .rodata;";
    let script = var("OUT_DIR").expect("cargo sets it") + "/discard.ld";
    fs::write(&script, text).expect("cargo made the directory");
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
}
