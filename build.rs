//! Links the release without unwind tables, a tenth of its size: there a panic aborts. Test
//! builds keep them, as the test harness catches panics.

use std::env::var;

/// The C start files refer to their own tables, so those stay.
const SCRIPT: &str = "SECTIONS {
    /DISCARD/ : {
        *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
        *(.gcc_except_table .gcc_except_table.*)
    }
}
INSERT AFTER .rodata;
";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if var("PROFILE").as_deref() == Ok("release") {
        let script = var("OUT_DIR").expect("cargo sets it") + "/no-unwind-tables.ld";
        std::fs::write(&script, SCRIPT).expect("cargo made the directory");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
    }
}
