//! The set-up's downloads resume, and what they fetch is what was meant.

use std::path::Path;
use std::process::Command;

#[test]
fn downloads_resume_and_are_verified() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/setup/test_wheels.py");
    let output = Command::new("python3").arg("-B").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
